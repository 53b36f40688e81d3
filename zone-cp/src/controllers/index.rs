//! What controllers remember of a snapshot, so that a change leads to what it concerns. It follows by difference and
//! says nothing that the snapshot does not: an index that starts anew is the same.

use std::collections::BTreeSet;

use model::labels::Plane;
use model::spec::{Dataplane, MeshMultiZoneService, MeshService};
use model::{Key, Kind, Resource};
use store::Snapshot;

use super::filed::{self, Filed};
use super::names::Names;
use super::scope::{Scopes, workload};
use super::vips::Taken;
use super::{DESTINATIONS, plan, proxies};

/// Kinds that say which identity a proxy has: rare to change, and everything may follow from them.
const IDENTITIES: [Kind; 3] = [Kind::MESH_IDENTITY, Kind::MESH_TRUST, Kind::SECRET];

/// What controllers remember, over all meshes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    /// The zone's own proxies, under their labels.
    pub(crate) proxies: Filed,
    /// The zone's own MeshServices, under what they select.
    services: Filed,
    /// What destinations have to themselves.
    pub(crate) claims: Claims,
}

impl Index {
    /// Follows to a newer snapshot and answers what has to be planned again.
    pub(crate) fn advance(&mut self, plane: &Plane, older: &Snapshot, newer: &Snapshot) -> Scopes {
        let mut scopes = Scopes::default();
        for key in newer.changed_keys(older, Kind::MESH) {
            scopes.add_everything(newer, &key.name);
        }
        for key in IDENTITIES.into_iter().flat_map(|kind| newer.changed_keys(older, kind)) {
            scopes.add_everything(newer, &key.mesh);
        }
        if newer.differs(older, Kind::HOSTNAME_GENERATOR) {
            // They name the destinations of every mesh.
            for mesh in newer.kind(Kind::MESH) {
                scopes.add_everything(newer, mesh.name());
            }
            self.claims = Claims::new(newer);
        } else {
            for key in self.claims.advance(older, newer) {
                scopes.of(&key.mesh).destinations.insert(key.clone());
            }
        }
        self.services(plane, older, newer, &mut scopes);
        self.proxies(plane, older, newer, &mut scopes);
        for key in newer.changed_keys(older, Kind::WORKLOAD) {
            scopes.of(&key.mesh).services.insert(key.name);
        }
        for key in newer.changed_keys(older, Kind::MESH_MULTI_ZONE_SERVICE) {
            scopes.of(&key.mesh).multi_zone.insert(key.name);
        }
        scopes
    }

    fn services(&mut self, plane: &Plane, older: &Snapshot, newer: &Snapshot, scopes: &mut Scopes) {
        for key in newer.changed_keys(older, Kind::MESH_SERVICE) {
            let (before, after) = (older.resource(&key), newer.resource(&key));
            let places = |service: &Resource| {
                let spec = service.spec::<MeshService>().ok().filter(|_| plan::is_own(plane, service));
                spec.and_then(filed::place_of_service).into_iter().collect()
            };
            if let Some(service) = after.or(before) {
                let places = [before, after].map(|held| held.map(|held| places(held)).unwrap_or_default());
                let [from, to] = places;
                self.services.refile(service, from, to);
            }
            let scope = scopes.of(&key.mesh);
            scope.multi_zone.extend(multi_zone_of(newer, &key, before.map(|a| &**a), after.map(|a| &**a)));
            scope.services.insert(key.name);
        }
    }

    fn proxies(&mut self, plane: &Plane, older: &Snapshot, newer: &Snapshot, scopes: &mut Scopes) {
        for key in newer.changed_keys(older, Kind::DATAPLANE) {
            let served = |held: &&Resource| plan::is_own(plane, held) && held.spec::<Dataplane>().is_ok();
            let [before, after] =
                [older, newer].map(|snapshot| snapshot.resource(&key).map(|held| &**held).filter(served));
            if let Some(dataplane) = after.or(before) {
                let places = |held: Option<&Resource>| held.map(filed::places_of_proxy).unwrap_or_default();
                self.proxies.refile(dataplane, places(before), places(after));
            }
            for dataplane in [before, after].into_iter().flatten() {
                self.concern(dataplane, newer, scopes);
            }
        }
        // Of an insight only counts whether its proxy is connected: everything else in it changes all the time.
        for key in newer.changed_keys(older, Kind::DATAPLANE_INSIGHT) {
            let connected =
                |held: &Snapshot| held.resource(&key).is_some_and(|insight| proxies::is_connected(insight));
            let dataplane = Key::new(Kind::DATAPLANE, &key.mesh, &key.name);
            if connected(older) != connected(newer)
                && let Some(dataplane) = newer.resource(&dataplane)
            {
                self.concern(dataplane, newer, scopes);
            }
        }
    }

    /// Adds the services that select a proxy, and its workload.
    fn concern(&self, dataplane: &Resource, snapshot: &Snapshot, scopes: &mut Scopes) {
        let scope = scopes.of(dataplane.mesh());
        scope.services.extend(workload(dataplane));
        for place in filed::places_of_proxy(dataplane) {
            for name in self.services.at(dataplane.mesh(), place).into_iter().flatten() {
                let service = snapshot.resource(&Key::new(Kind::MESH_SERVICE, dataplane.mesh(), name));
                let spec = service.and_then(|service| service.spec::<MeshService>().ok());
                if spec.is_some_and(|spec| filed::selects(spec, dataplane)) {
                    scope.services.insert(name.clone());
                }
            }
        }
    }
}

/// The MeshMultiZoneServices that a MeshService was or is part of; none when it stays the same part.
pub(crate) fn multi_zone_of(
    snapshot: &Snapshot,
    service: &Key,
    before: Option<&Resource>,
    after: Option<&Resource>,
) -> Vec<std::sync::Arc<str>> {
    if before.map(Resource::labels) == after.map(Resource::labels) {
        return Vec::new();
    }
    let is_concerned = |held: &Resource| {
        let spec = held.spec::<MeshMultiZoneService>();
        let services = [before, after].into_iter().flatten();
        spec.is_ok_and(|spec| services.clone().any(|service| spec.selector.mesh_service.selects(service)))
    };
    let all = snapshot.in_mesh(Kind::MESH_MULTI_ZONE_SERVICE, &service.mesh);
    all.filter(|held| is_concerned(held)).map(|held| held.key().name.clone()).collect()
}

/// What destinations want to have to themselves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    /// Virtual addresses.
    pub(crate) taken: Taken,
    /// Hostnames.
    pub(crate) names: Names,
}

impl Claims {
    fn new(snapshot: &Snapshot) -> Self {
        let mut claims = Self { taken: Taken::default(), names: Names::new(snapshot) };
        claims.advance(&Snapshot::default(), snapshot);
        claims
    }

    /// Follows to a newer snapshot with the same generators and answers whose address or hostnames may be others.
    pub(crate) fn advance(&mut self, older: &Snapshot, newer: &Snapshot) -> BTreeSet<Key> {
        let mut touched = BTreeSet::new();
        for key in DESTINATIONS.into_iter().flat_map(|kind| newer.changed_keys(older, kind)) {
            let (before, after) = (older.resource(&key), newer.resource(&key));
            let (before, after) = (before.map(|held| &**held), after.map(|held| &**held));
            self.taken.follow(before, after, &mut touched);
            self.names.follow(before, after, &mut touched);
            touched.insert(key);
        }
        self.taken.settle(newer, &mut touched);
        touched
    }
}
