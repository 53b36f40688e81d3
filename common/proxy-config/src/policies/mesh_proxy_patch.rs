//! MeshProxyPatch: changes that users write in Envoy's own terms. They are made last, on finished messages, one after
//! another; one that cannot be made is noted and leaves what it was for as it is.

mod content;
mod filters;
mod hosts;
mod resources;

use std::fmt;

use model::Kind;
use model::spec::{MeshProxyPatch, Modification};
use model::{Kri, Violations};
use serde::Deserialize;
use serde_json::Value;

use crate::draft::Finished;
use crate::generate::Context;
use crate::note::Note;

pub(crate) use content::{Changed, Content};

/// Who made what a patch adds, for later patches that choose by it.
const ADDED: &str = "proxy-template-modifications";

/// What became of one modification.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// How many things it changed.
    changed: usize,
    /// What it could not change, and why.
    failures: Vec<String>,
}

impl Outcome {
    /// Counts a change that may have failed; what it is for stays as it is then.
    fn take<M, E: fmt::Display>(&mut self, held: &mut M, result: Result<Changed<M>, E>, name: &str) {
        match result {
            Ok(Changed { message, unheard }) => {
                *held = message;
                self.changed += 1;
                self.failures.extend(unheard.iter().map(|field| {
                    format!("{name}: merging cannot set {field} to its default, a JSON patch can")
                }));
            }
            Err(error) => self.failures.push(format!("{name}: {error}")),
        }
    }
}

/// Makes the changes of all policies that select the proxy, and says which could not be made.
pub(crate) fn apply(context: &Context<'_>, finished: &mut Finished) -> Vec<Note> {
    let selected = context.policies(Kind::MESH_PROXY_PATCH);
    let mut notes = Vec::new();
    for policy in selected.policies().filter(|policy| policy.section_name().is_none()) {
        for (at, modification) in modifications(&policy.spec).enumerate() {
            apply_one(&policy.kri, at, modification, finished, &mut notes);
        }
    }
    notes
}

fn modifications(spec: &Value) -> impl Iterator<Item = &Value> {
    spec.pointer("/default/appendModifications").and_then(Value::as_array).into_iter().flatten()
}

fn apply_one(policy: &Kri, at: usize, said: &Value, finished: &mut Finished, notes: &mut Vec<Note>) {
    let path = format!("spec.default.appendModifications[{at}]");
    let mut note = |path: String, reason: String, failed: bool| {
        notes.push(Note { policy: policy.clone(), path, reason, failed });
    };
    let modification = match Modification::deserialize(said) {
        Ok(modification) => modification,
        Err(error) => return note(path, error.to_string(), true),
    };
    for (field, result) in outcomes(&modification, finished) {
        let path = format!("{path}.{field}");
        match result {
            Err(reason) => note(path, reason, true),
            Ok(Outcome { changed: 0, failures }) if failures.is_empty() => {
                note(path, "nothing of this proxy matches".into(), false);
            }
            Ok(Outcome { failures, .. }) => {
                failures.into_iter().for_each(|reason| note(path.clone(), reason, true));
            }
        }
    }
}

type Results = Vec<(&'static str, Result<Outcome, String>)>;

fn outcomes(modification: &Modification, finished: &mut Finished) -> Results {
    let Modification { cluster, listener, network_filter, http_filter, virtual_host } = modification;
    let mut outcomes = Results::new();
    if let Some(cluster) = cluster {
        outcomes.push(("cluster", resources::clusters(cluster, finished)));
    }
    if let Some(listener) = listener {
        outcomes.push(("listener", resources::listeners(listener, finished)));
    }
    if let Some(filter) = network_filter {
        outcomes.push(("networkFilter", filters::network(filter, finished)));
    }
    if let Some(filter) = http_filter {
        outcomes.push(("httpFilter", filters::http(filter, finished)));
    }
    if let Some(host) = virtual_host {
        outcomes.push(("virtualHost", hosts::apply(host, finished)));
    }
    outcomes
}

/// Checks what only Envoy's API can tell of a spec: that its values are of their messages.
pub(crate) fn check(spec: &Value, violations: &mut Violations) {
    let Ok(spec) = MeshProxyPatch::deserialize(spec) else { return };
    let modifications = spec.default.append_modifications.unwrap_or_default();
    for (at, modification) in modifications.iter().enumerate() {
        for (field, problem) in content::problems(modification) {
            let path = format!("spec.default.appendModifications[{at}].{field}.value");
            violations.add(path, format!("native Envoy resource is not valid: {problem}"));
        }
    }
}
