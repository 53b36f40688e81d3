//! Mass removals by a peer that wait: what they are, and their confirmation.

use auth::access::Permission;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::call::{Answer, Call};
use crate::app::Shared;
use crate::json;
use crate::problem::Problem;

/// What the caller wants to reach, in a refusal.
const THING: &str = "withheld removals";

/// GET of what waits.
pub(super) async fn list(State(app): State<Shared>, call: Call) -> Answer {
    let access = &app.config.access;
    access.check(Permission::ControlPlaneMetadata, &call.user, THING).map_err(Problem::from)?;
    let waiting = app.api.guard.waiting();
    let items: Vec<Value> = waiting
        .iter()
        .map(|waiting| {
            let resources = waiting.keys.iter();
            let resources: Vec<Value> = resources
                .map(|key| json!({"type": key.kind.name, "mesh": &*key.mesh, "name": &*key.name}))
                .collect();
            json!({"peer": waiting.peer, "resources": resources})
        })
        .collect();
    Ok(json::ok(&json!({"total": items.len(), "items": items})))
}

/// POST that carries out what waits of a peer.
pub(super) async fn confirm(State(app): State<Shared>, Path(peer): Path<String>, call: Call) -> Answer {
    let access = &app.config.access;
    access.check(Permission::AdminResources, &call.user, THING).map_err(Problem::from)?;
    if !app.api.guard.waiting().iter().any(|waiting| waiting.peer == peer) {
        let detail = format!("no removals of {peer:?} wait");
        return Err(Problem::new(StatusCode::NOT_FOUND, "Nothing waits", detail).into());
    }
    let removed = app.api.guard.confirm(&peer, &app.api.store).await;
    let removed = removed.map_err(|error| Problem::store("Could not remove everything", &error))?;
    tracing::warn!(user = call.user.name, peer, removed, "a mass removal is confirmed");
    Ok(json::ok(&json!({"removed": removed})))
}
