//! What a write must keep to besides its kind's own rules: that it says the same as its URL, and that its
//! labels are true on this control plane.

use model::labels::{self, Plane};
use model::validation::{check_labels, check_names};
use model::{Key, Kind, Labels, Violations};
use serde_json::{Map, Value};

/// Longest name that a zone's resource can have on the global, where it is joined with the zone's name.
const MAX_JOINED: usize = 253;
/// The only role a policy without a namespace can claim.
const SYSTEM_ROLE: &str = "system";

/// What a document says of itself.
pub(crate) struct Claimed<'a> {
    pub(crate) kind: &'a str,
    pub(crate) mesh: &'a str,
    pub(crate) name: &'a str,
    pub(crate) labels: &'a Labels,
}

impl<'a> Claimed<'a> {
    /// Reads the keys that every document has; `mesh` and `labels` come from the parsed resource.
    pub(crate) fn of(object: &'a Map<String, Value>, mesh: &'a str, labels: &'a Labels) -> Self {
        let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
        Self { kind: text("type"), mesh, name: text("name"), labels }
    }
}

/// Checks a document against the URL it was sent to and the control plane that received it.
pub(crate) fn check(plane: &Plane, origin_matters: bool, key: &Key, claimed: &Claimed<'_>) -> Violations {
    let mut violations = Violations::default();
    if claimed.name != &*key.name {
        violations.add("name", "name from the URL has to be the same as in body");
    }
    if let Plane::Zone { name: zone, federated: true } = plane
        && zone.len() + 1 + claimed.name.len() >= MAX_JOINED
    {
        violations.add("name", "the length of the name must be shorter");
    }
    if claimed.kind != key.kind.name {
        violations.add("type", "type from the URL has to be the same as in body");
    }
    if key.kind.is_mesh_scoped() && claimed.mesh != &*key.mesh {
        violations.add("mesh", "mesh from the URL has to be the same as in body");
    }
    check_origin_value(claimed.labels, &mut violations);
    if origin_matters {
        check_origin(plane, key.kind, claimed.labels, &mut violations);
    }
    check_place(plane, &key.mesh, key.kind, claimed.labels, &mut violations);
    check_labels(claimed.labels, &mut violations);
    violations.extend(check_names(key.kind, claimed.mesh, claimed.name));
    violations
}

fn field(label: &str) -> String {
    format!("labels[{label:?}]")
}

fn check_origin_value(labels: &Labels, violations: &mut Violations) {
    if let Some(origin) =
        labels.get(labels::ORIGIN).filter(|origin| !matches!(origin.as_str(), "global" | "zone"))
    {
        violations.add(field(labels::ORIGIN), format!("unknown resource origin {origin:?}"));
    }
}

/// Checks that labels say that a resource is of this control plane. A zone that stands alone owns everything.
pub(crate) fn check_origin(plane: &Plane, kind: Kind, labels: &Labels, violations: &mut Violations) {
    let origin = labels.get(labels::ORIGIN).map(String::as_str);
    let right = match plane {
        Plane::Global => origin.is_none_or(|origin| origin == "global"),
        Plane::Zone { federated: true, .. } if kind.is_json() => origin == Some("zone"),
        Plane::Zone { .. } => true,
    };
    if !right {
        let message = format!("the origin label must be set to '{}'", plane.origin_label());
        violations.add(field(labels::ORIGIN), message);
    }
}

/// Checks that a stored resource may be changed here: a document cannot take over what another control
/// plane wrote.
pub(crate) fn check_stored(plane: &Plane, kind: Kind, stored: &Labels, violations: &mut Violations) {
    let alone = matches!(plane, Plane::Zone { federated: false, .. });
    if !alone && !plane.authored_here(stored) {
        let message = format!("the origin label must be set to '{}'", plane.origin_label());
        violations.add(field(labels::ORIGIN), message);
    } else {
        check_origin(plane, kind, stored, violations);
    }
}

fn check_place(plane: &Plane, mesh: &str, kind: Kind, labels: &Labels, violations: &mut Violations) {
    let label = |key: &str| labels.get(key).map(String::as_str);
    if let Plane::Zone { name: zone, .. } = plane
        && label(labels::ORIGIN) != Some("global")
    {
        if label(labels::ZONE).is_some_and(|claimed| claimed != zone) {
            violations.add(field(labels::ZONE), format!("kuma.io/zone label should have {zone} value"));
        }
        if label(labels::MESH).is_some_and(|claimed| claimed != mesh) {
            let message = "kuma.io/mesh label must not differ from mesh set on resource";
            violations.add(field(labels::MESH), message);
        }
    }
    if let Some(role) = label(labels::POLICY_ROLE)
        && kind.policy.is_some()
        && role != SYSTEM_ROLE
    {
        let message = format!("kuma.io/policy-role label should have {SYSTEM_ROLE} value, got {role}");
        violations.add(field(labels::POLICY_ROLE), message);
    }
}

