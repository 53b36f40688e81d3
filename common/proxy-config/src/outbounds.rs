//! Which destinations a proxy offers to its application, and on which addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use kds_proto::mesh::dataplane::Networking;
use kds_proto::mesh::dataplane::networking::Outbound as Declared;
use kds_proto::mesh::dataplane::networking::transparent_proxying::ReachableBackendRef;
use model::spec::labels_select;
use model::{Kind, Labels, labels};

use crate::view::{Destination, MeshView, inbound_address};

/// A destination and the addresses on which it is offered.
#[derive(Clone, Debug)]
pub(crate) struct Outbound {
    pub(crate) destination: Arc<Destination>,
    /// At least one.
    pub(crate) addresses: Vec<(IpAddr, u32)>,
}

/// Collects outbounds: an address leads to one destination, and never to an own inbound.
struct Collected {
    taken: BTreeSet<(IpAddr, u32)>,
    by_name: BTreeMap<Arc<str>, Outbound>,
}

impl Collected {
    fn new(view: &MeshView, networking: &Networking) -> Self {
        let inbounds = networking.inbound.iter().filter_map(|inbound| {
            let address = view.resolve(inbound_address(networking, inbound))?;
            Some((address, inbound.port))
        });
        Self { taken: inbounds.collect(), by_name: BTreeMap::new() }
    }

    fn add(&mut self, destination: &Arc<Destination>, address: IpAddr, port: u32) {
        if self.taken.insert((address, port)) {
            let outbound = self
                .by_name
                .entry(Arc::clone(&destination.name))
                .or_insert_with(|| Outbound { destination: Arc::clone(destination), addresses: Vec::new() });
            outbound.addresses.push((address, port));
        }
    }

    fn finish(self) -> Vec<Outbound> {
        self.by_name.into_values().collect()
    }
}

/// All virtual addresses, or those that the proxy declares to need.
pub(crate) fn virtual_ones(view: &MeshView, networking: &Networking) -> Vec<Outbound> {
    let transparent = networking.transparent_proxying.as_ref();
    let reachable = transparent.and_then(|transparent| transparent.reachable_backends.as_ref());
    let wanted = |destination: &Destination| {
        reachable.is_none_or(|backends| backends.refs.iter().any(|wanted| refers(wanted, destination)))
    };
    let mut found = Collected::new(view, networking);
    for destination in view.destinations().filter(|destination| wanted(destination)) {
        for vip in &destination.vips {
            found.add(destination, *vip, destination.port);
        }
    }
    found.finish()
}

fn refers(wanted: &ReachableBackendRef, destination: &Destination) -> bool {
    let resource = &destination.resource;
    let named = |name: &str| resource.display_name() == name || resource.name() == name;
    resource.kind().name == wanted.kind
        && (wanted.name.is_empty() || named(&wanted.name))
        && (wanted.namespace.is_empty() || resource.namespace() == Some(&wanted.namespace))
        && labels_select(&wanted.labels, resource)
        && wanted.port.is_none_or(|port| port == destination.port)
}

/// The outbounds that the proxy declares.
pub(crate) fn declared(view: &MeshView, networking: &Networking) -> Vec<Outbound> {
    let mut found = Collected::new(view, networking);
    for outbound in &networking.outbound {
        let Some(destination) = resolve(view, outbound) else { continue };
        let address = match outbound.address.as_str() {
            "" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            address => address.parse().ok(),
        };
        let Some(address) = address.filter(|_| u16::try_from(outbound.port).is_ok_and(|port| port > 0))
        else {
            continue;
        };
        found.add(destination, address, outbound.port);
    }
    found.finish()
}

/// The destination that a declared outbound means: the oldest of those that fit.
fn resolve<'a>(view: &'a MeshView, outbound: &Declared) -> Option<&'a Arc<Destination>> {
    let backend = outbound.backend_ref.as_ref()?;
    let kind = Kind::by_name(&backend.kind)?;
    if backend.labels.is_empty() {
        let legacy = Legacy::parse(&backend.name);
        let wanted = Labels::from([(labels::DISPLAY_NAME.to_owned(), backend.name.clone())]);
        let by_name = oldest(view, kind, &wanted, backend.port, true);
        return by_name.or_else(|| {
            let legacy = legacy?;
            oldest(view, kind, &legacy.labels, legacy.port, true)
        });
    }
    oldest(view, kind, &backend.labels, backend.port, false)
}

/// The oldest destination of a kind with these labels. A port of zero means the only one. Names that people write
/// mean a service of the own zone first: the other zones have services of the same name.
fn oldest<'a>(
    view: &'a MeshView,
    kind: Kind,
    wanted: &Labels,
    port: u32,
    own_zone_first: bool,
) -> Option<&'a Arc<Destination>> {
    let display_name = wanted.get(labels::DISPLAY_NAME).map(String::as_str);
    let candidates =
        view.destinations_of(kind, display_name).filter(|found| labels_select(wanted, &found.resource));
    let (_, chosen) = candidates
        .filter(|found| port == 0 || found.port == port)
        .map(|found| {
            let resource = &found.resource;
            let elsewhere = own_zone_first && resource.zone().is_some_and(|zone| zone != view.zone());
            ((elsewhere, resource.created(), resource.name(), found.port), found)
        })
        .min_by_key(|(age, _)| *age)?;
    Some(chosen)
}

/// The name that services had before they were resources: `name_namespace_svc_port`.
struct Legacy {
    labels: Labels,
    port: u32,
}

impl Legacy {
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.split('_').collect();
        let [name, namespace, "svc", port] = fields.as_slice() else { return None };
        let labels = Labels::from([
            (labels::DISPLAY_NAME.to_owned(), (*name).to_owned()),
            (labels::NAMESPACE.to_owned(), (*namespace).to_owned()),
        ]);
        Some(Self { labels, port: port.parse().ok()? })
    }
}
