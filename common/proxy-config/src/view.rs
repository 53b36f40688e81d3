//! What all proxies of a mesh share, made once per snapshot.

mod destination;
mod endpoint;
mod members;
mod names;
mod services;
mod trust;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use model::spec::{OtelBackendRef, Secret};
use model::{Kind, Resource};
use policy::PolicySet;
use store::Snapshot;

pub(crate) use destination::Destination;
pub(crate) use endpoint::{Endpoint, assignment};
pub(crate) use members::{Member, Members, inbound_address};
use names::Names;
pub(crate) use services::Services;
use services::{Since, Source};
pub(crate) use trust::Trust;

/// What all proxies of a mesh share. Parts that are equal in two views are the same ones.
#[derive(Clone, Debug)]
pub struct MeshView {
    mesh: Arc<str>,
    zone: Arc<str>,
    pub(crate) identities: Arc<[Arc<Resource>]>,
    pub(crate) trust: Arc<Trust>,
    pub(crate) policies: BTreeMap<Kind, PolicySet>,
    members: Members,
    pub(crate) services: Arc<Services>,
    pub(crate) secrets: Arc<BTreeMap<Arc<str>, Arc<Resource>>>,
    pub(crate) collectors: Arc<[Arc<Resource>]>,
    pub(crate) resolved: Arc<BTreeMap<String, IpAddr>>,
}

impl MeshView {
    /// The view of a mesh from a zone. Proxies and zones whose address is a name that needs resolving are left out.
    pub fn new(snapshot: &Snapshot, mesh: &str, zone: &str) -> Self {
        Self::with_names(snapshot, mesh, zone, &BTreeMap::new())
    }

    /// The view of a mesh from a zone, with the addresses of host names that someone resolved.
    pub fn with_names(
        snapshot: &Snapshot,
        mesh: &str,
        zone: &str,
        resolved: &BTreeMap<String, IpAddr>,
    ) -> Self {
        let empty = Self {
            mesh: mesh.into(),
            zone: zone.into(),
            identities: Arc::default(),
            trust: Arc::default(),
            policies: Kind::all()
                .filter(|kind| kind.policy.is_some())
                .map(|kind| (kind, PolicySet::default()))
                .collect(),
            members: Members::default(),
            services: Arc::default(),
            secrets: Arc::default(),
            collectors: Arc::default(),
            resolved: Arc::new(resolved.clone()),
        };
        empty.at(&Snapshot::default(), snapshot, true)
    }

    /// The view at a newer snapshot, where this one is that of `older`: what did not change is taken over.
    #[must_use]
    pub fn advance(&self, older: &Snapshot, newer: &Snapshot) -> Self {
        self.at(older, newer, false)
    }

    fn at(&self, older: &Snapshot, newer: &Snapshot, is_first: bool) -> Self {
        let mut view = self.clone();
        let mesh = &*self.mesh;
        let differs = |kind: Kind| is_first || newer.differs(older, kind);
        if differs(Kind::MESH_IDENTITY) {
            view.identities = newer.in_mesh(Kind::MESH_IDENTITY, mesh).cloned().collect();
        }
        if differs(Kind::MESH_TRUST) {
            let trust = Trust::new(newer.in_mesh(Kind::MESH_TRUST, mesh));
            replace(&mut view.trust, trust);
        }
        for (kind, policies) in &mut view.policies {
            if newer.differs(older, *kind) {
                *policies = policies.advance(newer.in_mesh(*kind, mesh));
            }
        }
        if differs(Kind::SECRET) {
            let secrets = newer.in_mesh(Kind::SECRET, mesh);
            let secrets = secrets.map(|secret| (Arc::clone(&secret.key().name), Arc::clone(secret)));
            view.secrets = Arc::new(secrets.collect());
        }
        if differs(Kind::MESH_OPEN_TELEMETRY_BACKEND) {
            let collectors = newer.in_mesh(Kind::MESH_OPEN_TELEMETRY_BACKEND, mesh);
            let mut collectors: Vec<_> = collectors.cloned().collect();
            collectors.sort_by(|a, b| (a.created(), a.name()).cmp(&(b.created(), b.name())));
            view.collectors = collectors.into();
        }
        let held = (!is_first).then_some(&self.services);
        view.serve(older, newer, held);
        view
    }

