//! The proxies that a policy selects or a service is served by.

use axum::extract::{Path, State};
use model::spec::MeshService;
use model::{Key, Kind, Resource, Scope};
use policy::{PolicySet, Proxy};
use serde_json::{Value, json};

use super::rules::meta;
use crate::app::{App, Shared};
use crate::json;
use crate::problem::Problem;
use crate::query::{Filter, Paging};
use crate::routes::call::{Answer, Call, Failure, kind_of};
use crate::routes::read::Page;

/// What the older forms call every proxy.
const SIDECAR: &str = "SidecarDataplane";

/// GET of the proxies that a policy selects.
pub(super) async fn of_policy(
    State(app): State<Shared>,
    Path((mesh, path, name)): Path<(String, String, String)>,
    call: Call,
) -> Answer {
    let selected = selected_by(&app, &mesh, &path, &name)?;
    list(&app, &call, &mesh, selected)
}

/// The older form of the same, which knows no pages.
pub(super) async fn of_policy_in_full(
    State(app): State<Shared>,
    Path((mesh, path, name)): Path<(String, String, String)>,
    _call: Call,
) -> Answer {
    let selected = selected_by(&app, &mesh, &path, &name)?;
    let snapshot = app.snapshot();
    let found = snapshot.in_mesh(Kind::DATAPLANE, &mesh).filter(|dataplane| selected(dataplane));
    let items: Vec<_> = found
        .map(|dataplane| {
            let key = json!({"mesh": dataplane.mesh(), "name": dataplane.name()});
            json!({"kind": SIDECAR, "dataplane": key, "attachments": []})
        })
        .collect();
    Ok(json::ok(&json!({"total": items.len(), "items": items})))
}

/// The older form of a proxy's policies: it tells of kinds that are gone, so that there are none.
pub(super) async fn attachments(
    State(app): State<Shared>,
    Path((mesh, name)): Path<(String, String)>,
    _call: Call,
) -> Answer {
    super::Inspected::of(&app, &mesh, &name)?;
    Ok(json::ok(&json!({"kind": SIDECAR, "total": 0, "items": []})))
}

/// Whether the policy under a path selects a proxy.
fn selected_by(app: &App, mesh: &str, path: &str, name: &str) -> Result<impl Fn(&Resource) -> bool, Failure> {
    let kind = kind_of(path, Scope::Mesh)?;
    if kind.policy.is_none() {
        return Err(Failure::Plain(axum::http::StatusCode::NOT_FOUND));
    }
    let snapshot = app.snapshot();
    App::require_mesh(&snapshot, mesh)?;
    let policy = snapshot.resource(&Key::new(kind, mesh, name));
    let policy = policy.ok_or_else(|| missing(kind))?;
    let set = PolicySet::new([policy]);
    // Every proxy is asked as if it were in the policy's zone: the question is whom the policy means.
    let zone = policy.zone().unwrap_or_default().to_owned();
    Ok(move |dataplane: &Resource| {
        let proxy = Proxy { zone: &zone, ..Proxy::new(dataplane, &zone) }.with_shadow(true);
        !set.select(&proxy).is_empty()
    })
}

/// GET of the proxies that serve a MeshService.
pub(super) async fn of_service(
    State(app): State<Shared>,
    Path((mesh, name)): Path<(String, String)>,
    call: Call,
) -> Answer {
    let snapshot = app.snapshot();
    App::require_mesh(&snapshot, &mesh)?;
    let service = snapshot.resource(&Key::new(Kind::MESH_SERVICE, &mesh, &name));
    let service = service.ok_or_else(|| missing(Kind::MESH_SERVICE))?;
    let spec = service.spec::<MeshService>().map_err(|error| Problem::undecodable(&error))?;
    list(&app, &call, &mesh, |dataplane| {
        let by_name = spec.selector.dataplane_ref.as_ref().is_some_and(|one| one.name == dataplane.name());
        let by_labels = spec.selector.dataplane_labels.as_ref();
        by_name || by_labels.is_some_and(|selector| selector.selects(dataplane))
    })
}

fn missing(kind: Kind) -> Problem {
    Problem::not_found(format!("Could not retrieve {kind}"))
}

fn list(app: &App, call: &Call, mesh: &str, selected: impl Fn(&Resource) -> bool) -> Answer {
    let paging = Paging::of(&call.query)?;
    let filter = Filter::of(Kind::DATAPLANE, "", &call.query)?;
    let snapshot = app.snapshot();
    let found = snapshot
        .in_mesh(Kind::DATAPLANE, mesh)
        .filter(|dataplane| filter.selects(dataplane) && selected(dataplane))
        .map(|dataplane| meta(dataplane));
    let page: Page<Value> = Page::of(found, paging, call);
    let mut answer = json!({"total": page.total, "items": page.items});
    if let (Some(next), Some(fields)) = (page.next, answer.as_object_mut()) {
        fields.insert("next".into(), json!(next));
    }
    Ok(json::ok(&answer))
}
