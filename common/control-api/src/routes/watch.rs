//! Following the resources of a kind: a stream of lines, one JSON event each. What is there comes first, then a
//! line that says so, then every change as it happens.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::stream;
use model::rest::Document;
use model::{Key, Kind, Resource, Scope};
use serde::Serialize;
use store::Snapshot;
use store::index::SnapshotReceiver;
use tokio_util::sync::CancellationToken;

use super::call::{Answer, Call, Failure, kind_of};
use crate::app::{App, Shared};
use crate::authn::Proof;
use crate::query::Filter;

/// Resources that one part of the answer holds while the first ones are sent.
const BATCH: usize = 200;

/// GET of the changes of a kind, over all meshes.
pub(super) async fn all(State(app): State<Shared>, Path(path): Path<String>, call: Call) -> Answer {
    let kind = Kind::by_path(&path).ok_or(Failure::Plain(axum::http::StatusCode::NOT_FOUND))?;
    watch(&app, &call, kind, None, &format!("/{path}/_watch"))
}

/// GET of the changes of a kind in one mesh.
pub(super) async fn in_mesh(
    State(app): State<Shared>,
    Path((mesh, path)): Path<(String, String)>,
    call: Call,
) -> Answer {
    let kind = kind_of(&path, Scope::Mesh)?;
    watch(&app, &call, kind, Some(&mesh), &format!("/meshes/{{mesh}}/{path}/_watch"))
}

fn watch(app: &Shared, call: &Call, kind: Kind, mesh: Option<&str>, route: &str) -> Answer {
    if let Some(mesh) = mesh {
        App::require_mesh(&app.snapshot(), mesh)?;
    }
    app.require_access(&call.user, kind)?;
    let mut snapshots = app.api.snapshots.clone();
    let shown = Arc::clone(&snapshots.borrow_and_update());
    let scope = Scoped { kind, mesh: mesh.map(str::to_owned), filter: Filter::of(kind, route, &call.query)? };
    let waiting = scope.all(&shown);
    let end = app.end.clone();
    let (app, proof) = (Shared::clone(app), call.proof.clone());
    let watch = Watch { app, proof, scope, snapshots, shown, waiting, is_synced: false, end };
    let lines = stream::unfold(watch, |mut watch| async {
        let lines = watch.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(lines)), watch))
    });
    let mut response = Response::new(Body::from_stream(lines));
    let content = axum::http::HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(CONTENT_TYPE, content);
    Ok(response.into_response())
}

/// Which resources are followed.
struct Scoped {
    kind: Kind,
    mesh: Option<String>,
    filter: Filter,
}

impl Scoped {
    fn all(&self, snapshot: &Snapshot) -> BTreeSet<Key> {
        match &self.mesh {
            Some(mesh) => snapshot.in_mesh(self.kind, mesh).map(|one| one.key().clone()).collect(),
            None => snapshot.kind(self.kind).map(|one| one.key().clone()).collect(),
        }
    }

    fn changed(&self, older: &Snapshot, newer: &Snapshot) -> impl Iterator<Item = Key> {
        let keys = newer.changed_keys(older, self.kind).into_iter();
        keys.filter(|key| self.mesh.as_deref().is_none_or(|mesh| *key.mesh == *mesh))
    }

    fn find<'a>(&self, snapshot: &'a Snapshot, key: &Key) -> Option<&'a Arc<Resource>> {
        snapshot.resource(key).filter(|resource| self.filter.selects(resource))
    }
}

struct Watch {
    app: Shared,
    proof: Proof,
    scope: Scoped,
    snapshots: SnapshotReceiver,
    /// What the reader has seen, once `waiting` is sent.
    shown: Arc<Snapshot>,
    /// Keys that were there at the start and are still to be sent.
    waiting: BTreeSet<Key>,
    is_synced: bool,
    /// Cancelled when the control plane stops.
    end: CancellationToken,
}

/// A line of the answer.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<Document<'a>>,
}

impl Watch {
    /// The next lines; `None` when the control plane ends or the token of the reader is taken back.
    async fn next(&mut self) -> Option<Vec<u8>> {
        let mut lines = Vec::new();
        if !self.is_synced {
            while let Some(key) = self.waiting.pop_first() {
                write(&mut lines, "ADDED", self.scope.find(&self.shown, &key));
                if self.waiting.len().is_multiple_of(BATCH) {
                    break;
                }
            }
            if self.waiting.is_empty() {
                self.is_synced = true;
                line(&mut lines, &Event { what: "SYNCED", object: None });
            }
            return Some(lines);
        }
        while lines.is_empty() {
            tokio::select! {
                () = self.end.cancelled() => return None,
                changed = self.snapshots.changed() => changed.ok()?,
            }
            let newer = Arc::clone(&self.snapshots.borrow_and_update());
            if newer.differs(&self.shown, Kind::GLOBAL_SECRET) && self.proof.is_taken_back(&self.app) {
                return None;
            }
            for key in self.scope.changed(&self.shown, &newer) {
                match (self.scope.find(&self.shown, &key), self.scope.find(&newer, &key)) {
                    (None, new) => write(&mut lines, "ADDED", new),
                    (old, None) => write(&mut lines, "DELETED", old),
                    (_, new) => write(&mut lines, "MODIFIED", new),
                }
            }
            self.shown = newer;
        }
        Some(lines)
    }
}

fn write(lines: &mut Vec<u8>, what: &'static str, resource: Option<&Arc<Resource>>) {
    let Some(resource) = resource else { return };
    match Document::of(resource) {
        Ok(document) => line(lines, &Event { what, object: Some(document) }),
        Err(error) => tracing::error!(key = %resource.key(), %error, "a resource cannot be shown to a watch"),
    }
}

fn line(lines: &mut Vec<u8>, event: &Event<'_>) {
    // A vector takes all, and documents have keys that are text.
    if serde_json::to_writer(&mut *lines, event).is_ok() {
        lines.push(b'\n');
    }
}
