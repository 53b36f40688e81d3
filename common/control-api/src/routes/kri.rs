//! Resources by their identifier.

use axum::extract::{Path, State};
use model::labels::Plane;
use model::{Key, Kri, names};

use super::call::{Answer, Call};
use super::read;
use crate::app::{App, Shared};
use crate::problem::Problem;

/// GET of the resource that an identifier names.
pub(super) async fn get(State(app): State<Shared>, Path(text): Path<String>, call: Call) -> Answer {
    let kri = parse(&text)?;
    let snapshot = app.snapshot();
    if kri.kind.is_mesh_scoped() {
        App::require_mesh(&snapshot, &kri.mesh)?;
    }
    read::one(&app, &call, &key_of(app.plane(), &kri))
}

/// Reads an identifier.
pub(super) fn parse(text: &str) -> Result<Kri, Problem> {
    Kri::parse(text).map_err(Problem::refused)
}

/// The key that an identifier has here: its name where it was authored here or travels under its own name,
/// else its synced name.
fn key_of(plane: &Plane, kri: &Kri) -> Key {
    let here = kri.zone == plane.zone().unwrap_or_default();
    // What zones send is always renamed; of what the global sends, some kinds are not.
    if here || (kri.zone.is_empty() && !kri.kind.hashed) {
        return Key::new(kri.kind, &kri.mesh, &kri.name);
    }
    let part = |text: &'_ str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let (zone, namespace) = (part(&kri.zone), part(&kri.namespace));
    let name = names::synced_name(&kri.mesh, &kri.name, zone.as_deref(), namespace.as_deref());
    Key::new(kri.kind, &kri.mesh, &name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_resources_are_found_under_their_synced_name() {
        let zone = Plane::Zone { name: "zone-1".into(), federated: true };
        let name = |plane: &Plane, text: &str| key_of(plane, &Kri::parse(text).unwrap()).name.to_string();
        let timeout = "kri_mt_default_zone-1__default-timeout-zone-1_";
        assert_eq!(name(&zone, timeout), "default-timeout-zone-1");
        assert_eq!(name(&Plane::Global, timeout), "default-timeout-zone-1-c58w24w4vw27f454");
        assert_eq!(name(&Plane::Global, "kri_mt_default___a_"), "a");
        assert_ne!(name(&zone, "kri_mt_default___a_"), "a");
        assert_eq!(name(&zone, "kri_m____default_"), "default");
    }
}
