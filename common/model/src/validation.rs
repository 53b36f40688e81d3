//! Validation: every violation at once, each with its path.

use serde_json::Value;

use crate::kind::Scope;
use crate::{Kind, Resource, spec};

mod dataplane;
mod label_syntax;

pub use label_syntax::check_labels;

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Violation {
    /// Path of the field, for example `spec.ports[0].port`.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// Everything that is wrong with a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// Adds one.
    pub fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(Violation { field: field.into(), message: message.into() });
    }

    /// Adds all of another list.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The list, in the order in which it was found.
    pub fn iter(&self) -> impl Iterator<Item = &Violation> {
        self.0.iter()
    }

    /// `Ok` when nothing is wrong.
    ///
    /// # Errors
    /// The violations themselves.
    pub fn into_result(self) -> Result<(), Self> {
        if self.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl std::fmt::Display for Violations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, Violation { field, message }) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{field}: {message}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Violations {}

/// Checks names and spec of a resource, as REST, files and KDS all do.
pub fn validate(resource: &Resource) -> Violations {
    let mut violations = check_names(resource.kind(), resource.mesh(), resource.name());
    violations.extend(validate_spec(resource));
    violations
}

/// Checks the spec of a resource alone.
pub fn validate_spec(resource: &Resource) -> Violations {
    let kind = resource.kind();
    let mut violations = Violations::default();
    match resource.raw_spec().to_json(kind.format) {
        Ok(document) => violations.extend(check_spec(kind, &document, resource)),
        Err(error) => violations.add(if kind.is_json() { "spec" } else { "" }, error.to_string()),
    }
    violations
}

fn check_spec(kind: Kind, document: &Value, resource: &Resource) -> Violations {
    let mut violations = Violations::default();
    if kind == Kind::DATAPLANE {
        match resource.spec::<spec::Dataplane>() {
            Ok(spec) => dataplane::check(spec, &mut violations),
            Err(error) => violations.add("", error.to_string()),
        }
    } else if let Some(codec) = kind.json() {
        (codec.validate)(document, &mut violations);
    }
    violations
}

/// Longest resource name.
const MAX_NAME: usize = 253;

/// Kinds whose names become DNS labels and path segments of identities.
fn wants_dns_label(kind: Kind) -> bool {
    [Kind::MESH, Kind::ZONE, Kind::MESH_SERVICE, Kind::MESH_EXTERNAL_SERVICE, Kind::MESH_MULTI_ZONE_SERVICE]
        .contains(&kind)
}

/// Checks the name and mesh of a resource.
pub fn check_names(kind: Kind, mesh: &str, name: &str) -> Violations {
    let mut violations = Violations::default();
    check_name("name", name, &mut violations);
    if kind.scope == Scope::Mesh {
        check_mesh(mesh, &mut violations);
    }
    violations
}

/// Checks that the display name can be a DNS label where the kind wants one: on the control plane where the
/// resource is authored.
pub fn check_display_name(kind: Kind, name: &str) -> Violations {
    let mut violations = Violations::default();
    if kind == Kind::WORKLOAD && name.len() > MAX_LABEL {
        violations.add("name", format!("must not be longer than {MAX_LABEL} characters"));
    }
    if !wants_dns_label(kind) || name.is_empty() {
        return violations;
    }
    let mut problems = Vec::new();
    if name.len() > MAX_LABEL {
        problems.push("must be no more than 63 characters");
    }
    if !has_label_syntax(name) {
        problems.push(DNS1035_MESSAGE);
    }
    if !problems.is_empty() {
        violations.add("name", problems.join(", "));
    }
    violations
}

fn check_name(field: &str, name: &str, violations: &mut Violations) {
    if name.is_empty() {
        violations.add(field, "cannot be empty");
    } else if name.len() > MAX_NAME {
        violations.add(field, format!("value length must less or equal {MAX_NAME}"));
    } else if !is_dns_name(name) {
        violations.add(
            field,
            "invalid characters. A lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
        );
    }
}

fn check_mesh(mesh: &str, violations: &mut Violations) {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    if mesh.is_empty() {
        violations.add("mesh", "cannot be empty");
    } else if mesh.len() > MAX_NAME {
        violations.add("mesh", format!("value length must less or equal {MAX_NAME}"));
    } else if !mesh.chars().all(allowed) {
        violations.add("mesh", "invalid characters. Valid characters are numbers, lowercase latin letters and '-', '_', '.' symbols.");
    }
}

/// What Kubernetes says of a name that is no RFC 1035 label.
const DNS1035_MESSAGE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";

/// Longest DNS label.
const MAX_LABEL: usize = 63;

fn has_label_syntax(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// Whether a name is an RFC 1035 label: lower case, at most 63 characters, starting with a letter.
pub fn is_dns1035_label(name: &str) -> bool {
    crate::sni::is_dns_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase())
}

/// Whether a name is an RFC 1123 subdomain: lower-case labels joined by dots.
pub fn is_dns_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    name.len() <= MAX_NAME
        && name.split('.').all(|label| {
            !label.is_empty() && label.chars().all(inner) && !label.starts_with('-') && !label.ends_with('-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Key;

    #[test]
    fn names_are_checked_with_their_field() {
        let fields = |mesh: &str, name: &str| -> Vec<String> {
            check_names(Kind::MESH_TIMEOUT, mesh, name)
                .iter()
                .map(|violation| violation.field.clone())
                .collect()
        };
        assert!(fields("default", "a.b-c").is_empty());
        assert_eq!(fields("", ""), ["name", "mesh"]);
        assert_eq!(fields("Default", "A"), ["name", "mesh"]);
        assert_eq!(fields("default", &"a".repeat(254)), ["name"]);
    }

    #[test]
    fn display_names_say_all_that_is_wrong() {
        let message = |name: &str| {
            let violations = check_display_name(Kind::MESH, name);
            violations.iter().map(|violation| violation.message.clone()).collect::<String>()
        };
        assert_eq!(message("good-1"), "");
        assert_eq!(message("a.b"), DNS1035_MESSAGE);
        assert_eq!(message(&"a".repeat(64)), "must be no more than 63 characters");
        let workload = |name: &str| check_display_name(Kind::WORKLOAD, name).iter().count();
        assert_eq!((workload("a.b"), workload(&"a".repeat(64))), (0, 1));
        let both = message(&"1".repeat(64));
        assert_eq!(both, format!("must be no more than 63 characters, {DNS1035_MESSAGE}"));
    }

    #[test]
    fn a_spec_that_does_not_decode_is_a_violation() {
        let mut builder = Resource::builder(Key::new(Kind::MESH_SERVICE, "default", "a"));
        builder.spec = crate::Payload::from_bytes(r#"{"ports": 3}"#);
        let violations = validate(&builder.build());
        assert_eq!(violations.iter().map(|violation| violation.field.as_str()).collect::<Vec<_>>(), ["spec"]);
    }
}
