//! The order in which policies are merged: the more specific one is applied later and wins.

use std::cmp::Reverse;

use model::{Resource, labels};

/// Specificity of what a reference names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TargetKind {
    Mesh,
    Dataplane,
    MeshService,
    MeshExternalService,
    MeshMultiZoneService,
    MeshHttpRoute,
}

impl TargetKind {
    /// Reads the kind of a reference; a kind that cannot be a target is `None`.
    pub(crate) fn parse(kind: &str) -> Option<Self> {
        Some(match kind {
            "Mesh" => Self::Mesh,
            "Dataplane" => Self::Dataplane,
            "MeshService" => Self::MeshService,
            "MeshExternalService" => Self::MeshExternalService,
            "MeshMultiZoneService" => Self::MeshMultiZoneService,
            "MeshHTTPRoute" => Self::MeshHttpRoute,
            _ => return None,
        })
    }
}

/// Where a policy was authored; nearer to the proxy comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum OriginRank {
    Global,
    Unknown,
    Zone,
}

/// Who a namespaced policy speaks for; nearer to the workload comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    System,
    Producer,
    Consumer,
    WorkloadOwner,
}

impl Role {
    pub(crate) fn of(policy: &Resource) -> Self {
        match policy.label(labels::POLICY_ROLE) {
            Some("producer") => Self::Producer,
            Some("consumer") => Self::Consumer,
            Some("workload-owner") => Self::WorkloadOwner,
            _ => Self::System,
        }
    }
}

/// Sort key of a policy by its top-level target and its origin; the name is compared after what a `to` item names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    kind: TargetKind,
    has_section: bool,
    origin: OriginRank,
    role: Role,
}

impl Rank {
    pub(crate) fn of(policy: &Resource, kind: TargetKind, has_section: bool) -> Self {
        let origin = match policy.label(labels::ORIGIN) {
            Some("global") => OriginRank::Global,
            Some("zone") => OriginRank::Zone,
            _ => OriginRank::Unknown,
        };
        Self { kind, has_section, origin, role: Role::of(policy) }
    }
}

/// Last sort key: the smallest display name is applied last; the name in the store breaks ties.
pub(crate) fn by_name(policy: &Resource) -> Reverse<(&str, &str)> {
    Reverse((policy.display_name(), policy.name()))
}