    /// Brings proxies and destinations up to date.
    fn serve(&mut self, older: &Snapshot, newer: &Snapshot, held: Option<&Arc<Services>>) {
        const SERVED_BY: [Kind; 6] = [
            Kind::DATAPLANE,
            Kind::MESH_EXTERNAL_SERVICE,
            Kind::MESH_IDENTITY,
            Kind::MESH_MULTI_ZONE_SERVICE,
            Kind::MESH_SERVICE,
            Kind::MESH_ZONE_ADDRESS,
        ];
        if held.is_some() && SERVED_BY.iter().all(|kind| !newer.differs(older, *kind)) {
            return;
        }
        let resolved = Arc::clone(&self.resolved);
        let names = Names(&resolved);
        let changed = newer.changed_keys(older, Kind::DATAPLANE);
        let changes: Vec<_> = changed
            .iter()
            .filter(|key| *key.mesh == *self.mesh)
            .map(|key| match newer.resource(key) {
                Some(dataplane) => self.members.put(dataplane, &names),
                None => self.members.remove(&key.name),
            })
            .collect();
        let source = Source {
            snapshot: newer,
            mesh: &self.mesh,
            zone: &self.zone,
            identities: &self.identities,
            members: &self.members,
            names: &names,
        };
        let since = held.map(|services| Since { snapshot: older, services, members: &changes });
        self.services = Services::of(&source, since.as_ref());
    }

    /// The mesh.
    pub fn mesh(&self) -> &str {
        &self.mesh
    }

    /// The zone.
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// The MeshIdentity that selects a proxy.
    pub fn identity_of(&self, dataplane: &Resource) -> Option<&Arc<Resource>> {
        crate::spiffe::select(&*self.identities, dataplane)
    }

    /// Host names that stand where an address is needed; someone who may do I/O resolves them for
    /// [`with_names`](Self::with_names).
    pub fn host_names(&self) -> BTreeSet<String> {
        self.members.hosts().chain(self.services.hosts()).cloned().collect()
    }

    pub(crate) fn trust(&self) -> &Arc<Trust> {
        &self.trust
    }

    /// The policies of a kind; none for what is no policy.
    pub(crate) fn policies(&self, kind: Kind) -> Option<&PolicySet> {
        self.policies.get(&kind)
    }

    pub(crate) fn members(&self) -> &Members {
        &self.members
    }

    /// Destinations ordered by name.
    pub(crate) fn destinations(&self) -> impl Iterator<Item = &Arc<Destination>> {
        self.services.iter()
    }

    /// Destinations of a kind, narrowed to a display name where that is known.
    pub(crate) fn destinations_of<'a>(
        &'a self,
        kind: Kind,
        display_name: Option<&str>,
    ) -> Box<dyn Iterator<Item = &'a Arc<Destination>> + 'a> {
        match display_name {
            Some(name) => Box::new(self.services.named(kind, name).iter()),
            None => Box::new(self.services.iter().filter(move |found| found.resource.kind() == kind)),
        }
    }

    /// Text of a Secret of the mesh.
    pub(crate) fn secret(&self, name: &str) -> Option<String> {
        let secret = self.secrets.get(name)?.spec::<Secret>().ok()?;
        String::from_utf8(secret.data.clone()?).ok()
    }

    /// The collector that a policy means: the oldest one that has the labels.
    pub(crate) fn collector(&self, reference: &OtelBackendRef) -> Option<&Arc<Resource>> {
        self.collectors.iter().find(|found| reference.selects(found))
    }

    /// An address, or the one that a name stands for.
    pub(crate) fn resolve(&self, host: &str) -> Option<IpAddr> {
        host.parse().ok().or_else(|| self.resolved.get(host).copied())
    }

    /// Whether proxies tell each other their tags in a header, which faults are injected by.
    pub(crate) fn tags_in_header(&self) -> bool {
        self.policies(Kind::MESH_FAULT_INJECTION).is_some_and(|policies| !policies.is_empty())
    }
}

/// Replaces a shared value by one that is not equal.
fn replace<T: PartialEq>(held: &mut Arc<T>, value: T) {
    if **held != value {
        *held = Arc::new(value);
    }
}
