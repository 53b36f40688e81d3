//! The destinations of a mesh: services of this zone, of other zones, over several zones, and outside the mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;
use model::spec::{
    Address, MeshExternalService, MeshExternalServiceStatus, MeshMultiZoneService,
    MeshMultiZoneServiceStatus, MeshService, MeshServiceStatus, MeshZoneAddress, Protocol, ServiceIdentity,
    ServicePort, ServiceState, TlsStatus, Vip,
};
use model::{Key, Kind, Labels, Resource, labels};
use store::Snapshot;

use super::destination::Destination;
use super::endpoint::{Endpoint, assignment};
use super::members::{Change, Member, Members, is_port};
use super::names::Names;
use crate::config::{ConfigResource, ResourceType};
use crate::spiffe;

/// Endpoints in other zones are used when those in the own one fail.
const OTHER_ZONE: u32 = 1;

/// The destinations of a mesh.
#[derive(Clone, Debug, Default)]
pub(crate) struct Services {
    /// By the resource that they are made of.
    of: OrdMap<Key, Vec<Arc<Destination>>>,
    by_name: BTreeMap<Arc<str>, Arc<Destination>>,
    by_display_name: BTreeMap<(Kind, String), Vec<Arc<Destination>>>,
    places: Places,
    /// Changes with everything but endpoints.
    shape: Arc<()>,
}

/// Where other zones are entered and this one is left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Places {
    /// Addresses of the ingresses of other zones; none while the mesh has no identities to be told apart by.
    ingresses: BTreeMap<String, BTreeSet<(String, u32)>>,
    /// Addresses of the egresses of this zone.
    egresses: BTreeSet<(String, u32)>,
    egress_identities: Vec<String>,
    /// Host names that stand where addresses are needed.
    hosts: Vec<String>,
}

/// What destinations are made from.
pub(super) struct Source<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) mesh: &'a str,
    pub(super) zone: &'a str,
    pub(super) identities: &'a [Arc<Resource>],
    pub(super) members: &'a Members,
    pub(super) names: &'a Names<'a>,
}

/// What is another one since the older destinations were made.
pub(super) struct Since<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) services: &'a Arc<Services>,
    pub(super) members: &'a [Change],
}

/// Makes destinations.
struct Builder<'a> {
    zone: &'a str,
    members: &'a Members,
    places: &'a Places,
}

impl Services {
    /// The destinations of a mesh. Those that are as they were are the same ones as before.
    pub(super) fn of(source: &Source<'_>, since: Option<&Since<'_>>) -> Arc<Self> {
        let places = Places::of(source);
        let differ = |a: &Places| a.ingresses != places.ingresses;
        let is_entered_elsewhere = since.is_some_and(|since| differ(&since.services.places));
        let builder = Builder { zone: source.zone, members: source.members, places: &places };
        let Source { snapshot, mesh, .. } = source;
        let mut making = Making {
            since,
            of: OrdMap::new(),
            touched: BTreeSet::new(),
            is_other: false,
            is_reshaped: false,
        };
        for resource in snapshot.in_mesh(Kind::MESH_SERVICE, mesh) {
            let is_touched = || match builder.other_zone(resource) {
                Some(_) => is_entered_elsewhere,
                None => since.is_some_and(|since| builder.is_touched(resource, since.members)),
            };
            making.add(resource, is_touched, || {
                Service::read(resource).map(|service| builder.service(&service)).unwrap_or_default()
            });
        }
        making.remove_others(Kind::MESH_SERVICE);
        let touched = std::mem::take(&mut making.touched);
        for resource in snapshot.in_mesh(Kind::MESH_MULTI_ZONE_SERVICE, mesh) {
            let is_touched = || {
                let Ok(spec) = resource.spec::<MeshMultiZoneService>() else { return false };
                let was = |key: &Key| since.and_then(|since| since.snapshot.resource(key));
                let is = |key: &Key| snapshot.resource(key);
                touched.iter().any(|key| {
                    [was(key), is(key)].into_iter().flatten().any(|it| spec.selector.mesh_service.selects(it))
                })
            };
            making.add(resource, is_touched, || {
                let services = snapshot.in_mesh(Kind::MESH_SERVICE, mesh);
                builder.multi_zone(resource, services).unwrap_or_default()
            });
        }
        making.remove_others(Kind::MESH_MULTI_ZONE_SERVICE);
        let left = |places: &Places| (places.egresses.clone(), places.egress_identities.clone());
        let moved = since.is_some_and(|since| left(&since.services.places) != left(&places));
        for resource in snapshot.in_mesh(Kind::MESH_EXTERNAL_SERVICE, mesh) {
            making.add(resource, || moved, || builder.external(resource).into_iter().collect());
        }
        making.remove_others(Kind::MESH_EXTERNAL_SERVICE);
        making.finish(places)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Destination>> {
        self.by_name.values()
    }

    /// The destination of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Destination>> {
        self.by_name.get(name)
    }

