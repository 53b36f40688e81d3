//! What a proxy does not run although it should: resources that it refused, with the policies behind them, and parts
//! of policies that could not take effect on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use kds_proto::mesh::ConfigurationProblem;
use model::{Key, Kri};
use proxy_config::Note;

use super::session::Refused;

/// Problems that are told of one proxy: enough to see what they have in common.
const MAX_TOLD: usize = 20;

/// Bytes of a reason that are told: Envoy's can hold whole resources.
const MAX_REASON: usize = 1000;

/// Something that a proxy does not run although it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Type URL of the resource that it refused; empty for a part of a policy.
    pub type_url: String,
    /// Name of the resource, or path of the part.
    pub resource: String,
    /// Why, in the words of who refused it.
    pub reason: String,
    /// The policies behind it, the most recently changed first; none where none is.
    pub policies: Vec<Kri>,
}

impl Problem {
    fn to_proto(&self) -> ConfigurationProblem {
        ConfigurationProblem {
            type_url: self.type_url.clone(),
            resource: self.resource.clone(),
            reason: self.reason.clone(),
            policies: self.policies.iter().map(ToString::to_string).collect(),
        }
    }

    fn log(&self, dataplane: &Key) {
        let policies: Vec<_> = self.policies.iter().map(ToString::to_string).collect();
        let Self { type_url, resource, reason, .. } = self;
        if type_url.is_empty() {
            tracing::warn!(%dataplane, part = resource, reason, ?policies, "a part of a policy cannot take effect on a proxy");
        } else {
            let kind = type_url.rsplit('.').next().unwrap_or(type_url);
            tracing::warn!(%dataplane, kind, resource, reason, ?policies, "a proxy refused a resource and goes on with the version before");
        }
    }
}

/// The problems of one proxy.
#[derive(Debug, Default)]
pub(super) struct Problems {
    /// By type and name.
    refused: BTreeMap<(String, Arc<str>), (Refused, Problem)>,
    unapplied: Vec<Problem>,
}

impl Problems {
    /// Whether these are the refusals that are known.
    pub(super) fn knows<'a>(
        &self,
        refusals: impl Iterator<Item = (&'a str, &'a Arc<str>, &'a Refused)>,
    ) -> bool {
        let known = self.refused.iter().map(|((kind, name), (refused, _))| (kind.as_str(), name, refused));
        let (mut now, mut before): (Vec<_>, Vec<_>) = (refusals.collect(), known.collect());
        now.sort_by_key(|(kind, name, _)| (*kind, Arc::clone(name)));
        before.sort_by_key(|(kind, name, _)| (*kind, Arc::clone(name)));
        now == before
    }

    /// Takes over what a proxy refuses now. `policies` finds those behind a resource that was not refused before.
    /// Answers whether something is new.
    pub(super) fn refused<'a>(
        &mut self,
        dataplane: &Key,
        refusals: impl Iterator<Item = (&'a str, &'a Arc<str>, &'a Refused)>,
        mut policies: impl FnMut(&str, &str) -> Vec<Kri>,
    ) -> bool {
        let mut before = std::mem::take(&mut self.refused);
        let mut is_new = false;
        for (type_url, name, refused) in refusals {
            let key = (type_url.to_owned(), Arc::clone(name));
            let known = before.remove(&key).filter(|(known, _)| known == refused);
            let problem = known.map(|(_, problem)| problem).unwrap_or_else(|| {
                is_new = true;
                let problem = Problem {
                    type_url: type_url.to_owned(),
                    resource: name.to_string(),
                    reason: cut(&refused.reason),
                    policies: policies(type_url, name),
                };
                problem.log(dataplane);
                problem
            });
            self.refused.insert(key, (refused.clone(), problem));
        }
        is_new || !before.is_empty()
    }

    /// Takes over which parts of policies could not take effect. Answers whether something is new.
    pub(super) fn unapplied(&mut self, dataplane: &Key, notes: &[Note]) -> bool {
        let failed = notes.iter().filter(|note| note.failed);
        let unapplied: Vec<_> = failed
            .map(|note| Problem {
                type_url: String::new(),
                resource: note.path.clone(),
                reason: cut(&note.reason),
                policies: vec![note.policy.clone()],
            })
            .collect();
        for problem in unapplied.iter().filter(|problem| !self.unapplied.contains(problem)) {
            problem.log(dataplane);
        }
        let before = std::mem::replace(&mut self.unapplied, unapplied);
        before != self.unapplied
    }

    /// All of them.
    pub(super) fn list(&self) -> Vec<Problem> {
        let refused = self.refused.values().map(|(_, problem)| problem);
        refused.chain(&self.unapplied).cloned().collect()
    }

    /// As much as an insight tells.
    pub(super) fn told(&self) -> Vec<ConfigurationProblem> {
        let refused = self.refused.values().map(|(_, problem)| problem);
        refused.chain(&self.unapplied).take(MAX_TOLD).map(Problem::to_proto).collect()
    }

    /// How many resources are refused, and how many parts of policies took no effect.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.refused.len(), self.unapplied.len())
    }
}

fn cut(reason: &str) -> String {
    let end = (0..=MAX_REASON.min(reason.len())).rev().find(|at| reason.is_char_boundary(*at));
    match reason.get(..end.unwrap_or(0)) {
        Some(cut) if cut.len() < reason.len() => format!("{cut}…"),
        _ => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use model::Kind;
    use proxy_config::Version;

    use super::*;

    fn key() -> Key {
        Key::new(Kind::DATAPLANE, "default", "web")
    }

    fn refused(version: u64, reason: &str) -> Refused {
        Refused { version: Some(Version(version)), reason: reason.into() }
    }

    fn kri() -> Kri {
        Kri::parse("kri_mpp_default_east__p_").unwrap()
    }

    #[test]
    fn policies_are_looked_for_once_per_refusal() {
        let mut problems = Problems::default();
        let mut asked = Vec::new();
        let mut take = |now: &[(&str, &str, Refused)]| {
            let names: Vec<(&str, Arc<str>, &Refused)> =
                now.iter().map(|(kind, name, refused)| (*kind, Arc::from(*name), refused)).collect();
            let refusals = names.iter().map(|(kind, name, refused)| (*kind, name, *refused));
            problems.refused(&key(), refusals, |_, name| {
                asked.push(name.to_owned());
                vec![kri()]
            })
        };
        assert!(take(&[("t", "a", refused(1, "x"))]));
        assert!(!take(&[("t", "a", refused(1, "x"))]));
        assert!(take(&[("t", "a", refused(2, "x")), ("t", "b", refused(1, "y"))]));
        assert!(take(&[("t", "b", refused(1, "y"))]));
        assert_eq!(asked, ["a", "a", "b"]);
        let told = problems.told();
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].resource.as_str(), told[0].reason.as_str()), ("b", "y"));
        assert_eq!(told[0].policies, ["kri_mpp_default_east__p_"]);
    }

    #[test]
    fn parts_that_happen_to_match_nothing_are_no_problem() {
        let mut problems = Problems::default();
        let note = |failed| Note { policy: kri(), path: "spec".into(), reason: "why".into(), failed };
        assert!(!problems.unapplied(&key(), &[note(false)]));
        assert!(problems.unapplied(&key(), &[note(true), note(false)]));
        assert!(!problems.unapplied(&key(), &[note(true)]));
        assert_eq!(problems.counts(), (0, 1));
    }

    #[test]
    fn reasons_are_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        let long = cut(&"ä".repeat(MAX_REASON));
        assert_eq!(long.chars().count(), MAX_REASON / 2 + 1);
    }
}
