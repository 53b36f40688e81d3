//! Labels that control planes compute and read.

use std::fmt;

use crate::{Kind, kind::Flow, resource::Labels};

/// The name a resource was given where it was authored.
pub const DISPLAY_NAME: &str = "kuma.io/display-name";
/// The mesh of a mesh-scoped resource.
pub const MESH: &str = "kuma.io/mesh";
/// Where a resource was authored: `global` or `zone`.
pub const ORIGIN: &str = "kuma.io/origin";
/// The zone a resource was authored in.
pub const ZONE: &str = "kuma.io/zone";
/// Environment of the authoring zone: `universal` or `kubernetes`.
pub const ENV: &str = "kuma.io/env";
/// Kubernetes namespace.
pub const NAMESPACE: &str = "k8s.kuma.io/namespace";
/// Whether a resource takes part in synchronisation: `enabled` or `disabled`.
pub const KDS_SYNC: &str = "kuma.io/kds-sync";
/// Role of a namespaced policy.
pub const POLICY_ROLE: &str = "kuma.io/policy-role";
/// The workload a proxy belongs to.
pub const WORKLOAD: &str = "kuma.io/workload";
/// The service name of a Dataplane.
pub const SERVICE: &str = "kuma.io/service";
/// `shadow` policies are computed for inspection only.
pub const EFFECT: &str = "kuma.io/effect";
/// Which controller owns a generated resource.
pub const MANAGED_BY: &str = "kuma.io/managed-by";
/// `enabled` on Dataplanes with a zone ingress listener.
pub const LISTENER_ZONE_INGRESS: &str = "kuma.io/listener-zoneingress";
/// `enabled` on Dataplanes with a zone egress listener.
pub const LISTENER_ZONE_EGRESS: &str = "kuma.io/listener-zoneegress";
/// Removed from Dataplanes: older control planes wrote it.
const PROXY_TYPE: &str = "kuma.io/proxy-type";
/// Since when a generated resource has nothing left to serve, RFC 3339.
pub const GRACE_PERIOD_STARTED_AT: &str = "kuma.io/deletion-grace-period-started-at";

/// Where a resource was authored; only that control plane writes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// The global control plane.
    Global,
    /// The zone of this name.
    Zone(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Global => f.write_str("global"),
            Self::Zone(zone) => write!(f, "zone {zone}"),
        }
    }
}

/// The control plane that serves or computes: its labels depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plane {
    /// The global control plane.
    Global,
    /// A zone control plane.
    Zone {
        /// Its zone's name.
        name: String,
        /// Whether it is joined to a global.
        federated: bool,
    },
}

impl Plane {
    /// The zone's name; `None` on the global.
    pub fn zone(&self) -> Option<&str> {
        match self {
            Self::Global => None,
            Self::Zone { name, .. } => Some(name),
        }
    }

    /// Whether it is a zone joined to a global.
    pub fn is_federated_zone(&self) -> bool {
        matches!(self, Self::Zone { federated: true, .. })
    }

    /// The value of the origin label of what is authored here.
    pub fn origin_label(&self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Zone { .. } => "zone",
        }
    }

    /// Whether users may not write resources of this kind here.
    pub fn is_read_only(&self, kind: Kind) -> bool {
        kind.read_only
            || match self {
                Self::Global => !kind.flow.has(Flow::PROVIDED_BY_GLOBAL),
                Self::Zone { federated, .. } => *federated && !kind.flow.has(Flow::PROVIDED_BY_ZONE),
            }
    }

    /// Whether a resource with these labels was authored on this control plane: the origin label is
    /// absent or this plane's own.
    pub fn authored_here(&self, labels: &Labels) -> bool {
        labels.get(ORIGIN).is_none_or(|origin| origin == self.origin_label())
    }
}

/// Which zone proxy listeners a Dataplane has: they become labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZoneListeners {
    /// Has a zone ingress listener.
    pub ingress: bool,
    /// Has a zone egress listener.
    pub egress: bool,
}

impl ZoneListeners {
    /// Those of a Dataplane.
    pub fn of(spec: &crate::spec::Dataplane) -> Self {
        use kds_proto::mesh::dataplane::networking::listener::Type;
        let listeners = spec.networking.iter().flat_map(|networking| &networking.listeners);
        let has = |wanted: Type| listeners.clone().any(|listener| listener.r#type() == wanted);
        Self { ingress: has(Type::ZoneIngress), egress: has(Type::ZoneEgress) }
    }
}

/// The labels of a resource as `plane` stores them: what the user gave, and what is computed on write.
/// `listeners` is `Some` for Dataplanes.
pub fn compute(
    plane: &Plane,
    kind: Kind,
    mesh: &str,
    name: &str,
    given: &Labels,
    listeners: Option<ZoneListeners>,
) -> Labels {
    let mut labels = given.clone();
    labels.insert(DISPLAY_NAME.into(), name.into());
    if kind.is_mesh_scoped() {
        labels.entry(MESH.into()).or_insert_with(|| mesh.into());
    }
    labels.insert(ORIGIN.into(), plane.origin_label().into());
    if let Plane::Zone { name: zone, .. } = plane
        && kind.flow.has(Flow::PROVIDED_BY_ZONE)
    {
        labels.entry(ZONE.into()).or_insert_with(|| zone.clone());
        labels.entry(ENV.into()).or_insert_with(|| "universal".into());
    }
    if let Some(listeners) = listeners {
        labels.remove(PROXY_TYPE);
        for (label, on) in
            [(LISTENER_ZONE_INGRESS, listeners.ingress), (LISTENER_ZONE_EGRESS, listeners.egress)]
        {
            if on {
                labels.insert(label.into(), "enabled".into());
            } else {
                labels.remove(label);
            }
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> Plane {
        Plane::Zone { name: "east".into(), federated: true }
    }

    #[test]
    fn a_zone_stamps_itself_on_what_it_provides() {
        let labels = compute(&zone(), Kind::MESH_TIMEOUT, "default", "t", &Labels::new(), None);
        let text: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(
            text,
            [
                "kuma.io/display-name=t",
                "kuma.io/env=universal",
                "kuma.io/mesh=default",
                "kuma.io/origin=zone",
                "kuma.io/zone=east"
            ]
        );
    }

    #[test]
    fn a_mesh_gets_no_zone() {
        let labels = compute(&zone(), Kind::MESH, "", "default", &Labels::new(), None);
        assert!(!labels.contains_key(ZONE) && !labels.contains_key(MESH));
    }

    #[test]
    fn origin_and_display_name_cannot_be_claimed() {
        let given = Labels::from([(ORIGIN.into(), "zone".into()), (DISPLAY_NAME.into(), "other".into())]);
        let labels = compute(&Plane::Global, Kind::MESH_TIMEOUT, "default", "t", &given, None);
        assert_eq!(labels.get(ORIGIN).map(String::as_str), Some("global"));
        assert_eq!(labels.get(DISPLAY_NAME).map(String::as_str), Some("t"));
    }

    #[test]
    fn writability_follows_the_flow() {
        assert!(Plane::Global.is_read_only(Kind::DATAPLANE));
        assert!(zone().is_read_only(Kind::MESH));
        assert!(!Plane::Zone { name: "z".into(), federated: false }.is_read_only(Kind::MESH));
        assert!(Plane::Global.is_read_only(Kind::ZONE_INSIGHT));
    }
}
