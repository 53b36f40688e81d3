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
use services::Services;
pub(crate) use trust::Trust;

/// What all proxies of a mesh share.
#[derive(Clone, Debug)]
pub struct MeshView {
    mesh: Arc<str>,
    zone: Arc<str>,
    identities: Vec<Arc<Resource>>,
    trust: Trust,
    policies: BTreeMap<Kind, PolicySet>,
    members: Members,
    services: Services,
    secrets: BTreeMap<Arc<str>, Arc<Resource>>,
    collectors: Vec<Arc<Resource>>,
    host_names: BTreeSet<String>,
    resolved: BTreeMap<String, IpAddr>,
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
        let mut names = Names::new(resolved);
        let identities: Vec<_> = snapshot.in_mesh(Kind::MESH_IDENTITY, mesh).cloned().collect();
        let members = Members::new(snapshot.in_mesh(Kind::DATAPLANE, mesh), &mut names);
        let services = Services::new(snapshot, (mesh, zone), &identities, &members, &mut names);
        let kinds = Kind::all().filter(|kind| kind.policy.is_some());
        let policies = kinds.map(|kind| (kind, PolicySet::new(snapshot.in_mesh(kind, mesh))));
        let secrets = snapshot.in_mesh(Kind::SECRET, mesh);
        let mut collectors: Vec<_> =
            snapshot.in_mesh(Kind::MESH_OPEN_TELEMETRY_BACKEND, mesh).cloned().collect();
        collectors.sort_by(|a, b| (a.created(), a.name()).cmp(&(b.created(), b.name())));
        Self {
            mesh: mesh.into(),
            zone: zone.into(),
            trust: Trust::new(snapshot.in_mesh(Kind::MESH_TRUST, mesh)),
            policies: policies.collect(),
            secrets: secrets.map(|secret| (Arc::clone(&secret.key().name), Arc::clone(secret))).collect(),
            collectors,
            host_names: names.seen(),
            resolved: resolved.clone(),
            identities,
            members,
            services,
        }
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
        crate::spiffe::select(&self.identities, dataplane)
    }

    /// Host names that stand where an address is needed; someone who may do I/O resolves them for
    /// [`with_names`](Self::with_names).
    pub fn host_names(&self) -> &BTreeSet<String> {
        &self.host_names
    }

    pub(crate) fn trust(&self) -> &Trust {
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