/// Checks that an update leaves a resource in its zone.
pub(crate) fn check_immutable(before: &Labels, after: &Labels) -> Violations {
    let mut violations = Violations::default();
    match (before.get(labels::ZONE), after.get(labels::ZONE)) {
        (Some(was), Some(is)) if was != is => {
            let message = format!("is immutable, cannot be changed from {was:?} to {is:?}");
            violations.add(field(labels::ZONE), message);
        }
        (Some(was), None) => {
            let message = format!("is immutable, cannot be removed (was {was:?})");
            violations.add(field(labels::ZONE), message);
        }
        _ => {}
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(federated: bool) -> Plane {
        Plane::Zone { name: "east".into(), federated }
    }

    fn given(labels: &[(&str, &str)]) -> Labels {
        labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn report(plane: &Plane, kind: Kind, labels: &[(&str, &str)]) -> Vec<String> {
        let labels = given(labels);
        let claimed = Claimed { kind: kind.name, mesh: "m", name: "a", labels: &labels };
        let violations = check(plane, true, &Key::new(kind, "m", "a"), &claimed);
        violations.iter().map(|one| one.message.clone()).collect()
    }

    #[test]
    fn a_joined_zone_wants_its_own_origin() {
        let kind = Kind::MESH_TIMEOUT;
        assert_eq!(report(&zone(true), kind, &[]), ["the origin label must be set to 'zone'"]);
        assert!(report(&zone(true), kind, &[(labels::ORIGIN, "zone")]).is_empty());
        assert!(report(&zone(true), Kind::DATAPLANE, &[]).is_empty());
        assert!(report(&zone(false), kind, &[(labels::ORIGIN, "global")]).is_empty());
        assert_eq!(
            report(&zone(false), kind, &[(labels::ZONE, "west"), (labels::MESH, "x")]),
            [
                "kuma.io/zone label should have east value",
                "kuma.io/mesh label must not differ from mesh set on resource"
            ]
        );
    }

    #[test]
    fn the_global_refuses_what_is_of_zones() {
        let kind = Kind::MESH_TIMEOUT;
        assert!(report(&Plane::Global, kind, &[]).is_empty());
        assert!(report(&Plane::Global, kind, &[(labels::ZONE, "west")]).is_empty());
        assert_eq!(
            report(&Plane::Global, kind, &[(labels::ORIGIN, "zone")]),
            ["the origin label must be set to 'global'"]
        );
        assert_eq!(
            report(&Plane::Global, kind, &[(labels::POLICY_ROLE, "consumer")]),
            ["kuma.io/policy-role label should have system value, got consumer"]
        );
    }

    #[test]
    fn stored_resources_stay_with_their_author() {
        let found = |plane: &Plane, kind: Kind, labels: &[(&str, &str)]| {
            let mut violations = Violations::default();
            check_stored(plane, kind, &given(labels), &mut violations);
            violations.iter().count()
        };
        assert_eq!(found(&zone(true), Kind::SECRET, &[(labels::ORIGIN, "global")]), 1);
        assert_eq!(found(&zone(true), Kind::SECRET, &[(labels::ORIGIN, "zone")]), 0);
        assert_eq!(found(&zone(true), Kind::MESH_TIMEOUT, &[]), 1);
        assert_eq!(found(&zone(false), Kind::MESH_TIMEOUT, &[(labels::ORIGIN, "global")]), 0);
        assert_eq!(found(&Plane::Global, Kind::MESH_TIMEOUT, &[(labels::ORIGIN, "zone")]), 1);
    }

    #[test]
    fn a_resource_stays_in_its_zone() {
        let before = given(&[(labels::ZONE, "east")]);
        assert!(check_immutable(&before, &before).is_empty());
        assert!(!check_immutable(&before, &given(&[(labels::ZONE, "west")])).is_empty());
        assert!(!check_immutable(&before, &Labels::new()).is_empty());
        assert!(check_immutable(&Labels::new(), &before).is_empty());
    }
}
