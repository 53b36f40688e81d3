//! The destinations of a mesh: services of this zone, of other zones, over several zones, and outside the mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::spec::{
    Address, MeshExternalService, MeshExternalServiceStatus, MeshMultiZoneService,
    MeshMultiZoneServiceStatus, MeshService, MeshServiceStatus, MeshZoneAddress, Protocol, ServiceIdentity,
    ServicePort, ServiceState, TlsStatus, Vip,
};
use model::{Kind, Labels, Resource, labels};
use store::Snapshot;

use super::destination::Destination;
use super::endpoint::{Endpoint, assignment};
use super::members::{Members, is_port};
use super::names::Names;
use crate::config::{ConfigResource, ResourceType};
use crate::spiffe;

/// Endpoints in other zones are used when those in the own one fail.
const OTHER_ZONE: u32 = 1;

/// The destinations of a mesh.
#[derive(Clone, Debug, Default)]
pub(crate) struct Services {
    by_name: BTreeMap<Arc<str>, Arc<Destination>>,
    by_display_name: BTreeMap<(Kind, String), Vec<Arc<Destination>>>,
}

/// What destinations are made from.
struct Builder<'a> {
    zone: &'a str,
    members: &'a Members,
    /// Addresses of the ingresses of other zones; none while the mesh has no identities to be told apart by.
    ingresses: BTreeMap<&'a str, BTreeSet<(String, u32)>>,
    /// Addresses of the egresses of this zone.
    egresses: BTreeSet<(String, u32)>,
    egress_identities: Vec<String>,
}

impl Services {
    pub(crate) fn new(
        snapshot: &Snapshot,
        (mesh, zone): (&str, &str),
        identities: &[Arc<Resource>],
        members: &Members,
        names: &mut Names<'_>,
    ) -> Self {
        let mut ingresses: BTreeMap<&str, BTreeSet<(String, u32)>> = BTreeMap::new();
        let addresses = snapshot.in_mesh(Kind::MESH_ZONE_ADDRESS, mesh);
        for resource in addresses.filter(|_| !identities.is_empty()) {
            let Ok(spec) = resource.spec::<MeshZoneAddress>() else { continue };
            let (Some(of), Some(address)) = (resource.zone(), names.address(&spec.address)) else { continue };
            if of != zone && is_port(spec.port) {
                ingresses.entry(of).or_default().insert((address.to_string(), spec.port));
            }
        }
        let builder = Builder {
            zone,
            members,
            ingresses,
            egresses: egresses(members),
            egress_identities: egress_identities(members, identities, zone),
        };
        let mut found = Self::default();
        let services: Vec<_> = snapshot.in_mesh(Kind::MESH_SERVICE, mesh).filter_map(Service::read).collect();
        for service in &services {
            found.add(builder.service(service));
        }
        for resource in snapshot.in_mesh(Kind::MESH_MULTI_ZONE_SERVICE, mesh) {
            found.add(builder.multi_zone(resource, &services).unwrap_or_default());
        }
        for resource in snapshot.in_mesh(Kind::MESH_EXTERNAL_SERVICE, mesh) {
            found.add(builder.external(resource).into_iter().collect());
        }
        for destination in found.by_name.values() {
            let key = (destination.resource.kind(), destination.resource.display_name().to_owned());
            found.by_display_name.entry(key).or_default().push(Arc::clone(destination));
        }
        found
    }

    /// The first of a name stays; resources come in the order of their names.
    fn add(&mut self, destinations: Vec<Destination>) {
        for destination in destinations {
            self.by_name.entry(Arc::clone(&destination.name)).or_insert_with(|| Arc::new(destination));
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Destination>> {
        self.by_name.values()
    }

    pub(crate) fn named(&self, kind: Kind, display_name: &str) -> &[Arc<Destination>] {
        self.by_display_name.get(&(kind, display_name.to_owned())).map(Vec::as_slice).unwrap_or_default()
    }
}

fn egresses(members: &Members) -> BTreeSet<(String, u32)> {
    let places = members.iter().flat_map(|member| &member.egress);
    places.map(|(address, port)| (address.to_string(), *port)).collect()
}

fn egress_identities(members: &Members, identities: &[Arc<Resource>], zone: &str) -> Vec<String> {
    let proxies = members.iter().filter(|member| !member.egress.is_empty());
    let ids = proxies.filter_map(|member| {
        let identity = spiffe::select(identities, &member.dataplane)?;
        spiffe::id(identity, &member.dataplane, zone)
    });
    ids.collect::<BTreeSet<_>>().into_iter().collect()
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
        let places = self.ingresses.get(zone).into_iter().flatten();
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

    fn multi_zone(&self, resource: &Arc<Resource>, services: &[Service<'_>]) -> Option<Vec<Destination>> {
        let spec = resource.spec::<MeshMultiZoneService>().ok()?;
        let status = resource.status::<MeshMultiZoneServiceStatus>().cloned().unwrap_or_default();
        if spec.selector.mesh_service.match_labels.is_empty() {
            return None;
        }
        let matched: Vec<_> =
            services.iter().filter(|service| spec.selector.mesh_service.selects(service.resource)).collect();
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
            identities: self.egress_identities.clone(),
            accepts_tls: !self.egress_identities.is_empty(),
        };
        facts.build(self.egresses.iter().map(endpoint).collect(), None)
    }
}
