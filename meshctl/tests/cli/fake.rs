//! A control plane that keeps documents by path, remembers requests and plays back answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, WARNING};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use runtime::Tasks;
use runtime::serve::{ServeOptions, bind, spawn};
use serde_json::{Value, json};

/// Items of a page, so that a few resources need several.
const PAGE: usize = 2;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: Value,
}

/// An answer to play back.
#[derive(Clone, Debug)]
struct Answer {
    status: u16,
    body: String,
}

#[derive(Debug, Default)]
struct Held {
    documents: BTreeMap<String, Value>,
    answers: BTreeMap<String, Answer>,
    seen: Vec<Seen>,
    closes_connections: bool,
}

/// The control plane.
pub(crate) struct Fake {
    address: SocketAddr,
    scheme: &'static str,
    held: Arc<Mutex<Held>>,
    tasks: Tasks,
}

impl Fake {
    pub(crate) fn start() -> Self {
        Self::serve(ServeOptions::default(), "http")
    }

    pub(crate) fn start_tls(config: Arc<rustls::ServerConfig>) -> Self {
        Self::serve(ServeOptions::tls(config), "https")
    }

    fn serve(options: ServeOptions, scheme: &'static str) -> Self {
        let held = Arc::new(Mutex::new(Held::default()));
        let tasks = Tasks::new();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&held));
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = spawn(&tasks, "fake", listener, router, options).unwrap();
        let fake = Self { address, scheme, held, tasks };
        fake.put("/", json!({"product": "Kuma", "version": "9.9.9", "instanceId": "cp-1"}));
        fake.put("/who-am-i", json!({"name": "a", "groups": []}));
        fake
    }

    /// The flag that leads here.
    pub(crate) fn flag(&self) -> String {
        format!("--address {}", self.url())
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap()
    }

    /// Keeps a document.
    pub(crate) fn put(&self, path: &str, document: Value) {
        self.held().documents.insert(path.to_owned(), document);
    }

    pub(crate) fn document(&self, path: &str) -> Option<Value> {
        self.held().documents.get(path).cloned()
    }

    /// Answers a request, for example `PUT /meshes/a`, in this way from now on.
    pub(crate) fn play(&self, request: &str, status: u16, body: &str) {
        let answer = Answer { status, body: body.to_owned() };
        self.held().answers.insert(request.to_owned(), answer);
    }

    /// Ends each connection after one answer, as proxies do.
    pub(crate) fn close_connections(&self) {
        self.held().closes_connections = true;
    }

    /// The requests since the last call.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.held().seen)
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

async fn answer(State(held): State<Arc<Mutex<Held>>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let target = head.uri.path_and_query().unwrap().as_str().to_owned();
    let line = format!("{} {target}", head.method);
    let header = |name| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let mut held = held.lock().unwrap();
    let authorization = header(AUTHORIZATION);
    held.seen.push(Seen { line: line.clone(), authorization, body: Value::clone(&body) });
    let mut response = match held.answers.get(&line) {
        Some(answer) => (StatusCode::from_u16(answer.status).unwrap(), answer.body.clone()).into_response(),
        None => held.resource(&head.method, head.uri.path(), head.uri.query().unwrap_or_default(), body),
    };
    if header(CONTENT_TYPE).is_some_and(|found| found != "application/json") {
        response = StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    if held.closes_connections {
        response.headers_mut().insert(CONNECTION, "close".parse().unwrap());
    }
    response
}

impl Held {
    fn resource(&mut self, method: &Method, path: &str, query: &str, mut body: Value) -> Response {
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        match *method {
            Method::GET => match self.documents.get(path) {
                Some(document) => json_answer(StatusCode::OK, document),
                None if self.is_collection(path) => self.page(path, query),
                None => not_found("Could not retrieve a resource"),
            },
            Method::PUT if name.starts_with("bad") => {
                let problem = json!({"status": 400, "title": "Could not process a resource",
                    "detail": "Resource is not valid",
                    "invalid_parameters": [{"field": "spec.to[0].default", "reason": "must be set"}]});
                json_answer(StatusCode::BAD_REQUEST, &problem)
            }
            Method::PUT => {
                // As a control plane does: fields that it computes are there afterwards.
                body["kri"] = json!(format!("kri_{name}"));
                body["modificationTime"] = json!(format!("time {}", self.seen.len()));
                let is_new = self.documents.insert(path.to_owned(), body).is_none();
                let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
                let warnings = json!({"warnings": ["it is old"]});
                if name.starts_with("old") {
                    ([(WARNING, r#"299 - "use another""#)], json_answer(status, &warnings)).into_response()
                } else {
                    json_answer(status, &json!({}))
                }
            }
            Method::DELETE => match self.documents.remove(path) {
                Some(_) => json_answer(StatusCode::OK, &json!({})),
                None => not_found("Could not delete a resource"),
            },
            _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        }
    }

    fn is_collection(&self, path: &str) -> bool {
        let plural = path.trim_end_matches("/_overview");
        plural.ends_with('s')
    }

    /// Items below a path, or of every mesh for a path without one.
    fn page(&self, path: &str, query: &str) -> Response {
        let (collection, overview) = match path.strip_suffix("/_overview") {
            Some(collection) => (collection, "/_overview"),
            None => (path, ""),
        };
        let is_item = |key: &&String| {
            let rest = key.strip_suffix(overview).unwrap_or_default();
            let parent = rest.rsplit_once('/').map(|(parent, _)| parent).unwrap_or_default();
            parent == collection || (parent.starts_with("/meshes/") && parent.ends_with(collection))
        };
        let items: Vec<_> =
            self.documents.keys().filter(is_item).filter_map(|key| self.documents.get(key)).collect();
        let asked = query.split('&').find_map(|part| part.strip_prefix("offset="));
        let offset: usize = asked.map(|offset| offset.parse().unwrap()).unwrap_or_default();
        let end = items.len().min(offset + PAGE);
        let next =
            (end < items.len()).then(|| format!("http://elsewhere.example{path}?offset={end}&size={PAGE}"));
        let page = json!({"total": items.len(), "items": items[offset..end], "next": next});
        json_answer(StatusCode::OK, &page)
    }
}

fn not_found(title: &str) -> Response {
    json_answer(StatusCode::NOT_FOUND, &json!({"status": 404, "title": title, "detail": "Not found"}))
}

fn json_answer(status: StatusCode, document: &Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], Body::from(document.to_string())).into_response()
}
