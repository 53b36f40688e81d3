//! Creating and updating resources.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::WARNING;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use model::labels::{self, Plane, ZoneListeners};
use model::rest::{self, ParseError, Parsed};
use model::schema::UnknownField;
use model::spec::{Dataplane, Mesh};
use model::validation::{self, is_dns1035_label};
use model::{Key, Kind, Labels, Resource, Scope, Timestamp};
use serde_json::{Map, Value, json};
use store::{Expect, Op, Revision, StoreError, Stored};

use super::call::{Answer, Call, Failure, kind_of};
use crate::app::{App, Shared};
use crate::problem::Problem;
use crate::{advice, body, checks, defaults, document, json, schema_check};

const PROCESS: &str = "Could not process a resource";
const FIND: &str = "Failed to find a resource";
const CREATE: &str = "Failed to create a resource";
const UPDATE: &str = "Failed to update a resource";
const IMMUTABLE: &str = "Could not update a resource";

/// How often a write is tried again when somebody else wrote the same resource in between.
const RETRIES: usize = 16;

/// PUT of a resource of global scope.
pub(super) async fn global(
    State(app): State<Shared>,
    Path((path, name)): Path<(String, String)>,
    call: Call,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let kind = kind_of(&path, Scope::Global)?;
    put(&app, &call, Key::global(kind, &name), &headers, body).await
}

/// PUT of a resource in a mesh.
pub(super) async fn in_mesh(
    State(app): State<Shared>,
    Path((mesh, path, name)): Path<(String, String, String)>,
    call: Call,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let kind = kind_of(&path, Scope::Mesh)?;
    put(&app, &call, Key::new(kind, &mesh, &name), &headers, body).await
}

/// PUT of a service insight: they have a path of their own.
pub(super) async fn service_insight(
    State(app): State<Shared>,
    Path((mesh, name)): Path<(String, String)>,
    call: Call,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    put(&app, &call, Key::new(Kind::SERVICE_INSIGHT, &mesh, &name), &headers, body).await
}

async fn put(app: &App, call: &Call, key: Key, headers: &HeaderMap, content: Body) -> Answer {
    // Read in any case: a caller that is still sending does not read an early answer.
    let content = body::read(content).await;
    body::require_json(headers).map_err(Failure::Plain)?;
    app.require_writable(key.kind)?;
    app.require_access(&call.user, key.kind)?;
    require_mesh(app, &key).await?;
    let given = Given::read(&key, &content?)?;
    let (created, revision) = store(app, &key, &given).await?;
    if let Some(revision) = revision {
        app.settle(revision).await;
    }
    tracing::info!(%key, user = %call.user, created, "resource written");
    Ok(answer(created, &given))
}

/// Refuses a mesh that is neither in the index nor, because the index may be behind, in the store.
pub(super) async fn require_mesh(app: &App, key: &Key) -> Result<(), Problem> {
    if !key.kind.is_mesh_scoped() {
        return Ok(());
    }
    let Err(missing) = App::require_mesh(&app.snapshot(), &key.mesh) else { return Ok(()) };
    let stored = app.api.store.get(&Key::global(Kind::MESH, &key.mesh)).await;
    match stored.map_err(|error| Problem::store(FIND, &error))? {
        Some(_) => Ok(()),
        None => Err(missing),
    }
}

/// What a caller wants a resource to be.
struct Given {
    object: Map<String, Value>,
    /// As parsed, under the key of the URL.
    resource: Resource,
    /// The mesh that the document names.
    mesh: String,
    unknown: Vec<UnknownField>,
}

impl Given {
    fn read(key: &Key, content: &[u8]) -> Result<Self, Problem> {
        let object = body::object(key.kind, content)?;
        if key.kind.is_json() {
            let violations = schema_check::check(key.kind, &object);
            if !violations.is_empty() {
                return Err(Problem::invalid(PROCESS, &violations));
            }
        } else {
            body::check_meta(key.kind, &object)?;
        }
        let Parsed { mut resource, mut unknown } =
            rest::parse_as(key.kind, &object).map_err(|error| unparsable(key.kind, &object, &error))?;
        unknown.extend(document::unknown_keys(key.kind, &object));
        let mesh = resource.key.mesh.to_string();
        resource.key = key.clone();
        let resource = resource.build();
        let mut violations = validation::validate_spec(&resource);
        if let Some(spec) = object.get("spec") {
            proxy_config::check_spec(key.kind, spec, &mut violations);
        }
        if violations.is_empty() {
            Ok(Self { object, resource, mesh, unknown })
        } else {
            Err(Problem::invalid(PROCESS, &violations))
        }
    }
}

fn unparsable(kind: Kind, object: &Map<String, Value>, error: &ParseError) -> Problem {
    let place = document::place_of_error(kind, object);
    match error {
        ParseError::Payload { reason, .. } if kind.is_json() => {
            Problem::invalid_field(PROCESS, &place, reason.to_string())
        }
        ParseError::Payload { reason, .. } => {
            let place = if place.is_empty() { place } else { format!("{place}: ") };
            Problem::bad_request(format!("invalid {kind} object: {:?}", format!("{place}{reason}")))
        }
        other => Problem::bad_request(format!("invalid {kind} object: {:?}", other.to_string())),
    }
}

