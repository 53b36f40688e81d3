//! Deleting resources, with what belongs to them.

use axum::extract::{Path, State};
use model::{Key, Kind, Scope, Violations};
use serde_json::json;
use store::{Expect, Op, Revision, StoreError, Stored};

use super::call::{Answer, Call, kind_of};
use super::{overview, write};
use crate::app::{App, Shared};
use crate::checks;
use crate::json;
use crate::problem::Problem;

const TITLE: &str = "Could not delete a resource";
/// Resources that leave with their mesh in one commit: etcd takes 128 operations.
const BATCH: usize = 100;

/// DELETE of a resource of global scope.
pub(super) async fn global(
    State(app): State<Shared>,
    Path((path, name)): Path<(String, String)>,
    call: Call,
) -> Answer {
    let kind = kind_of(&path, Scope::Global)?;
    delete(&app, &call, Key::global(kind, &name)).await
}

/// DELETE of a resource in a mesh.
pub(super) async fn in_mesh(
    State(app): State<Shared>,
    Path((mesh, path, name)): Path<(String, String, String)>,
    call: Call,
) -> Answer {
    let kind = kind_of(&path, Scope::Mesh)?;
    delete(&app, &call, Key::new(kind, &mesh, &name)).await
}

/// DELETE of a service insight: they have a path of their own.
pub(super) async fn service_insight(
    State(app): State<Shared>,
    Path((mesh, name)): Path<(String, String)>,
    call: Call,
) -> Answer {
    delete(&app, &call, Key::new(Kind::SERVICE_INSIGHT, &mesh, &name)).await
}

async fn delete(app: &App, call: &Call, key: Key) -> Answer {
    app.require_writable(key.kind)?;
    app.require_access(&call.user, key.kind)?;
    write::require_mesh(app, &key).await?;
    let failed = |error: StoreError| Problem::store(TITLE, &error);
    let stored = app.api.store.get(&key).await.map_err(failed)?;
    let stored = stored.ok_or_else(|| Problem::not_found(TITLE))?;
    check(app, &stored).await?;
    let revision = remove(app, &stored).await.map_err(failed)?;
    app.settle(revision).await;
    tracing::info!(%key, user = %call.user, "resource deleted");
    Ok(json::ok(&json!({})))
}

async fn check(app: &App, stored: &Stored) -> Result<(), Problem> {
    let resource = &stored.resource;
    let mut violations = Violations::default();
    if !app.config.disable_origin_label_validation {
        checks::check_stored(app.plane(), resource.kind(), resource.labels(), &mut violations);
    }
    if !app.config.unsafe_delete {
        check_use(app, stored, &mut violations).await?;
    }
    if violations.is_empty() { Ok(()) } else { Err(Problem::invalid(TITLE, &violations)) }
}

/// Refuses what is in use: a mesh with proxies, a zone that is connected.
async fn check_use(app: &App, stored: &Stored, violations: &mut Violations) -> Result<(), Problem> {
    let resource = &stored.resource;
    if resource.kind() == Kind::MESH {
        let proxies = app.api.store.list(Kind::DATAPLANE, Some(resource.name()), None, 1).await;
        let proxies = proxies.map_err(|error| Problem::store(TITLE, &error))?;
        if !proxies.items.is_empty() {
            violations.add("mesh", "unable to delete mesh, there are still some dataplanes attached");
        }
    }
    if resource.kind() == Kind::ZONE && overview::is_zone_online(&app.snapshot(), resource.name()) {
        violations
            .add("zone", "unable to delete Zone, Zone CP is still connected, please shut it down first");
    }
    Ok(())
}

/// Removes a resource and what belongs to it: its insight, and everything in a mesh.
async fn remove(app: &App, stored: &Stored) -> Result<Revision, StoreError> {
    let key = stored.resource.key();
    let mut ops = vec![Op::Delete(key.clone(), Expect::At(stored.revision))];
    if key.kind == Kind::MESH {
        empty(app, &key.name).await?;
    }
    let insights = [
        (Kind::DATAPLANE, Kind::DATAPLANE_INSIGHT),
        (Kind::ZONE, Kind::ZONE_INSIGHT),
        (Kind::MESH, Kind::MESH_INSIGHT),
    ];
    let insights = insights.into_iter().filter(|(of, _)| *of == key.kind);
    ops.extend(insights.map(|(_, insight)| Op::Delete(Key::new(insight, &key.mesh, &key.name), Expect::Any)));
    app.api.store.commit(ops).await
}

/// Removes everything in a mesh. The mesh itself goes last, so that what is interrupted can be done again.
async fn empty(app: &App, mesh: &str) -> Result<(), StoreError> {
    for kind in Kind::all().filter(|kind| kind.is_mesh_scoped()) {
        loop {
            let page = app.api.store.list(kind, Some(mesh), None, BATCH).await?;
            if page.items.is_empty() {
                break;
            }
            let ops = page.items.iter().map(|one| Op::Delete(one.resource.key().clone(), Expect::Any));
            app.api.store.commit(ops.collect()).await?;
        }
    }
    Ok(())
}
