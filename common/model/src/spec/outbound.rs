//! Rules that policies for outgoing traffic share.

use super::common::{IntOrString, TargetRef};
use crate::Violations;
use crate::duration::GoDuration;

/// Checks what a policy is attached to; only policies for incoming traffic can name a section.
pub(super) fn check_top(target: Option<&TargetRef>, is_inbound: bool, violations: &mut Violations) {
    let Some(target) = target else { return };
    let is_mesh = target.kind == "Mesh";
    if is_mesh && target.labels.as_ref().is_some_and(|labels| !labels.is_empty()) {
        violations.add("spec.targetRef.labels", "must not be set with kind Mesh");
    }
    if target.section_name.as_ref().is_none_or(String::is_empty) {
        return;
    }
    if is_mesh {
        violations.add("spec.targetRef.sectionName", "must not be set with kind Mesh");
    } else if !is_inbound {
        violations.add("spec.targetRef.sectionName", "can only be used with inbound policies");
    }
}

/// Checks that a policy says something, in one direction.
pub(super) fn check_direction(has_to: bool, has_rules: bool, violations: &mut Violations) {
    match (has_to, has_rules) {
        (false, false) => violations.add("spec", "at least one of 'to' or 'rules' has to be defined"),
        (true, true) => violations.add("spec", "field 'to' must be empty when 'rules' is defined"),
        _ => {}
    }
}

/// Checks a destination of a policy that takes destinations of these kinds.
pub(super) fn check_destination(path: &str, target: &TargetRef, kinds: &[&str], violations: &mut Violations) {
    let path = format!("{path}.targetRef");
    let kind = target.kind.as_str();
    if kind.is_empty() {
        violations.add(format!("{path}.kind"), "must be defined");
        return;
    }
    if !kinds.contains(&kind) {
        violations.add(format!("{path}.kind"), format!("value '{kind}' is not supported"));
        return;
    }
    let has_labels = target.labels.as_ref().is_some_and(|labels| !labels.is_empty());
    let has_section = target.section_name.as_ref().is_some_and(|section| !section.is_empty());
    match kind {
        "Mesh" => {
            for (field, set) in [("labels", has_labels), ("sectionName", has_section)] {
                if set {
                    violations.add(format!("{path}.{field}"), "must not be set with kind Mesh");
                }
            }
        }
        _ if !has_labels => {
            violations.add(format!("{path}.labels"), format!("must be set when kind is {kind}"));
        }
        _ => {}
    }
    if has_section && matches!(kind, "MeshExternalService" | "MeshHTTPRoute") {
        violations.add(format!("{path}.sectionName"), format!("must not be set with kind {kind}"));
    }
}

/// The kinds that are destinations of themselves.
pub(super) const SERVICES: [&str; 4] = ["Mesh", "MeshService", "MeshExternalService", "MeshMultiZoneService"];

/// A duration that has to be longer than nothing where it is given.
pub(super) fn check_positive(
    path: impl Into<String>,
    value: Option<GoDuration>,
    violations: &mut Violations,
) {
    if value.is_some_and(|value| value.is_zero() || value.is_negative()) {
        violations.add(path, "must be greater than zero when defined");
    }
}

/// A duration that may be nothing.
pub(super) fn check_not_negative(
    path: impl Into<String>,
    value: Option<GoDuration>,
    violations: &mut Violations,
) {
    if value.is_some_and(GoDuration::is_negative) {
        violations.add(path, "must not be negative when defined");
    }
}

/// A count that has to be at least one where it is given.
pub(super) fn check_count(path: impl Into<String>, value: Option<u32>, violations: &mut Violations) {
    if value == Some(0) {
        violations.add(path, "must be greater than zero when defined");
    }
}

/// A share of a hundred, whole.
pub(super) fn check_percent(path: impl Into<String>, value: Option<u32>, violations: &mut Violations) {
    if value.is_some_and(|value| value > 100) {
        violations.add(path, "must be in inclusive range [0, 100]");
    }
}

/// A share of a hundred that may have decimals.
pub(super) fn check_share(path: impl Into<String>, value: Option<&IntOrString>, violations: &mut Violations) {
    match value.map(IntOrString::number) {
        None => {}
        Some(None) => violations.add(path, "string must be a valid number"),
        Some(Some(number)) if !(0.0..=100.0).contains(&number) => {
            violations.add(path, "must be in inclusive range [0.0, 100.0]");
        }
        Some(Some(_)) => {}
    }
}
