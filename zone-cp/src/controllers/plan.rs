//! What a pass over a mesh wants to write: controllers edit it one after the other, each seeing what those before
//! it want, and all of it is committed at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::labels::{self, Plane};
use model::payload::Typed;
use model::{Key, Kind, Labels, Resource, Timestamp};
use store::{Expect, Op, Snapshot};

/// Kinds that controllers write, in the order in which they are committed: nothing refers to a later one.
const WRITTEN: [Kind; 7] = [
    Kind::SECRET,
    Kind::MESH_TRUST,
    Kind::MESH_IDENTITY,
    Kind::MESH_SERVICE,
    Kind::MESH_MULTI_ZONE_SERVICE,
    Kind::MESH_EXTERNAL_SERVICE,
    Kind::WORKLOAD,
];

/// The wanted state of one mesh.
pub(crate) struct Plan<'a> {
    base: &'a Snapshot,
    next: Snapshot,
    /// The mesh.
    pub(crate) mesh: &'a str,
    /// The control plane that wants it.
    pub(crate) plane: &'a Plane,
    /// When it is made.
    pub(crate) now: Timestamp,
    wakes: BTreeMap<Key, Timestamp>,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(base: &'a Snapshot, mesh: &'a str, plane: &'a Plane, now: Timestamp) -> Self {
        Self { base, next: base.clone(), mesh, plane, now, wakes: BTreeMap::new() }
    }

    /// The state with everything that is wanted so far.
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.next
    }

    /// The zone's name.
    pub(crate) fn zone(&self) -> &'a str {
        self.plane.zone().unwrap_or_default()
    }

    /// Resources of a kind in the mesh, as wanted so far.
    pub(crate) fn list(&self, kind: Kind) -> Vec<Arc<Resource>> {
        self.next.in_mesh(kind, self.mesh).cloned().collect()
    }

    /// One resource of the mesh, as wanted so far.
    pub(crate) fn find(&self, kind: Kind, name: &str) -> Option<Arc<Resource>> {
        self.next.resource(&Key::new(kind, self.mesh, name)).cloned()
    }

    /// Whether a resource was authored in this zone.
    pub(crate) fn is_own(&self, resource: &Resource) -> bool {
        is_own(self.plane, resource)
    }

    /// Labels of a resource that this zone makes.
    pub(crate) fn labels(&self, kind: Kind, name: &str, managed_by: &str) -> Labels {
        let given = Labels::from([(labels::MANAGED_BY.into(), managed_by.into())]);
        labels::compute(self.plane, kind, self.mesh, name, &given, None)
    }

    /// Wants a resource; one that says the same as before is not written.
    pub(crate) fn put(&mut self, builder: model::resource::Builder) {
        let held = self.next.resource(&builder.key);
        let (now, created) = (self.now, held.map_or(self.now, |held| held.created()));
        let resource = model::resource::Builder { created, modified: now, ..builder }.build();
        if held.is_none_or(|held| !held.same_content(&resource)) {
            self.next = std::mem::take(&mut self.next).with(resource);
        }
    }

    /// Wants a status of a resource; encodes it only when it is another.
    pub(crate) fn put_status<T: Typed + PartialEq>(&mut self, held: &Resource, status: &T) {
        if held.status::<T>().ok() != Some(status) {
            self.put(held.to_builder().status(status));
        }
    }

    /// Wants a resource gone.
    pub(crate) fn remove(&mut self, key: &Key) {
        if self.next.get(key).is_some() {
            self.next = std::mem::take(&mut self.next).without(key);
        }
    }

    /// Asks for another pass over what belongs to a resource at a time, whatever changes until then.
    pub(crate) fn wake_at(&mut self, key: &Key, time: Timestamp) {
        let wake = self.wakes.entry(key.clone()).or_insert(time);
        *wake = time.min(*wake);
    }

    /// When another pass is due, and for what.
    pub(crate) fn into_wakes(self) -> BTreeMap<Key, Timestamp> {
        self.wakes
    }

    /// The state before anything was wanted.
    pub(crate) fn base(&self) -> &'a Snapshot {
        self.base
    }

    /// The writes that lead from what is there to what is wanted. Each expects what the pass has seen.
    pub(crate) fn ops(&self) -> Vec<Op> {
        WRITTEN
            .into_iter()
            .flat_map(|kind| self.next.changed_keys(self.base, kind))
            .filter_map(|key| self.op(key))
            .collect()
    }

    fn op(&self, key: Key) -> Option<Op> {
        let held = self.base.get(&key);
        let expect = held.map_or(Expect::Absent, |held| Expect::At(held.revision));
        match (self.next.resource(&key), held) {
            (Some(next), Some(held)) if held.resource.same_content(next) => None,
            (Some(next), _) => Some(Op::Put(Arc::clone(next), expect)),
            (None, Some(_)) => Some(Op::Delete(key, expect)),
            (None, None) => None,
        }
    }
}

/// Whether a resource was authored in the zone of a control plane.
pub(crate) fn is_own(plane: &Plane, resource: &Resource) -> bool {
    let zone = plane.zone().unwrap_or_default();
    plane.authored_here(resource.labels()) && resource.zone().is_none_or(|of| of == zone)
}
