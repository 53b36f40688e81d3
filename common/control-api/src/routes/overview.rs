//! Dataplanes and zones together with what is observed of them.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use model::rest::Document;
use model::spec::ZoneInsight;
use model::{Key, Kind, Resource, Scope};
use serde_json::{Map, Value, json};
use store::Snapshot;

use super::call::{Answer, Call, Failure, kind_of};
use super::read::{self, Page};
use crate::app::{App, Shared};
use crate::json;
use crate::problem::Problem;

/// GET of one zone with its insight.
pub(super) async fn global(
    State(app): State<Shared>,
    Path((path, name)): Path<(String, String)>,
    call: Call,
) -> Answer {
    let kind = observed(kind_of(&path, Scope::Global)?)?;
    one(&app, &call, &Key::global(kind, &name))
}

/// GET of one dataplane with its insight.
pub(super) async fn in_mesh(
    State(app): State<Shared>,
    Path((mesh, path, name)): Path<(String, String, String)>,
    call: Call,
) -> Answer {
    let kind = observed(kind_of(&path, Scope::Mesh)?)?;
    one(&app, &call, &Key::new(kind, &mesh, &name))
}

/// GET of one dataplane with its insight, where the path names the kind.
pub(super) async fn dataplane(
    State(app): State<Shared>,
    Path((mesh, name)): Path<(String, String)>,
    call: Call,
) -> Answer {
    one(&app, &call, &Key::new(Kind::DATAPLANE, &mesh, &name))
}

/// GET of all zones, or of all dataplanes over all meshes, with their insights.
pub(super) async fn list_all(State(app): State<Shared>, Path(path): Path<String>, call: Call) -> Answer {
    let Some(kind) = Kind::by_path(&path) else {
        return Err(Failure::Plain(StatusCode::NOT_FOUND));
    };
    list(&app, &call, observed(kind)?, None, &format!("/{path}/_overview"))
}

/// GET of the dataplanes of a mesh with their insights.
pub(super) async fn list_in_mesh(
    State(app): State<Shared>,
    Path((mesh, path)): Path<(String, String)>,
    call: Call,
) -> Answer {
    let kind = observed(kind_of(&path, Scope::Mesh)?)?;
    list(&app, &call, kind, Some(&mesh), &format!("/meshes/{{mesh}}/{path}/_overview"))
}

/// The older path of all dataplanes with their insights.
pub(super) async fn legacy_dataplanes(State(app): State<Shared>, call: Call) -> Answer {
    list(&app, &call, Kind::DATAPLANE, None, "/dataplanes+insights")
}

/// The older path of a mesh's dataplanes with their insights.
pub(super) async fn legacy_dataplanes_in_mesh(
    State(app): State<Shared>,
    Path(mesh): Path<String>,
    call: Call,
) -> Answer {
    list(&app, &call, Kind::DATAPLANE, Some(&mesh), "/meshes/{mesh}/dataplanes+insights")
}

/// The older path of all zones with their insights.
pub(super) async fn legacy_zones(State(app): State<Shared>, call: Call) -> Answer {
    list(&app, &call, Kind::ZONE, None, "/zones+insights")
}

/// The older path of one zone with its insight.
pub(super) async fn legacy_zone(State(app): State<Shared>, Path(name): Path<String>, call: Call) -> Answer {
    one(&app, &call, &Key::global(Kind::ZONE, &name))
}

/// Whether a kind has an insight.
pub(super) fn is_observed(kind: Kind) -> bool {
    insight_of(kind).is_some()
}

/// Passes on kinds that have an insight.
fn observed(kind: Kind) -> Result<Kind, Failure> {
    match insight_of(kind) {
        Some(_) => Ok(kind),
        None => Err(Failure::Plain(StatusCode::NOT_FOUND)),
    }
}

/// The kind of a kind's insight, and the keys of both in an overview.
fn insight_of(kind: Kind) -> Option<(Kind, &'static str, &'static str)> {
    let pairs = [
        (Kind::DATAPLANE, (Kind::DATAPLANE_INSIGHT, "dataplane", "dataplaneInsight")),
        (Kind::ZONE, (Kind::ZONE_INSIGHT, "zone", "zoneInsight")),
    ];
    pairs.into_iter().find(|(of, _)| *of == kind).map(|(_, insight)| insight)
}

fn one(app: &App, call: &Call, key: &Key) -> Answer {
    let snapshot = app.snapshot();
    if key.kind.is_mesh_scoped() {
        App::require_mesh(&snapshot, &key.mesh)?;
    }
    app.require_access(&call.user, key.kind)?;
    let resource = snapshot.resource(key).ok_or_else(|| Problem::not_found(read::ONE))?;
    Ok(json::ok(&overview(&snapshot, resource)?))
}

fn list(app: &App, call: &Call, kind: Kind, mesh: Option<&str>, route: &str) -> Answer {
    let page = read::select(app, call, kind, mesh, route)?;
    let snapshot = app.snapshot();
    let items: Result<Vec<_>, _> = page.items.iter().map(|resource| overview(&snapshot, resource)).collect();
    Ok(json::ok(&Page { total: page.total, items: items?, next: page.next }))
}

fn overview(snapshot: &Snapshot, resource: &Resource) -> Result<Value, Problem> {
    let kind = resource.kind();
    let Some((insight_kind, spec_key, insight_key)) = insight_of(kind) else { return Ok(Value::Null) };
    let undecodable = |error| Problem::undecodable(&error);
    let document = Document::of(resource).map_err(undecodable)?;
    let mut fields = match serde_json::to_value(&document) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let spec = resource.raw_spec().to_json(kind.format).map_err(undecodable)?;
    for key in spec.as_object().into_iter().flat_map(Map::keys) {
        fields.remove(key);
    }
    fields.insert("type".into(), json!(format!("{kind}Overview")));
    fields.insert(spec_key.into(), spec);
    let insight = snapshot.resource(&Key::new(insight_kind, resource.mesh(), resource.name()));
    let insight = insight.map(|insight| insight.raw_spec().to_json(insight_kind.format)).transpose();
    fields.insert(insight_key.into(), insight.map_err(undecodable)?.unwrap_or_else(|| json!({})));
    Ok(Value::Object(fields))
}

/// Whether a zone's control plane is connected to the global.
pub(crate) fn is_zone_online(snapshot: &Snapshot, zone: &str) -> bool {
    let insight = snapshot.resource(&Key::global(Kind::ZONE_INSIGHT, zone));
    insight
        .and_then(|insight| insight.spec::<ZoneInsight>().ok())
        .and_then(|insight| insight.subscriptions.last())
        .is_some_and(|last| last.connect_time.is_some() && last.disconnect_time.is_none())
}
