//! What has to be planned again after a change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{Key, Kind, Resource, labels};
use store::Snapshot;

use super::DESTINATIONS;

/// What has to be planned again in one mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scope {
    /// The identities; whoever plans them plans everything.
    pub(crate) identities: bool,
    /// MeshServices, and the workloads of the same names.
    pub(crate) services: BTreeSet<Arc<str>>,
    /// MeshMultiZoneServices whose parts may be others.
    pub(crate) multi_zone: BTreeSet<Arc<str>>,
    /// Destinations whose address or hostnames may be others.
    pub(crate) destinations: BTreeSet<Key>,
}

impl Scope {
    /// Everything that follows from what a mesh has.
    pub(crate) fn everything(snapshot: &Snapshot, mesh: &str) -> Self {
        let names = |kind| {
            snapshot.in_mesh(kind, mesh).map(|held| Arc::clone(&held.key().name)).collect::<BTreeSet<_>>()
        };
        let mut services = names(Kind::MESH_SERVICE);
        services.append(&mut names(Kind::WORKLOAD));
        services.extend(snapshot.in_mesh(Kind::DATAPLANE, mesh).filter_map(|held| workload(held)));
        let destinations = DESTINATIONS.into_iter().flat_map(|kind| snapshot.in_mesh(kind, mesh));
        Self {
            identities: true,
            services,
            multi_zone: names(Kind::MESH_MULTI_ZONE_SERVICE),
            destinations: destinations.map(|held| held.key().clone()).collect(),
        }
    }

    fn merge(&mut self, mut other: Self) {
        self.identities |= other.identities;
        self.services.append(&mut other.services);
        self.multi_zone.append(&mut other.multi_zone);
        self.destinations.append(&mut other.destinations);
    }
}

/// The workload that a proxy says it is of.
pub(crate) fn workload(dataplane: &Resource) -> Option<Arc<str>> {
    dataplane.label(labels::WORKLOAD).map(Arc::from)
}

/// What has to be planned again, by mesh.
#[derive(Debug, Default)]
pub(crate) struct Scopes(BTreeMap<Arc<str>, Scope>);

impl Scopes {
    /// The scope of a mesh, to be extended.
    pub(crate) fn of(&mut self, mesh: &str) -> &mut Scope {
        self.0.entry(mesh.into()).or_default()
    }

    /// Everything in a mesh.
    pub(crate) fn add_everything(&mut self, snapshot: &Snapshot, mesh: &str) {
        if !self.0.get(mesh).is_some_and(|scope| scope.identities) {
            self.add(mesh, Scope::everything(snapshot, mesh));
        }
    }

    /// More in a mesh.
    pub(crate) fn add(&mut self, mesh: &str, scope: Scope) {
        self.of(mesh).merge(scope);
    }

    /// More in several meshes.
    pub(crate) fn merge(&mut self, other: Self) {
        for (mesh, scope) in other.0 {
            self.add(&mesh, scope);
        }
    }

    /// Whether nothing has to be planned.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl IntoIterator for Scopes {
    type Item = (Arc<str>, Scope);
    type IntoIter = std::collections::btree_map::IntoIter<Arc<str>, Scope>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