    pub(crate) fn named(&self, kind: Kind, display_name: &str) -> &[Arc<Destination>] {
        self.by_display_name.get(&(kind, display_name.to_owned())).map(Vec::as_slice).unwrap_or_default()
    }

    /// The same value as long as nothing but endpoints changes.
    pub(crate) fn shape(&self) -> &Arc<()> {
        &self.shape
    }

    /// Host names that stand where addresses are needed.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &String> {
        self.places.hosts.iter()
    }
}

/// Destinations in the making.
struct Making<'a> {
    since: Option<&'a Since<'a>>,
    of: OrdMap<Key, Vec<Arc<Destination>>>,
    /// Resources whose destinations are others, or gone.
    touched: BTreeSet<Key>,
    is_other: bool,
    is_reshaped: bool,
}

impl Making<'_> {
    fn add(
        &mut self,
        resource: &Arc<Resource>,
        is_touched: impl FnOnce() -> bool,
        make: impl FnOnce() -> Vec<Destination>,
    ) {
        let key = resource.key();
        let held = self.since.and_then(|since| {
            let held = since.services.of.get(key)?;
            Some((since.snapshot.resource(key)?, held))
        });
        if let Some((before, held)) = held
            && Arc::ptr_eq(before, resource)
            && !is_touched()
        {
            self.of.insert(key.clone(), held.clone());
            return;
        }
        let held = held.map(|(_, held)| held.as_slice()).unwrap_or_default();
        let made: Vec<_> = make().into_iter().map(|made| kept(made, held)).collect();
        let is_same = made.len() == held.len() && made.iter().zip(held).all(|(a, b)| Arc::ptr_eq(a, b));
        if !is_same {
            self.is_other = true;
            let has_same_shape =
                made.len() == held.len() && made.iter().zip(held).all(|(a, b)| a.has_same_shape(b));
            self.is_reshaped |= !has_same_shape;
            self.touched.insert(key.clone());
        }
        self.of.insert(key.clone(), made);
    }

    /// Notes which resources of a kind are gone.
    fn remove_others(&mut self, kind: Kind) {
        let Some(since) = self.since else { return };
        let gone =
            since.services.of.iter().filter(|(key, _)| key.kind == kind && !self.of.contains_key(*key));
        let gone: Vec<_> = gone.map(|(key, _)| key.clone()).collect();
        if !gone.is_empty() {
            (self.is_other, self.is_reshaped) = (true, true);
            self.touched.extend(gone);
        }
    }

    fn finish(self, places: Places) -> Arc<Services> {
        if let Some(since) = self.since
            && !self.is_other
        {
            if since.services.places == places {
                return Arc::clone(since.services);
            }
            return Arc::new(Services { places, ..Services::clone(since.services) });
        }
        let shape = self.since.filter(|_| !self.is_reshaped).map(|since| Arc::clone(&since.services.shape));
        let mut found = Services { places, shape: shape.unwrap_or_default(), ..Services::default() };
        // The first of a name stays; resources come in the order of their names.
        for destination in self.of.values().flatten() {
            found.by_name.entry(Arc::clone(&destination.name)).or_insert_with(|| Arc::clone(destination));
        }
        for destination in found.by_name.values() {
            let key = (destination.resource.kind(), destination.resource.display_name().to_owned());
            found.by_display_name.entry(key).or_default().push(Arc::clone(destination));
        }
        found.of = self.of;
        Arc::new(found)
    }
}

/// The destination that was there before, if it is the same.
fn kept(made: Destination, held: &[Arc<Destination>]) -> Arc<Destination> {
    let same = held.iter().find(|held| held.name == made.name && held.is_same(&made));
    same.map_or_else(|| Arc::new(made), Arc::clone)
}

