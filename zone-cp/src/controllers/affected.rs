//! Which meshes a change concerns.

use std::collections::BTreeSet;

use model::{Key, Kind};
use store::Snapshot;

use super::proxies;

/// Kinds of a mesh from which something follows, or that are kept as wanted.
const READ: [Kind; 9] = [
    Kind::DATAPLANE,
    Kind::MESH_EXTERNAL_SERVICE,
    Kind::MESH_IDENTITY,
    Kind::MESH_MULTI_ZONE_SERVICE,
    Kind::MESH_SERVICE,
    Kind::MESH_TRUST,
    Kind::SECRET,
    Kind::WORKLOAD,
    Kind::DATAPLANE_INSIGHT,
];

/// The meshes that differ, for what controllers read, between two snapshots.
pub(super) fn meshes(snapshot: &Snapshot, older: &Snapshot) -> BTreeSet<String> {
    // A hostname generator names the destinations of every mesh.
    if snapshot.differs(older, Kind::HOSTNAME_GENERATOR) {
        return snapshot.kind(Kind::MESH).map(|mesh| mesh.name().to_owned()).collect();
    }
    let mut meshes: BTreeSet<String> =
        snapshot.changed_keys(older, Kind::MESH).iter().map(|key| (*key.name).to_owned()).collect();
    for kind in READ {
        for key in snapshot.changed_keys(older, kind) {
            if !meshes.contains(&*key.mesh) && matters(snapshot, older, &key) {
                meshes.insert((*key.mesh).to_owned());
            }
        }
    }
    meshes
}

/// Of an insight only counts whether its proxy is connected: everything else in it changes all the time.
fn matters(snapshot: &Snapshot, older: &Snapshot, key: &Key) -> bool {
    let connected =
        |snapshot: &Snapshot| snapshot.resource(key).is_some_and(|insight| proxies::is_connected(insight));
    key.kind != Kind::DATAPLANE_INSIGHT || connected(snapshot) != connected(older)
}

#[cfg(test)]
mod tests {
    use kds_proto::mesh::{DataplaneInsight, DiscoverySubscription};
    use model::Resource;

    use super::*;

    fn insight(connected: bool, generation: u32) -> Resource {
        let connect_time = connected.then(Default::default);
        let stream = DiscoverySubscription { connect_time, generation, ..Default::default() };
        let spec = DataplaneInsight { subscriptions: vec![stream], ..Default::default() };
        Resource::builder(Key::new(Kind::DATAPLANE_INSIGHT, "a", "web")).spec(&spec).build()
    }

    #[test]
    fn only_meshes_with_a_change_that_matters_are_affected() {
        let mesh = |name| Resource::builder(Key::global(Kind::MESH, name)).build();
        let start = Snapshot::default().with(mesh("a")).with(mesh("b")).with(insight(true, 1));
        let changed = |next: &Snapshot| meshes(next, &start).into_iter().collect::<Vec<_>>();
        let policy = Resource::builder(Key::new(Kind::MESH_TIMEOUT, "a", "t")).build();
        assert!(changed(&start.clone().with(policy)).is_empty());
        assert!(changed(&start.clone().with(insight(true, 2))).is_empty());
        assert_eq!(changed(&start.clone().with(insight(false, 3))), ["a"]);
        let dataplane = Resource::builder(Key::new(Kind::DATAPLANE, "b", "web")).build();
        assert_eq!(changed(&start.clone().with(dataplane)), ["b"]);
        let generator = Resource::builder(Key::global(Kind::HOSTNAME_GENERATOR, "g")).build();
        assert_eq!(changed(&start.clone().with(generator)), ["a", "b"]);
    }
}