/// Writes by compare-and-swap; answers whether the resource is new, and the revision unless nothing changed.
async fn store(app: &App, key: &Key, given: &Given) -> Result<(bool, Option<Revision>), Problem> {
    for _ in 0..RETRIES {
        let stored = app.api.store.get(key).await.map_err(|error| Problem::store(FIND, &error))?;
        check(app, key, given, stored.as_ref())?;
        let now = App::now();
        let ops = match &stored {
            None => create(app, key, given, now).await?,
            Some(stored) => match update(app, given, stored, now)? {
                Some(op) => vec![op],
                None => return Ok((false, None)),
            },
        };
        let title = if stored.is_none() { CREATE } else { UPDATE };
        match commit(app, key, ops).await {
            Ok(revision) => return Ok((stored.is_none(), Some(revision))),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(Problem::store(title, &error)),
        }
    }
    Err(Problem::store(UPDATE, &StoreError::Conflict { key: key.clone() }))
}

/// Commits a write. Resources that come with a new one may be there already: then they stay.
async fn commit(app: &App, key: &Key, mut ops: Vec<Op>) -> Result<Revision, StoreError> {
    loop {
        match app.api.store.commit(ops.clone()).await {
            Err(StoreError::Conflict { key: taken }) if taken != *key && ops.len() > 1 => {
                ops.retain(|op| *op.key() != taken);
            }
            done => return done,
        }
    }
}

fn check(app: &App, key: &Key, given: &Given, stored: Option<&Stored>) -> Result<(), Problem> {
    let plane = app.plane();
    let origin_matters = !app.config.disable_origin_label_validation;
    let labels = given.resource.labels();
    let claimed = checks::Claimed::of(&given.object, &given.mesh, labels);
    let mut violations = checks::check(plane, origin_matters, key, &claimed);
    if let Some(stored) = stored.filter(|_| violations.is_empty() && origin_matters) {
        checks::check_stored(plane, key.kind, stored.resource.labels(), &mut violations);
    }
    if !violations.is_empty() {
        return Err(Problem::invalid(PROCESS, &violations));
    }
    if stored.is_none() && key.kind == Kind::DATAPLANE {
        check_workload(plane, labels)?;
    }
    Ok(())
}

fn check_workload(plane: &Plane, labels: &Labels) -> Result<(), Problem> {
    let Some(workload) = labels.get(labels::WORKLOAD) else { return Ok(()) };
    let label = format!("labels[{:?}]", labels::WORKLOAD);
    if *plane == Plane::Global {
        return Err(Problem::refused(format!("{label}: not allowed on Global control plane")));
    }
    if is_dns1035_label(workload) {
        return Ok(());
    }
    // A kind whose name must be such a label has the words for it.
    let reasons = validation::check_display_name(Kind::MESH_SERVICE, workload);
    let reasons: Vec<_> = reasons.iter().map(|one| one.message.as_str()).collect();
    Err(Problem::refused(format!(
        "{label}: must be a valid DNS-1035 label (at most 63 characters, matching regex [a-z]([-a-z0-9]*[a-z0-9])?): {}",
        reasons.join(", ")
    )))
}

async fn create(app: &App, key: &Key, given: &Given, now: Timestamp) -> Result<Vec<Op>, Problem> {
    let violations = validation::check_display_name(key.kind, &key.name);
    if !violations.is_empty() {
        return Err(Problem::invalid(CREATE, &violations));
    }
    let mut builder = given.resource.to_builder().labels(computed(app, given)).at(now);
    builder.status = key.kind.empty_status.map(model::Payload::from_bytes);
    let mut ops = vec![Op::create(builder.build())];
    if key.kind == Kind::MESH && app.api.mesh_defaults {
        let skip = given.resource.spec::<Mesh>().map_err(|error| Problem::undecodable(&error))?;
        let belongings =
            defaults::of_mesh(&*app.api.store, app.plane(), &key.name, &skip.skip_creating_initial_policies);
        let belongings = belongings.await.map_err(|error| Problem::defaults(CREATE, &error))?;
        ops.extend(belongings.into_iter().map(Op::create));
    }
    Ok(ops)
}

/// The write of an update; `None` when it changes nothing.
fn update(app: &App, given: &Given, stored: &Stored, now: Timestamp) -> Result<Option<Op>, Problem> {
    let before = &stored.resource;
    let labels = computed(app, given);
    let stays = checks::check_immutable(&computed_of(app, before, before.labels()), &labels);
    if !stays.is_empty() {
        return Err(Problem::invalid(IMMUTABLE, &stays));
    }
    let mut builder = given.resource.to_builder().labels(labels);
    builder.created = before.created();
    builder.modified = now;
    builder.status = before.raw_status().cloned();
    let after = builder.build();
    if after.same_content(before) {
        return Ok(None);
    }
    Ok(Some(Op::Put(Arc::new(after), Expect::At(stored.revision))))
}

fn computed(app: &App, given: &Given) -> Labels {
    computed_of(app, &given.resource, given.resource.labels())
}

fn computed_of(app: &App, resource: &Resource, given: &Labels) -> Labels {
    let Key { kind, mesh, name } = resource.key();
    labels::compute(app.plane(), *kind, mesh, name, given, listeners(resource))
}

fn listeners(resource: &Resource) -> Option<ZoneListeners> {
    if resource.kind() != Kind::DATAPLANE {
        return None;
    }
    Some(ZoneListeners::of(resource.spec::<Dataplane>().ok()?))
}

fn answer(created: bool, given: &Given) -> Response {
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let warnings = advice::warnings(given.resource.kind(), given.object.get("spec").unwrap_or(&Value::Null));
    let body = if warnings.is_empty() { json!({}) } else { json!({"warnings": warnings}) };
    let mut response = json::reply(status, &body);
    for field in &given.unknown {
        // RFC 9111 dropped the header, but every client shows it: code 299, no agent, quoted text.
        let text = field.to_string().replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{text}\"")) {
            response.headers_mut().append(WARNING, value);
        }
    }
    response
}
