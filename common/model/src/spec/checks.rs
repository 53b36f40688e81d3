//! Checks that several specs share.

use std::net::IpAddr;

use super::common::{DataSource, IntOrString, TargetRef};
use crate::Violations;
use crate::duration::GoDuration;
use crate::validation::is_dns_name;

/// Kinds of services.
pub(super) const SERVICES: [&str; 3] = ["MeshService", "MeshExternalService", "MeshMultiZoneService"];

/// Kinds of destinations of policies that can name routes.
pub(super) const DESTINATIONS: [&str; 5] =
    ["Mesh", "MeshService", "MeshExternalService", "MeshMultiZoneService", "MeshHTTPRoute"];

/// Kinds of destinations of policies that cannot name routes.
pub(super) const ALL_BUT_ROUTES: [&str; 4] =
    ["Mesh", "MeshService", "MeshExternalService", "MeshMultiZoneService"];

/// Most memory that an expression may take, in bytes: far more than one for a path or a header needs.
const MAX_EXPRESSION: usize = 1 << 20;

/// Longest name of a header.
const MAX_HEADER_NAME: usize = 256;

/// Checks what a policy is attached to. Sections are for what comes in.
pub(super) fn check_top(target: Option<&TargetRef>, is_inbound: bool, violations: &mut Violations) {
    let Some(target) = target else { return };
    check_target("spec.targetRef", target, &["Mesh", "Dataplane"], violations);
    if target.kind == "Dataplane" && has_section(target) && !is_inbound {
        violations.add("spec.targetRef.sectionName", "can only be used with inbound policies");
    }
}

fn has_section(target: &TargetRef) -> bool {
    target.section_name.as_ref().is_some_and(|name| !name.is_empty())
}

/// Checks a reference to something of one of the kinds.
pub(super) fn check_target(path: &str, target: &TargetRef, kinds: &[&str], violations: &mut Violations) {
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
    let whole = matches!(kind, "Mesh" | "MeshExternalService" | "MeshHTTPRoute");
    if kind == "Mesh" && has_labels {
        violations.add(format!("{path}.labels"), "must not be set with kind Mesh");
    }
    if !matches!(kind, "Mesh" | "Dataplane") && !has_labels {
        violations.add(format!("{path}.labels"), format!("must be set when kind is {kind}"));
    }
    if whole && has_section(target) {
        violations.add(format!("{path}.sectionName"), format!("must not be set with kind {kind}"));
    }
}

/// Checks a duration that may be zero.
pub(super) fn check_not_negative(path: &str, said: Option<GoDuration>, violations: &mut Violations) {
    if said.is_some_and(GoDuration::is_negative) {
        violations.add(path, "must not be negative when defined");
    }
}

/// Checks a duration or number that may not be zero.
pub(super) fn check_positive<T: Default + PartialOrd>(
    path: &str,
    said: Option<T>,
    violations: &mut Violations,
) {
    if said.is_some_and(|said| said <= T::default()) {
        violations.add(path, "must be greater than zero when defined");
    }
}

/// Checks a share of a hundred that is whole.
pub(super) fn check_percent(path: &str, said: Option<u32>, violations: &mut Violations) {
    if said.is_some_and(|said| said > 100) {
        violations.add(path, "must be in inclusive range [0, 100]");
    }
}

/// Checks a share of a hundred that may have decimals.
pub(super) fn check_share(path: &str, said: Option<&IntOrString>, violations: &mut Violations) {
    match said.map(IntOrString::as_f64) {
        Some(None) => violations.add(path, "string must be a valid number"),
        Some(Some(share)) if !(0.0..=100.0).contains(&share) => {
            violations.add(path, "must be in inclusive range [0.0, 100.0]");
        }
        _ => {}
    }
}

/// Checks an expression.
pub(super) fn check_expression(path: &str, expression: &str, violations: &mut Violations) {
    let compiled = regex::RegexBuilder::new(expression).size_limit(MAX_EXPRESSION).build();
    if compiled.is_err() {
        violations.add(path, "must be a valid regular expression");
    }
}

/// Checks the name of a header (RFC 9110, 5.6.2), in lower case.
pub(super) fn check_header_name(path: &str, name: &str, violations: &mut Violations) {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() {
        violations.add(path, "in body should be at least 1 chars long");
    } else if name.len() > MAX_HEADER_NAME {
        violations.add(path, format!("in body should be at most {MAX_HEADER_NAME} chars long"));
    } else if !name.chars().all(allowed) {
        violations.add(path, r"in body should match '^[a-z0-9!#$%&'*+\-.^_\x60|~]+$'");
    }
}

/// Checks the number of a port that is required.
pub(super) fn check_port_number(path: &str, port: u32, violations: &mut Violations) {
    if !(1..=65535).contains(&port) {
        violations.add(path, "port must be a valid (1-65535)");
    }
}

/// Whether a text is an IP address or a name that DNS can resolve, in any case.
pub(super) fn is_host(address: &str) -> bool {
    address.parse::<IpAddr>().is_ok() || is_dns_name(&address.to_ascii_lowercase())
}

/// Checks a duration that is kept as text.
pub(super) fn check_duration_text(path: &str, said: Option<&str>, violations: &mut Violations) {
    match said.map(str::parse::<GoDuration>) {
        Some(Err(error)) => violations.add(path, error.to_string()),
        Some(Ok(said)) => check_positive(path, Some(said), violations),
        None => {}
    }
}

/// Checks where a piece of data comes from: the source that its type names is there and names something.
pub(super) fn check_data_source(path: &str, source: &DataSource, violations: &mut Violations) {
    let DataSource { r#type, file, secret_ref, env_var, insecure_inline } = source;
    let forms = [
        ("File", "file", file.as_ref().map(|file| ("path", file.path.as_str()))),
        ("Secret", "secretRef", secret_ref.as_ref().map(|secret| ("name", secret.name.as_str()))),
        ("EnvVar", "envVar", env_var.as_ref().map(|variable| ("name", variable.name.as_str()))),
        ("InsecureInline", "insecureInline", insecure_inline.as_ref().map(|it| ("value", it.value.as_str()))),
    ];
    let Some((_, field, form)) = forms.into_iter().find(|(name, ..)| name == r#type) else {
        let known = "[\"File\", \"Secret\", \"EnvVar\", \"InsecureInline\"]";
        violations.add(format!("{path}.type"), format!("{type:?} must be one of {known}"));
        return;
    };
    match form {
        None => violations.add(format!("{path}.{field}"), "must be defined"),
        Some((key, "")) => violations.add(format!("{path}.{field}.{key}"), "must not be empty"),
        Some(_) => {}
    }
}