impl Places {
    fn of(source: &Source<'_>) -> Self {
        let mut places = Self::default();
        let addresses = source.snapshot.in_mesh(Kind::MESH_ZONE_ADDRESS, source.mesh);
        for resource in addresses.filter(|_| !source.identities.is_empty()) {
            let Ok(spec) = resource.spec::<MeshZoneAddress>() else { continue };
            let address = source.names.address(&spec.address, &mut places.hosts);
            let (Some(of), Some(address)) = (resource.zone(), address) else { continue };
            if of != source.zone && is_port(spec.port) {
                places.ingresses.entry(of.to_owned()).or_default().insert((address.to_string(), spec.port));
            }
        }
        let egresses = source.members.egresses().flat_map(|member| &member.egress);
        places.egresses = egresses.map(|(address, port)| (address.to_string(), *port)).collect();
        let ids = source.members.egresses().filter_map(|member| {
            let identity = spiffe::select(source.identities, &member.dataplane)?;
            spiffe::id(identity, &member.dataplane, source.zone)
        });
        places.egress_identities = ids.collect::<BTreeSet<_>>().into_iter().collect();
        places
    }
}

/// A MeshService that can be read.
struct Service<'a> {
    resource: &'a Arc<Resource>,
    spec: &'a MeshService,
    status: MeshServiceStatus,
}

impl<'a> Service<'a> {
    fn read(resource: &'a Arc<Resource>) -> Option<Self> {
        let spec = resource.spec::<MeshService>().ok()?;
        let status = resource.status::<MeshServiceStatus>().cloned().unwrap_or_default();
        Some(Self { resource, spec, status })
    }

    fn identities(&self) -> impl Iterator<Item = &str> {
        let spiffe =
            self.spec.identities.iter().filter(|identity| identity.r#type == ServiceIdentity::SPIFFE);
        spiffe.map(|identity| identity.value.as_str())
    }
}

/// What a destination has beside its name and endpoints.
struct Facts<'a> {
    resource: &'a Arc<Resource>,
    port: u32,
    section: String,
    protocol: Protocol,
    vips: &'a [Vip],
    addresses: &'a [Address],
    identities: Vec<String>,
    accepts_tls: bool,
}

impl Facts<'_> {
    /// `None` for what cannot be routed: a port that is none, a name that is too long or has other characters.
    fn build(self, endpoints: Vec<Endpoint>, own_zone: Option<Vec<Endpoint>>) -> Option<Destination> {
        let (name, sni) = Destination::names(&self.resource.kri()?, &self.section)?;
        let encode =
            |endpoints| ConfigResource::encode(ResourceType::Endpoint, &assignment(&name, endpoints));
        let mut hostnames: Vec<_> = self
            .addresses
            .iter()
            .map(|address| address.hostname.clone())
            .filter(|name| !name.is_empty())
            .collect();
        hostnames.sort();
        hostnames.dedup();
        is_port(self.port).then(|| Destination {
            resource: Arc::clone(self.resource),
            assignment: encode(endpoints.clone()),
            endpoints,
            own_zone: own_zone.map(encode),
            section: self.section,
            port: self.port,
            protocol: self.protocol,
            vips: self.vips.iter().filter_map(|vip| vip.ip.parse().ok()).collect(),
            hostnames,
            identities: self.identities,
            accepts_tls: self.accepts_tls,
            sni,
            name: Arc::clone(&name),
        })
    }
}

