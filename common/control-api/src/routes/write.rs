//! Creating and updating resources, and telling what that would do.

use std::fmt;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::WARNING;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use model::labels::{self, Plane, ZoneListeners};
use model::rest::{self, Document, ParseError, Parsed};
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

/// POST of a document of global scope: what a PUT of it would do.
pub(super) async fn try_global(
    State(app): State<Shared>,
    Path((path, name)): Path<(String, String)>,
    call: Call,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let kind = kind_of(&path, Scope::Global)?;
    dry_run(&app, &call, &Key::global(kind, &name), &headers, body).await
}

/// POST of a document in a mesh: what a PUT of it would do.
pub(super) async fn try_in_mesh(
    State(app): State<Shared>,
    Path((mesh, path, name)): Path<(String, String, String)>,
    call: Call,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let kind = kind_of(&path, Scope::Mesh)?;
    dry_run(&app, &call, &Key::new(kind, &mesh, &name), &headers, body).await
}

/// The same for a mesh, whose paths are their own.
pub(super) async fn try_mesh(
    State(app): State<Shared>,
    Path(name): Path<String>,
    call: Call,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    dry_run(&app, &call, &Key::global(Kind::MESH, &name), &headers, body).await
}

/// The same for a dataplane, whose paths are their own.
pub(super) async fn try_dataplane(
    State(app): State<Shared>,
    Path((mesh, name)): Path<(String, String)>,
    call: Call,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    dry_run(&app, &call, &Key::new(Kind::DATAPLANE, &mesh, &name), &headers, body).await
}

async fn put(app: &App, call: &Call, key: Key, headers: &HeaderMap, content: Body) -> Answer {
    let given = accept(app, call, &key, headers, content).await?;
    let (outcome, revision) = store(app, &key, &given).await?;
    if let Some(revision) = revision {
        app.settle(revision).await;
    }
    tracing::info!(%key, user = %call.user, %outcome, "resource written");
    let status = if outcome == Outcome::Created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(answer(status, &given, Map::new()))
}

async fn dry_run(app: &App, call: &Call, key: &Key, headers: &HeaderMap, content: Body) -> Answer {
    let given = accept(app, call, key, headers, content).await?;
    let plan = Plan::make(app, key, &given).await?;
    let document = Document::of(&plan.after).map_err(|error| Problem::undecodable(&error))?;
    let brought = plan.ops.iter().map(|op| op.key().to_string()).filter(|other| *other != key.to_string());
    let body = [
        ("outcome".to_owned(), json!(plan.outcome.to_string())),
        ("resource".to_owned(), json!(document)),
        ("brings".to_owned(), brought.collect()),
    ];
    Ok(answer(StatusCode::OK, &given, body.into_iter().collect()))
}

/// What every write goes through before anything is looked up.
async fn accept(
    app: &App,
    call: &Call,
    key: &Key,
    headers: &HeaderMap,
    content: Body,
) -> Result<Given, Failure> {
    // Read in any case: a caller that is still sending does not read an early answer.
    let content = body::read(content).await;
    body::require_json(headers).map_err(Failure::Plain)?;
    app.require_writable(key.kind)?;
    app.require_access(&call.user, key.kind)?;
    require_mesh(app, key).await?;
    Ok(Given::read(key, &content?)?)
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

/// What a write does to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Created,
    Updated,
    Unchanged,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
        })
    }
}

/// A write that has passed every check.
struct Plan {
    outcome: Outcome,
    /// The resource as it is afterwards.
    after: Arc<Resource>,
    /// What is to be committed: nothing when nothing changes.
    ops: Vec<Op>,
}

impl Plan {
    async fn make(app: &App, key: &Key, given: &Given) -> Result<Self, Problem> {
        let stored = app.api.store.get(key).await.map_err(|error| Problem::store(FIND, &error))?;
        check(app, key, given, stored.as_ref())?;
        let now = App::now();
        let Some(stored) = stored else {
            let after = Arc::new(created(app, key, given, now)?);
            let mut ops = vec![Op::Put(Arc::clone(&after), Expect::Absent)];
            ops.extend(belongings(app, key, given).await?.into_iter().map(Op::create));
            return Ok(Self { outcome: Outcome::Created, after, ops });
        };
        let after = Arc::new(updated(app, given, &stored, now)?);
        if after.same_content(&stored.resource) {
            return Ok(Self { outcome: Outcome::Unchanged, after: stored.resource, ops: Vec::new() });
        }
        let ops = vec![Op::Put(Arc::clone(&after), Expect::At(stored.revision))];
        Ok(Self { outcome: Outcome::Updated, after, ops })
    }
}

/// Writes by compare-and-swap; answers with the revision unless nothing changed.
async fn store(app: &App, key: &Key, given: &Given) -> Result<(Outcome, Option<Revision>), Problem> {
    for _ in 0..RETRIES {
        let Plan { outcome, ops, .. } = Plan::make(app, key, given).await?;
        if outcome == Outcome::Unchanged {
            return Ok((outcome, None));
        }
        let title = if outcome == Outcome::Created { CREATE } else { UPDATE };
        match commit(app, key, ops).await {
            Ok(revision) => return Ok((outcome, Some(revision))),
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

fn created(app: &App, key: &Key, given: &Given, now: Timestamp) -> Result<Resource, Problem> {
    let violations = validation::check_display_name(key.kind, &key.name);
    if !violations.is_empty() {
        return Err(Problem::invalid(CREATE, &violations));
    }
    let mut builder = given.resource.to_builder().labels(computed(app, given)).at(now);
    builder.status = key.kind.empty_status.map(model::Payload::from_bytes);
    Ok(builder.build())
}

/// What comes with a new resource: a mesh has its signing key and first policies.
async fn belongings(app: &App, key: &Key, given: &Given) -> Result<Vec<Resource>, Problem> {
    if key.kind != Kind::MESH || !app.api.mesh_defaults {
        return Ok(Vec::new());
    }
    let skip = given.resource.spec::<Mesh>().map_err(|error| Problem::undecodable(&error))?;
    let of_mesh =
        defaults::of_mesh(&*app.api.store, app.plane(), &key.name, &skip.skip_creating_initial_policies);
    of_mesh.await.map_err(|error| Problem::defaults(CREATE, &error))
}

/// A stored resource with what is given in its place.
fn updated(app: &App, given: &Given, stored: &Stored, now: Timestamp) -> Result<Resource, Problem> {
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
    Ok(builder.build())
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

fn answer(status: StatusCode, given: &Given, mut body: Map<String, Value>) -> Response {
    let warnings = advice::warnings(given.resource.kind(), given.object.get("spec").unwrap_or(&Value::Null));
    if !warnings.is_empty() {
        body.insert("warnings".to_owned(), json!(warnings));
    }
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
