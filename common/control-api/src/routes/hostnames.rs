//! The hostnames of a service, and where they can be used.

use axum::extract::{Path, State};
use model::labels::{self, Plane};
use model::spec::HostnameGenerator;
use model::{Key, Kind, Resource, hostnames};
use serde::Serialize;
use store::Snapshot;

use super::call::{Answer, Call, Failure};
use crate::app::{App, Shared};
use crate::json;
use crate::problem::Problem;

/// Kinds that have hostnames.
const SERVICES: [Kind; 3] = [Kind::MESH_SERVICE, Kind::MESH_EXTERNAL_SERVICE, Kind::MESH_MULTI_ZONE_SERVICE];

/// Whether a kind has hostnames.
pub(super) fn has_hostnames(kind: Kind) -> bool {
    SERVICES.contains(&kind)
}

#[derive(Serialize)]
struct Hostnames {
    items: Vec<Hostname>,
    total: usize,
}

#[derive(Serialize)]
struct Hostname {
    hostname: String,
    zones: Vec<Zone>,
}

#[derive(Serialize)]
struct Zone {
    name: String,
}

/// GET of a service's hostnames.
pub(super) async fn list(
    State(app): State<Shared>,
    Path((mesh, path, name)): Path<(String, String, String)>,
    _call: Call,
) -> Answer {
    let Some(kind) = Kind::by_path(&path).filter(|kind| has_hostnames(*kind)) else {
        return Err(not_a_service());
    };
    let snapshot = app.snapshot();
    App::require_mesh(&snapshot, &mesh)?;
    let service = snapshot.resource(&Key::new(kind, &mesh, &name));
    let service = service.ok_or_else(|| Problem::not_found("could not retrieve service"))?;
    let items = of_service(app.plane(), &snapshot, service);
    Ok(json::ok(&Hostnames { total: items.len(), items }))
}

/// The answer where the path names what is no service.
pub(super) async fn of_dataplane() -> Answer {
    Err(not_a_service())
}

fn not_a_service() -> Failure {
    let paths: Vec<_> = SERVICES.iter().filter_map(|kind| kind.path).collect();
    let title = format!("only \"{}\" are available for inspection", paths.join(","));
    Problem::invalid(title, &model::Violations::default()).into()
}

fn of_service(plane: &Plane, snapshot: &Snapshot, service: &Resource) -> Vec<Hostname> {
    // In the order of the generators; what several of them give is listed once.
    let mut names: Vec<String> = Vec::new();
    for generator in snapshot.kind(Kind::HOSTNAME_GENERATOR) {
        let Ok(spec) = generator.spec::<HostnameGenerator>() else { continue };
        let Some(selector) = hostnames::selector(spec, service.kind()) else { continue };
        if !seen_as(plane, generator, service).iter().any(|seen| selector.selects(seen)) {
            continue;
        }
        match hostnames::render(&spec.template, service) {
            Ok(name) if !names.contains(&name) => names.push(name),
            _ => {}
        }
    }
    let zones = || vec![Zone { name: home_of(service) }];
    names.into_iter().map(|hostname| Hostname { hostname, zones: zones() }).collect()
}

/// How a service looks where a generator is at work. The origin label tells own from foreign, so the same
/// service has another one in its own zone than elsewhere: the global, which generates nothing itself, asks
/// for both.
fn seen_as(plane: &Plane, generator: &Resource, service: &Resource) -> Vec<Resource> {
    if *plane != Plane::Global {
        return vec![service.clone()];
    }
    let with_origin = |origin: &str| service.to_builder().label(labels::ORIGIN, origin).build();
    match generator.zone() {
        Some(zone) if Some(zone) == service.zone() => vec![with_origin("zone")],
        Some(_) => vec![with_origin("global")],
        None => vec![with_origin("zone"), with_origin("global")],
    }
}

/// Under which zone a service's hostnames are listed; what is of no zone stands for itself, as with the peer.
fn home_of(service: &Resource) -> String {
    service.zone().unwrap_or_else(|| service.display_name()).to_owned()
}
