//! Rules that policies for incoming traffic share.

use super::checks::check_top;
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
    check_top(target, true, violations);
    match (has_rules, has_to) {
        (false, false) => violations.add("spec", "at least one of 'to' or 'rules' has to be defined"),
        (true, true) => violations.add("spec", "field 'to' must be empty when 'rules' is defined"),
        _ => {}
    }
    if has_to && target.is_some_and(|target| target.kind != "Mesh") {
        violations.add("spec.to", "must not be defined");
    }
}
