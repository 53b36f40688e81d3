//! Rules that policies for incoming traffic share.

use super::common::TargetRef;
use super::mesh_traffic_permission::{PeerMatch, check_peer};
use crate::Violations;

/// Checks the peers of a rule; an empty list is as good as none.
pub(super) fn check_peers(path: &str, peers: Option<&[PeerMatch]>, violations: &mut Violations) {
    for (at, peer) in peers.unwrap_or_default().iter().enumerate() {
        check_peer(&format!("{path}.matches[{at}]"), peer, violations);
    }
}

/// Checks that a policy with `rules` and `to` says something, and where `to` can stand.
pub(super) fn check_directions(
    target: Option<&TargetRef>,
    has_rules: bool,
    has_to: bool,
    violations: &mut Violations,
) {
    check_target(target, violations);
    match (has_rules, has_to) {
        (false, false) => violations.add("spec", "at least one of 'to' or 'rules' has to be defined"),
        (true, true) => violations.add("spec", "field 'to' must be empty when 'rules' is defined"),
        _ => {}
    }
    if has_to && target.is_some_and(|target| target.kind != "Mesh") {
        violations.add("spec.to", "must not be defined");
    }
}

/// Checks what a policy for incoming traffic is attached to.
pub(super) fn check_target(target: Option<&TargetRef>, violations: &mut Violations) {
    let Some(target) = target.filter(|target| target.kind == "Mesh") else { return };
    for (field, set) in [("labels", target.labels.is_some()), ("sectionName", target.section_name.is_some())]
    {
        if set {
            violations.add(format!("spec.targetRef.{field}"), "must not be set with kind Mesh");
        }
    }
}

/// Checks the destination of an item that can only be the whole mesh.
pub(super) fn check_mesh_target(path: &str, target: &TargetRef, violations: &mut Violations) {
    let path = format!("{path}.targetRef");
    match target.kind.as_str() {
        "Mesh" => {}
        "" => violations.add(format!("{path}.kind"), "must be defined"),
        kind => violations.add(format!("{path}.kind"), format!("value '{kind}' is not supported")),
    }
}
