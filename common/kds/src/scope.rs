//! What a peer may see: everything, or a zone's part of what the global has.

use model::spec::{Mesh, Zone};
use model::{Key, Kind};

use crate::server::Scope;
use crate::view::{View, WireResource};

/// Label of a Mesh: `disabled` keeps each zone's MeshTrusts from the other zones.
pub const TRUST_EXCHANGE: &str = "isthmus.io/trust-exchange";

/// The global sees everything a zone sends.
pub struct Everything;

impl Scope for Everything {
    fn visible(&self, _: &View, _: Kind, _: &WireResource) -> bool {
        true
    }

    fn changed(&self, _: &View, _: &View) -> bool {
        false
    }
}

/// A zone sees what the global wrote, and what other enabled zones wrote for all.
pub struct ZoneScope {
    zone: String,
}

impl ZoneScope {
    /// The scope of a zone.
    pub fn new(zone: &str) -> Self {
        Self { zone: zone.into() }
    }
}

impl Scope for ZoneScope {
    fn visible(&self, view: &View, kind: Kind, resource: &WireResource) -> bool {
        let Some(from) = &resource.from_zone else { return true };
        **from != *self.zone
            && is_enabled(view, from)
            && (kind != Kind::MESH_TRUST || exchanges_trust(view, &resource.mesh))
    }

    fn changed(&self, older: &View, newer: &View) -> bool {
        let (older, newer) = (older.snapshot(), newer.snapshot());
        newer.differs(older, Kind::ZONE) || newer.differs(older, Kind::MESH)
    }
}

/// A zone that is not known, or does not say otherwise, is enabled.
fn is_enabled(view: &View, zone: &str) -> bool {
    let zone = view.snapshot().resource(&Key::global(Kind::ZONE, zone));
    zone.and_then(|zone| zone.spec::<Zone>().ok()).and_then(|zone| zone.enabled).unwrap_or(true)
}

fn exchanges_trust(view: &View, mesh: &str) -> bool {
    let mesh = view.snapshot().resource(&Key::global(Kind::MESH, mesh));
    mesh.is_some_and(|mesh| mesh.spec::<Mesh>().is_ok() && mesh.label(TRUST_EXCHANGE) != Some("disabled"))
}
