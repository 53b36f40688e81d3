//! The proxies of a mesh in this zone, found by label without looking at all of them.

use std::sync::Arc;

use imbl::OrdSet;
use kds_proto::mesh::dataplane::networking::{Inbound, inbound};
use model::spec::{Dataplane, DataplaneInsight, DataplaneProxies, MeshService, TargetPort};
use model::{Key, Kind, Resource, labels};
use store::Snapshot;

use super::filed::{self, Filed, Place};

/// The proxies of a mesh in this zone, ordered by name wherever there are several.
pub(crate) struct Proxies<'a> {
    snapshot: &'a Snapshot,
    mesh: &'a str,
    filed: &'a Filed,
}

impl<'a> Proxies<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot, mesh: &'a str, filed: &'a Filed) -> Self {
        Self { snapshot, mesh, filed }
    }

    /// The proxies of a workload.
    pub(crate) fn of_workload(&self, workload: &str) -> Vec<&'a Arc<Resource>> {
        self.of(self.at(Place::Label(labels::WORKLOAD.into(), workload.into())))
    }

    /// Whether a workload has proxies.
    pub(crate) fn has_workload(&self, workload: &str) -> bool {
        self.at(Place::Label(labels::WORKLOAD.into(), workload.into())).is_some()
    }

    /// The proxies that a service selects.
    pub(crate) fn of_service(&self, service: &MeshService) -> Vec<&'a Arc<Resource>> {
        let names = if let Some(one) = &service.selector.dataplane_ref {
            self.at(Place::Proxy(one.name.as_str().into()))
        } else {
            let wanted = service.selector.dataplane_labels.as_ref();
            let places = wanted.into_iter().flat_map(|wanted| filed::label_places(&wanted.match_labels));
            // Who is filed nowhere is nowhere the fewest.
            let fewest = places.map(|place| self.at(place)).min_by_key(|names| names.map_or(0, OrdSet::len));
            fewest.unwrap_or_else(|| self.at(Place::All))
        };
        let mut found = self.of(names);
        found.retain(|dataplane| filed::selects(service, dataplane));
        found
    }

    fn at(&self, place: Place) -> Option<&'a OrdSet<Arc<str>>> {
        self.filed.at(self.mesh, place)
    }

    fn of(&self, names: Option<&OrdSet<Arc<str>>>) -> Vec<&'a Arc<Resource>> {
        let key = |name: &Arc<str>| Key::new(Kind::DATAPLANE, self.mesh, name);
        names.into_iter().flatten().filter_map(|name| self.snapshot.resource(&key(name))).collect()
    }
}

/// The inbounds of a proxy that count.
pub(crate) fn inbounds(dataplane: &Resource) -> impl Iterator<Item = &Inbound> {
    let networking = dataplane.spec::<Dataplane>().ok().and_then(|spec| spec.networking.as_ref());
    let inbounds = networking.map(|networking| networking.inbound.as_slice()).unwrap_or_default();
    inbounds.iter().filter(|inbound| inbound.state() != inbound::State::Ignored)
}

fn is_ready(inbound: &Inbound) -> bool {
    inbound.state() == inbound::State::Ready && inbound.health.as_ref().is_none_or(|health| health.ready)
}

/// Whether a proxy is ready to serve all of its inbounds.
pub(crate) fn serves_all(dataplane: &Resource) -> bool {
    inbounds(dataplane).all(is_ready)
}

/// Whether a proxy is ready to serve every port of a service.
pub(crate) fn serves(dataplane: &Resource, service: &MeshService) -> bool {
    service.ports.iter().all(|port| {
        let target = port.target();
        inbounds(dataplane).any(|inbound| {
            let same = match &target {
                TargetPort::Number(number) => inbound.port == *number,
                TargetPort::Name(name) => inbound.name == *name,
            };
            same && is_ready(inbound)
        })
    })
}

/// Whether a proxy has an open configuration stream, by its insight.
pub(crate) fn is_connected(insight: &Resource) -> bool {
    insight.spec::<DataplaneInsight>().is_ok_and(|insight| {
        insight
            .subscriptions
            .iter()
            .any(|stream| stream.connect_time.is_some() && stream.disconnect_time.is_none())
    })
}

/// Counts proxies.
pub(crate) fn count(
    snapshot: &Snapshot,
    dataplanes: &[&Arc<Resource>],
    healthy: impl Fn(&Resource) -> bool,
) -> DataplaneProxies {
    let mut counts = DataplaneProxies::default();
    for dataplane in dataplanes {
        let insight = Key::new(Kind::DATAPLANE_INSIGHT, dataplane.mesh(), dataplane.name());
        counts.total += 1;
        counts.connected +=
            u32::from(snapshot.resource(&insight).is_some_and(|insight| is_connected(insight)));
        counts.healthy += u32::from(healthy(dataplane));
    }
    counts
}
