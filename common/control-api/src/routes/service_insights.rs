//! Service insights: one stored resource a mesh holds all services, the API shows one document a service.

use axum::extract::{Path, State};
use model::{Kind, Resource};
use serde_json::{Map, Value, json};
use store::Snapshot;

use super::call::{Answer, Call};
use super::read::{self, Page};
use crate::app::{App, Shared};
use crate::json;
use crate::problem::Problem;
use crate::query::{Paging, Query};

/// Types that can be asked for.
const TYPES: [&str; 3] = ["internal", "external", "gateway_delegated"];

/// GET of the services of all meshes.
pub(super) async fn list_all(State(app): State<Shared>, call: Call) -> Answer {
    list(&app, &call, None)
}

/// GET of the services of a mesh.
pub(super) async fn list_in_mesh(State(app): State<Shared>, Path(mesh): Path<String>, call: Call) -> Answer {
    list(&app, &call, Some(&mesh))
}

/// GET of one service.
pub(super) async fn get(
    State(app): State<Shared>,
    Path((mesh, name)): Path<(String, String)>,
    _call: Call,
) -> Answer {
    let snapshot = app.snapshot();
    App::require_mesh(&snapshot, &mesh)?;
    let services = services(&snapshot, Some(&mesh))?;
    let found = services.into_iter().find(|service| service.get("name") == Some(&json!(name)));
    Ok(json::ok(&found.ok_or_else(|| Problem::not_found(read::ONE))?))
}

fn list(app: &App, call: &Call, mesh: Option<&str>) -> Answer {
    let snapshot = app.snapshot();
    if let Some(mesh) = mesh {
        App::require_mesh(&snapshot, mesh)?;
    }
    let paging = Paging::of(&call.query)?;
    let wanted = wanted(&call.query)?;
    let part = call.query.some("name");
    let mut found = services(&snapshot, mesh)?;
    found.retain(|service| {
        let text = |key: &str| service.get(key).and_then(Value::as_str);
        // The default of an enumeration is left out of JSON.
        let r#type = text("serviceType").unwrap_or("internal");
        wanted.as_ref().is_none_or(|wanted| wanted.iter().any(|one| one == r#type))
            && part.is_none_or(|part| text("name").is_some_and(|name| name.contains(part)))
    });
    Ok(json::ok(&Page::of(found, paging, call)))
}

fn wanted(query: &Query) -> Result<Option<Vec<String>>, Problem> {
    let Some(types) = query.some("type") else { return Ok(None) };
    let types: Vec<_> = types.split(',').map(|one| one.trim().to_owned()).collect();
    if types.iter().all(|one| TYPES.contains(&one.as_str())) {
        Ok(Some(types))
    } else {
        Err(Problem::refused("unsupported service type"))
    }
}

/// The services of a mesh, or of all, ordered by mesh and name.
fn services(snapshot: &Snapshot, mesh: Option<&str>) -> Result<Vec<Value>, Problem> {
    let insights: Vec<_> = match mesh {
        Some(mesh) => snapshot.in_mesh(Kind::SERVICE_INSIGHT, mesh).collect(),
        None => snapshot.kind(Kind::SERVICE_INSIGHT).collect(),
    };
    let mut services = Vec::new();
    for insight in insights {
        let spec = insight.raw_spec().to_json(insight.kind().format);
        let spec = spec.map_err(|error| Problem::undecodable(&error))?;
        for (name, service) in spec.get("services").and_then(Value::as_object).into_iter().flatten() {
            services.push(document(insight, name, service));
        }
    }
    Ok(services)
}

fn document(insight: &Resource, name: &str, service: &Value) -> Value {
    let mut fields = Map::from_iter([
        ("type".to_owned(), json!(insight.kind().name)),
        ("mesh".to_owned(), json!(insight.mesh())),
        ("name".to_owned(), json!(name)),
        ("creationTime".to_owned(), json!(insight.created())),
        ("modificationTime".to_owned(), json!(insight.modified())),
    ]);
    fields.extend(service.as_object().cloned().unwrap_or_default());
    let proxies = fields.entry("dataplanes").or_insert_with(|| json!({}));
    let count = |key: &str| proxies.get(key).and_then(Value::as_u64).unwrap_or_default();
    let total = count("online") + count("offline");
    if let Some(proxies) = proxies.as_object_mut().filter(|_| total > 0) {
        proxies.insert("total".into(), json!(total));
    }
    let gateway =
        fields.get("serviceType").and_then(Value::as_str).is_some_and(|one| one.starts_with("gateway"));
    if !gateway {
        fields.insert("addressPort".into(), json!(format!("{name}.mesh:80")));
    }
    Value::Object(fields)
}
