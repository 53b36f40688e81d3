//! What an application can call: one port of a service.

use std::net::IpAddr;
use std::sync::Arc;

use model::spec::{MeshExternalService, Protocol};
use model::{Kind, Kri, Resource};

use super::endpoint::Endpoint;
use crate::config::ConfigResource;

/// One port of a service.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    /// The service.
    pub(crate) resource: Arc<Resource>,
    /// Its identifier with the port; the name of what Envoy has for it.
    pub(crate) name: Arc<str>,
    /// Name of the port, or the port as text.
    pub(crate) section: String,
    /// The port.
    pub(crate) port: u32,
    /// What is spoken.
    pub(crate) protocol: Protocol,
    /// Virtual addresses.
    pub(crate) vips: Vec<IpAddr>,
    /// Names of the virtual addresses.
    pub(crate) hostnames: Vec<String>,
    /// The name by which zones and egresses route to it.
    pub(crate) sni: String,
    /// Who may answer: SPIFFE IDs, ordered.
    pub(crate) identities: Vec<String>,
    /// Whether it is called with the proxy's identity, when the proxy has one.
    pub(crate) accepts_tls: bool,
    /// Its endpoints as a proxy sees them.
    pub(crate) endpoints: Vec<Endpoint>,
    /// The message with them, for proxies that no policy treats differently.
    pub(crate) assignment: ConfigResource,
    /// Its endpoints in this zone, as an ingress sees them; `None` when it does not serve the destination.
    pub(crate) own_zone: Option<ConfigResource>,
}

impl Destination {
    /// The name of a port of a service, and its SNI; `None` for what cannot be routed.
    pub(crate) fn names(kri: &Kri, section: &str) -> Option<(Arc<str>, String)> {
        let kri = kri.with_section(section);
        Some((kri.to_string().into(), model::sni::of(&kri)?))
    }

    /// Whether another one says the same. Of its resource, what was observed of it does not count.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.has_same_shape(other)
            && self.endpoints == other.endpoints
            && self.assignment == other.assignment
            && self.own_zone == other.own_zone
    }

    /// Whether another one differs in its endpoints at most.
    pub(super) fn has_same_shape(&self, other: &Self) -> bool {
        let facts = |of: &Self| (of.port, of.protocol, of.accepts_tls, of.own_zone.is_some());
        let (a, b) = (&self.resource, &other.resource);
        let is_same_resource = Arc::ptr_eq(a, b)
            || (a.key(), a.labels(), a.raw_spec(), a.created())
                == (b.key(), b.labels(), b.raw_spec(), b.created());
        is_same_resource
            && facts(self) == facts(other)
            && self.name == other.name
            && self.section == other.section
            && self.vips == other.vips
            && self.hostnames == other.hostnames
            && self.sni == other.sni
            && self.identities == other.identities
    }

    /// Whether it is outside the mesh.
    pub(crate) fn is_external(&self) -> bool {
        self.resource.kind() == Kind::MESH_EXTERNAL_SERVICE
    }

    /// What it is outside the mesh.
    pub(crate) fn external(&self) -> Option<&MeshExternalService> {
        if self.is_external() { self.resource.spec().ok() } else { None }
    }

    /// The destination as policies see it.
    pub(crate) fn as_target(&self) -> policy::Destination<'_> {
        policy::Destination { resource: &self.resource, section: &self.section, port: self.port }
    }
}
