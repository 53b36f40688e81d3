//! The proxies of a mesh in this zone, found by label without looking at all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use kds_proto::mesh::dataplane::networking::{Inbound, inbound};
use model::spec::{Dataplane, DataplaneInsight, DataplaneProxies, MeshService, TargetPort, labels_select};
use model::{Key, Kind, Resource, labels};
use store::Snapshot;

use super::plan::Plan;

/// The proxies of a mesh in this zone.
pub(crate) struct Proxies {
    all: Vec<Arc<Resource>>,
    /// Positions in `all`, by workload: generated services select by it.
    by_workload: BTreeMap<String, Vec<usize>>,
    by_name: BTreeMap<String, usize>,
}

impl Proxies {
    pub(crate) fn new(plan: &Plan<'_>) -> Self {
        let mut all = plan.list(Kind::DATAPLANE);
        all.retain(|dataplane| plan.is_own(dataplane) && dataplane.spec::<Dataplane>().is_ok());
        let mut by_workload: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut by_name = BTreeMap::new();
        for (at, dataplane) in all.iter().enumerate() {
            by_name.insert(dataplane.name().to_owned(), at);
            if let Some(workload) = dataplane.label(labels::WORKLOAD) {
                by_workload.entry(workload.to_owned()).or_default().push(at);
            }
        }
        Self { all, by_workload, by_name }
    }

    /// Workloads with their proxies, ordered by name.
    pub(crate) fn workloads(&self) -> impl Iterator<Item = (&str, Vec<&Arc<Resource>>)> {
        self.by_workload.iter().map(|(workload, at)| (workload.as_str(), self.at(at)))
    }

    /// The proxies of a workload.
    pub(crate) fn of_workload(&self, workload: &str) -> Vec<&Arc<Resource>> {
        self.by_workload.get(workload).map(|at| self.at(at)).unwrap_or_default()
    }

    /// The proxies that a service selects; a selector that says nothing selects nothing.
    pub(crate) fn of_service(&self, service: &MeshService) -> Vec<&Arc<Resource>> {
        let selector = &service.selector;
        if let Some(one) = &selector.dataplane_ref {
            let at = self.by_name.get(&one.name);
            return at.and_then(|at| self.all.get(*at)).into_iter().collect();
        }
        let Some(wanted) = selector.dataplane_labels.as_ref().map(|selector| &selector.match_labels) else {
            return Vec::new();
        };
        let candidates = match wanted.get(labels::WORKLOAD) {
            Some(workload) => self.of_workload(workload),
            None => self.all.iter().collect(),
        };
        candidates.into_iter().filter(|dataplane| labels_select(wanted, dataplane)).collect()
    }

    fn at(&self, positions: &[usize]) -> Vec<&Arc<Resource>> {
        positions.iter().filter_map(|at| self.all.get(*at)).collect()
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
