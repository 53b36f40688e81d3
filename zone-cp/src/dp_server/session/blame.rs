//! Which resources of a response Envoy refused, as far as its words tell.

use std::collections::BTreeMap;
use std::sync::Arc;

/// How Envoy begins when it took the other resources of the response (`lds_api.cc`, `cds_api_helper.cc`).
const ONE_BY_ONE: [&str; 2] = ["Error adding/updating listener(s) ", "Error adding/updating cluster(s) "];

/// What stands between two of its reasons.
const BETWEEN: [&str; 2] = ["\n", ", "];

/// What a refusal tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// These were refused, each for its reason; the others were taken.
    Named(BTreeMap<Arc<str>, String>),
    /// The response was refused as a whole.
    All {
        /// The only resource that the words name.
        suspect: Option<Arc<str>>,
    },
}

/// Reads the words of a refusal of a response with these resources.
pub(super) fn of<'a>(message: &str, names: impl Iterator<Item = &'a Arc<str>> + Clone) -> Blame {
    if let Some(reasons) = ONE_BY_ONE.iter().find_map(|form| message.strip_prefix(form)) {
        let named = named(reasons, names.clone());
        if !named.is_empty() {
            return Blame::Named(named);
        }
    }
    let mut mentioned = names.filter(|name| message.contains(&format!("{:?}", &***name)));
    let suspect = mentioned.next().cloned();
    Blame::All { suspect: suspect.filter(|_| mentioned.next().is_none()) }
}

/// The reasons in `name: reason, name: reason`.
fn named<'a>(reasons: &str, names: impl Iterator<Item = &'a Arc<str>>) -> BTreeMap<Arc<str>, String> {
    let starts = names.filter_map(|name| Some((start(reasons, name)?, name)));
    let starts: BTreeMap<usize, &Arc<str>> = starts.collect();
    let ends = starts.keys().skip(1).copied().chain([reasons.len()]);
    let reason = |(start, name): (&usize, &&Arc<str>), end: usize| {
        let text = reasons.get(start + name.len() + 1..end).unwrap_or_default();
        let text = BETWEEN.iter().fold(text, |text, between| text.strip_suffix(between).unwrap_or(text));
        (Arc::clone(name), text.trim().to_owned())
    };
    starts.iter().zip(ends).map(|(entry, end)| reason(entry, end)).collect()
}

/// Where the reason of a name begins.
fn start(reasons: &str, name: &str) -> Option<usize> {
    let wanted = format!("{name}: ");
    let mut places = reasons.match_indices(&wanted).map(|(at, _)| at);
    places.find(|at| {
        let before = reasons.get(..*at).unwrap_or_default();
        before.is_empty() || BETWEEN.iter().any(|between| before.ends_with(between))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blame(message: &str, names: &[&str]) -> Blame {
        let names: Vec<Arc<str>> = names.iter().map(|name| (*name).into()).collect();
        of(message, names.iter())
    }

    fn named(reasons: &[(&str, &str)]) -> Blame {
        Blame::Named(reasons.iter().map(|(name, reason)| ((*name).into(), (*reason).to_owned())).collect())
    }

    #[test]
    fn each_named_resource_has_its_reason() {
        let message = "Error adding/updating listener(s) b: no filter: x\nlong: cannot bind\n";
        let expected = named(&[("b", "no filter: x"), ("long", "cannot bind")]);
        assert_eq!(blame(message, &["a", "b", "long", "ng"]), expected);
        let message = "Error adding/updating cluster(s) a: bad b: c, d: worse";
        assert_eq!(blame(message, &["a", "b", "d"]), named(&[("a", "bad b: c"), ("d", "worse")]));
    }

    #[test]
    fn a_response_that_was_not_read_at_all_has_at_most_a_suspect() {
        let message = "Proto constraint validation failed (ClusterValidationError): name: \"a\"";
        assert_eq!(blame(message, &["a", "b"]), Blame::All { suspect: Some("a".into()) });
        assert_eq!(blame(message, &["b"]), Blame::All { suspect: None });
        assert_eq!(blame("\"a\" and \"b\"", &["a", "b"]), Blame::All { suspect: None });
        let unknown = "Error adding/updating listener(s) x: gone";
        assert_eq!(blame(unknown, &["a"]), Blame::All { suspect: None });
    }
}
