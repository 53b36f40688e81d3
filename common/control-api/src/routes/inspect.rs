//! What running proxies are configured with, and what they say of themselves.

use auth::access::Permission;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use model::labels::Plane;
use model::{Key, Kind};
use serde_json::json;

use super::call::{Answer, Call, Failure};
use super::read;
use crate::app::{App, Shared};
use crate::problem::Problem;
use crate::query::Query;
use crate::{AdminQuery, InspectError, diff, json};

const ADMIN: &str = "Could not execute admin operation";

/// GET of the configuration that a proxy gets.
pub(super) async fn configuration(
    State(app): State<Shared>,
    Path((mesh, name)): Path<(String, String)>,
    call: Call,
) -> Answer {
    if *app.plane() == Plane::Global {
        return Err(Problem::not_allowed("Not allowed on global CP").into());
    }
    let shadow = call.query.flag("shadow")?.unwrap_or(false);
    let with_diff = include(&call.query)?;
    app.config.access.check(Permission::ViewConfigDump, &call.user, "envoy config").map_err(Problem::from)?;
    let key = existing(&app, &mesh, &name)?;
    let insight = Key::new(Kind::DATAPLANE_INSIGHT, &mesh, &name);
    if app.snapshot().resource(&insight).is_none() {
        return Err(Problem::not_found("Failed to fetch dataplane insight").into());
    }
    let failed = |error| inspection("Failed to generate the configuration", &error);
    let xds = app.api.proxies.configuration(&key, shadow).await.map_err(failed)?;
    if !with_diff {
        return Ok(json::ok(&json!({"xds": xds})));
    }
    let current = app.api.proxies.configuration(&key, false).await.map_err(failed)?;
    let diff = diff::operations(&current, &xds);
    Ok(json::ok(&json!({"xds": xds, "diff": diff})))
}

fn include(query: &Query) -> Result<bool, Problem> {
    let mut asked = query.all("include").flat_map(|list| list.split(',')).filter(|one| !one.is_empty());
    asked.try_fold(false, |_, one| match one {
        "diff" => Ok(true),
        _ => Err(Problem::refused("unsupported value for query parameter 'include'")),
    })
}

/// GET of what a proxy's administration endpoint says.
pub(super) async fn admin(
    State(app): State<Shared>,
    Path((mesh, name, operation)): Path<(String, String, String)>,
    call: Call,
) -> Answer {
    if operation.starts_with('_') {
        return Err(Failure::Plain(StatusCode::NOT_FOUND));
    }
    let (query, permission) = admin_query(&operation, &call.query)?;
    app.config.access.check(permission, &call.user, &format!("envoy {operation}")).map_err(Problem::from)?;
    let key = existing(&app, &mesh, &name)?;
    let answer = app.api.proxies.admin(&key, query).await.map_err(|error| inspection(ADMIN, &error))?;
    let mut response = Response::new(Body::from(answer));
    let media = if query.is_json() { "application/json" } else { "text/plain" };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    Ok(response)
}

fn admin_query(operation: &str, query: &Query) -> Result<(AdminQuery, Permission), Problem> {
    let json = query.some("format") == Some("json");
    Ok(match operation {
        "xds" => {
            let include_eds = query.flag("include_eds")?.unwrap_or(false);
            (AdminQuery::ConfigDump { include_eds }, Permission::ViewConfigDump)
        }
        "stats" => {
            let used_only = query.flag("usedonly")?.unwrap_or(true);
            (AdminQuery::Stats { json, used_only }, Permission::ViewStats)
        }
        "clusters" => (AdminQuery::Clusters { json }, Permission::ViewClusters),
        _ => return Err(Problem::not_found(ADMIN)),
    })
}

fn existing(app: &App, mesh: &str, name: &str) -> Result<Key, Problem> {
    let snapshot = app.snapshot();
    App::require_mesh(&snapshot, mesh)?;
    let key = Key::new(Kind::DATAPLANE, mesh, name);
    match snapshot.resource(&key) {
        Some(_) => Ok(key),
        None => Err(Problem::not_found(read::ONE)),
    }
}

fn inspection(title: &str, error: &InspectError) -> Problem {
    let status = match error {
        InspectError::NotConnected(_) | InspectError::NotAvailable => StatusCode::BAD_REQUEST,
        InspectError::Unreachable(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    Problem::new(status, title, error.to_string())
}
