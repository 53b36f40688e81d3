//! Reading resources: one, or a page of a list.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use model::rest::Document;
use model::{Key, Kind, Resource, Scope};
use serde::Serialize;

use super::call::{Answer, Call, Failure, kind_of};
use super::{insights, kubernetes};
use crate::app::{App, Shared};
use crate::json;
use crate::problem::Problem;
use crate::query::{Filter, Paging};

/// Title of a resource that cannot be read.
pub(super) const ONE: &str = "Could not retrieve a resource";

/// A page of a list.
#[derive(Serialize)]
pub(super) struct Page<T> {
    pub(super) total: usize,
    pub(super) items: Vec<T>,
    pub(super) next: Option<String>,
}

impl<T> Page<T> {
    /// The page of a list that a call asks for.
    pub(super) fn of(items: impl IntoIterator<Item = T>, paging: Paging, call: &Call) -> Self {
        let (items, total, more) = paging.part(items);
        Self { total, items, next: more.then(|| paging.next(&call.place, &call.query)) }
    }
}

impl<T: Clone> Page<&T> {
    fn cloned(self) -> Page<T> {
        Page { total: self.total, items: self.items.into_iter().cloned().collect(), next: self.next }
    }
}

/// GET of a resource of global scope.
pub(super) async fn global(
    State(app): State<Shared>,
    Path((path, name)): Path<(String, String)>,
    call: Call,
) -> Answer {
    let kind = kind_of(&path, Scope::Global)?;
    one(&app, &call, &Key::global(kind, &name))
}

/// GET of a resource in a mesh.
pub(super) async fn in_mesh(
    State(app): State<Shared>,
    Path((mesh, path, name)): Path<(String, String, String)>,
    call: Call,
) -> Answer {
    let kind = kind_of(&path, Scope::Mesh)?;
    App::require_mesh(&app.snapshot(), &mesh)?;
    one(&app, &call, &Key::new(kind, &mesh, &name))
}

/// GET of all resources of a kind, over all meshes.
pub(super) async fn list_all(State(app): State<Shared>, Path(path): Path<String>, call: Call) -> Answer {
    let Some(kind) = Kind::by_path(&path) else {
        return Err(Failure::Plain(StatusCode::NOT_FOUND));
    };
    list(&app, &call, kind, None, &format!("/{path}"))
}

/// GET of the resources of a kind in one mesh.
pub(super) async fn list_in_mesh(
    State(app): State<Shared>,
    Path((mesh, path)): Path<(String, String)>,
    call: Call,
) -> Answer {
    let kind = kind_of(&path, Scope::Mesh)?;
    list(&app, &call, kind, Some(&mesh), &format!("/meshes/{{mesh}}/{path}"))
}

/// One resource, in the format that the call asks for.
pub(super) fn one(app: &App, call: &Call, key: &Key) -> Answer {
    app.require_access(&call.user, key.kind)?;
    let snapshot = app.snapshot();
    let resource = if key.kind == Kind::MESH_INSIGHT {
        insights::of_mesh(app, &snapshot, &key.name)
    } else {
        snapshot.resource(key).map(Arc::clone)
    };
    let resource = &resource.ok_or_else(|| Problem::not_found(ONE))?;
    let answer = match call.query.get("format") {
        None | Some("" | "universal") => document(resource),
        Some("k8s" | "kubernetes") => kubernetes::document(resource, call.query.some("namespace")),
        Some(_) => {
            let message = r#""format" must be one of ["k8s", "kubernetes", "universal"]"#;
            return Err(Problem::invalid_field(ONE, "format", message).into());
        }
    };
    Ok(answer)
}

fn document(resource: &Resource) -> Response {
    match Document::of(resource) {
        Ok(document) => json::ok(&document),
        Err(error) => Problem::undecodable(&error).into_response(),
    }
}

fn list(app: &App, call: &Call, kind: Kind, mesh: Option<&str>, route: &str) -> Answer {
    let page = select(app, call, kind, mesh, route)?;
    let documents: Result<Vec<_>, _> = page.items.iter().map(|resource| Document::of(resource)).collect();
    let items = documents.map_err(|error| Problem::undecodable(&error))?;
    Ok(json::reply(StatusCode::OK, &Page { total: page.total, items, next: page.next }))
}

/// The page asked for of the resources that a list's filters select, ordered by mesh and name.
pub(super) fn select(
    app: &App,
    call: &Call,
    kind: Kind,
    mesh: Option<&str>,
    route: &str,
) -> Result<Page<Arc<Resource>>, Problem> {
    let snapshot = app.snapshot();
    if let Some(mesh) = mesh {
        App::require_mesh(&snapshot, mesh)?;
    }
    app.require_access(&call.user, kind)?;
    let paging = Paging::of(&call.query)?;
    let filter = Filter::of(kind, route, &call.query)?;
    let selected = |resource: &&Arc<Resource>| filter.selects(resource);
    if kind == Kind::MESH_INSIGHT {
        let meshes = snapshot.kind(Kind::MESH);
        let insights = meshes.filter_map(|mesh| insights::of_mesh(app, &snapshot, mesh.name()));
        return Ok(Page::of(insights.filter(|insight| filter.selects(insight)), paging, call));
    }
    let page = match mesh {
        Some(mesh) => Page::of(snapshot.in_mesh(kind, mesh).filter(selected), paging, call),
        None => Page::of(snapshot.kind(kind).filter(selected), paging, call),
    };
    Ok(page.cloned())
}
