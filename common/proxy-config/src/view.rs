//! What all proxies of a mesh share, made once per snapshot.

mod trust;

use std::sync::Arc;

use model::{Kind, Resource};
use store::Snapshot;

pub(crate) use trust::Trust;

/// What all proxies of a mesh share.
#[derive(Clone, Debug)]
pub struct MeshView {
    mesh: Arc<str>,
    zone: Arc<str>,
    identities: Vec<Arc<Resource>>,
    trust: Trust,
}

impl MeshView {
    /// The view of a mesh from a zone.
    pub fn new(snapshot: &Snapshot, mesh: &str, zone: &str) -> Self {
        Self {
            mesh: mesh.into(),
            zone: zone.into(),
            identities: snapshot.in_mesh(Kind::MESH_IDENTITY, mesh).cloned().collect(),
            trust: Trust::new(snapshot.in_mesh(Kind::MESH_TRUST, mesh)),
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

    pub(crate) fn trust(&self) -> &Trust {
        &self.trust
    }
}