impl Builder<'_> {
    /// Whether a proxy that is another one now serves a service, or did.
    fn is_touched(&self, service: &Resource, members: &[Change]) -> bool {
        let Ok(spec) = service.spec::<MeshService>() else { return false };
        let selector = &spec.selector;
        let serves = |member: &Arc<Member>| {
            selector.dataplane_ref.as_ref().is_some_and(|of| of.name == member.dataplane.name())
                || selector.dataplane_labels.as_ref().is_some_and(|labels| labels.selects(&member.dataplane))
        };
        members.iter().any(|(before, after)| [before, after].into_iter().flatten().any(serves))
    }

    /// The zone of a resource that is not of this zone.
    fn other_zone<'r>(&self, resource: &'r Resource) -> Option<&'r str> {
        resource.zone().filter(|zone| *zone != self.zone)
    }

    /// Endpoints of a port, and whether they are in this zone.
    fn endpoints(&self, service: &Service<'_>, port: &ServicePort) -> (Vec<Endpoint>, bool) {
        match self.other_zone(service.resource) {
            None => (self.own_endpoints(service.spec, port), true),
            Some(zone) => (self.other_endpoints(zone), false),
        }
    }

    fn own_endpoints(&self, service: &MeshService, port: &ServicePort) -> Vec<Endpoint> {
        let target = port.target();
        let selector = &service.selector;
        let by_name = selector.dataplane_ref.as_ref().and_then(|of| self.members.named(&of.name));
        let by_labels = selector.dataplane_labels.iter().flat_map(|labels| self.members.select(labels));
        let ports = by_name.into_iter().chain(by_labels).flat_map(|member| {
            let zone = member.dataplane.zone().unwrap_or(self.zone);
            member.ports.iter().map(move |port| (zone, port))
        });
        let endpoint = |(zone, port): (&str, &super::members::Port)| Endpoint {
            zone: zone.into(),
            sub_zone: String::new(),
            priority: 0,
            host: port.address.to_string(),
            port: port.port,
            tags: Arc::clone(&port.tags),
        };
        ports.filter(|(_, port)| port.is(&target)).map(endpoint).collect()
    }

    fn other_endpoints(&self, zone: &str) -> Vec<Endpoint> {
        let tags = Arc::new(Labels::from([(labels::ZONE.to_owned(), zone.to_owned())]));
        let places = self.places.ingresses.get(zone).into_iter().flatten();
        let endpoint = |(host, port): &(String, u32)| Endpoint {
            zone: zone.into(),
            sub_zone: String::new(),
            priority: OTHER_ZONE,
            host: host.clone(),
            port: *port,
            tags: Arc::clone(&tags),
        };
        places.map(endpoint).collect()
    }

    fn service(&self, service: &Service<'_>) -> Vec<Destination> {
        let identities: BTreeSet<_> = service.identities().map(str::to_owned).collect();
        let ports = service.spec.ports.iter().filter_map(|port| {
            let (endpoints, own) = self.endpoints(service, port);
            let facts = Facts {
                resource: service.resource,
                port: port.port,
                section: port.section(),
                protocol: port.protocol(),
                vips: &service.status.vips,
                addresses: &service.status.addresses,
                identities: identities.iter().cloned().collect(),
                accepts_tls: !own || service.status.tls.status == Some(TlsStatus::Ready),
            };
            let own_zone = own.then(|| endpoints.clone());
            facts.build(endpoints, own_zone)
        });
        ports.collect()
    }

    fn multi_zone<'r>(
        &self,
        resource: &Arc<Resource>,
        services: impl Iterator<Item = &'r Arc<Resource>>,
    ) -> Option<Vec<Destination>> {
        let spec = resource.spec::<MeshMultiZoneService>().ok()?;
        let status = resource.status::<MeshMultiZoneServiceStatus>().cloned().unwrap_or_default();
        if spec.selector.mesh_service.match_labels.is_empty() {
            return None;
        }
        let selected = services.filter(|service| spec.selector.mesh_service.selects(service));
        let matched: Vec<_> = selected.filter_map(Service::read).collect();
        let identities: BTreeSet<_> = matched.iter().flat_map(|service| service.identities()).collect();
        let ports = spec.ports.iter().filter_map(|port| {
            let (mut all, mut own) = (Vec::new(), Vec::new());
            for service in &matched {
                let found = service.spec.ports.iter().find(|candidate| candidate.section() == port.section());
                let Some(found) = found else { continue };
                let (endpoints, is_own) = self.endpoints(service, found);
                if is_own {
                    own.extend(endpoints.iter().cloned());
                }
                if is_own || service.spec.state == ServiceState::Available {
                    all.extend(endpoints);
                }
            }
            let facts = Facts {
                resource,
                port: port.port,
                section: port.section(),
                protocol: port.protocol(),
                vips: &status.vips,
                addresses: &status.addresses,
                identities: identities.iter().map(|id| (*id).to_owned()).collect(),
                accepts_tls: true,
            };
            let own_zone = (!own.is_empty()).then_some(own);
            facts.build(all, own_zone)
        });
        Some(ports.collect())
    }

    fn external(&self, resource: &Arc<Resource>) -> Option<Destination> {
        let spec = resource.spec::<MeshExternalService>().ok()?;
        let status = resource.status::<MeshExternalServiceStatus>().cloned().unwrap_or_default();
        let tags = Arc::new(resource.labels().clone());
        let endpoint = |(host, port): &(String, u32)| Endpoint {
            zone: String::new(),
            sub_zone: String::new(),
            priority: 0,
            host: host.clone(),
            port: *port,
            tags: Arc::clone(&tags),
        };
        let facts = Facts {
            resource,
            port: spec.r#match.port,
            section: spec.r#match.port.to_string(),
            protocol: spec.r#match.protocol(),
            vips: status.vip.as_slice(),
            addresses: &status.addresses,
            identities: self.places.egress_identities.clone(),
            accepts_tls: !self.places.egress_identities.is_empty(),
        };
        facts.build(self.places.egresses.iter().map(endpoint).collect(), None)
    }
}
