//! A control plane that is nothing but its API.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request, StatusCode};
use control_api::{Api, ApiConfig, BuildInfo, NoProxies, ProxyInspector};
use http_body_util::BodyExt;
use model::labels::Plane;
use runtime::{OnExit, Tasks};
use serde_json::Value;
use store::{MemoryStore, Store};
use tower::ServiceExt;

/// A caller on this host.
pub(crate) const LOCAL: &str = "127.0.0.1:40000";
/// A caller elsewhere.
pub(crate) const REMOTE: &str = "192.0.2.1:40000";

pub(crate) struct Server {
    pub(crate) store: Store,
    router: Router,
    _tasks: Tasks,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

pub(crate) fn standalone() -> Plane {
    Plane::Zone { name: "default".into(), federated: false }
}

pub(crate) fn federated() -> Plane {
    Plane::Zone { name: "east".into(), federated: true }
}

pub(crate) async fn api(store: &Store, tasks: &Tasks, plane: Plane, proxies: Arc<dyn ProxyInspector>) -> Api {
    let (snapshots, follow) = store::index::start(Arc::clone(store)).await.unwrap();
    tasks.spawn("index", OnExit::Ignore, follow);
    Api {
        store: Arc::clone(store),
        snapshots,
        plane,
        build: BuildInfo {
            version: "1.2.3".into(),
            instance_id: "host-abcd".into(),
            cluster_id: "cluster".into(),
        },
        proxies,
        config_json: serde_json::json!({"some": "config"}),
        tls: None,
        mesh_defaults: true,
        guard: kds::Guard::default(),
        metrics: control_api::Metrics::default(),
    }
}

impl Server {
    pub(crate) async fn start(plane: Plane) -> Self {
        Self::with(plane, ApiConfig::default(), Arc::new(NoProxies)).await
    }

    pub(crate) async fn with(plane: Plane, config: ApiConfig, proxies: Arc<dyn ProxyInspector>) -> Self {
        let store: Store = Arc::new(MemoryStore::new());
        Self::over(store, plane, config, proxies).await
    }

    pub(crate) async fn over(
        store: Store,
        plane: Plane,
        config: ApiConfig,
        proxies: Arc<dyn ProxyInspector>,
    ) -> Self {
        let tasks = Tasks::new();
        let api = api(&store, &tasks, plane, proxies).await;
        Self { store, router: control_api::router(config, api), _tasks: tasks }
    }

    /// The answer to a GET of the local administrator, its body unread.
    pub(crate) async fn stream(&self, path: &str) -> axum::response::Response {
        self.stream_of("GET", path).await
    }

    /// The answer to a request without a body of the local administrator, its body unread.
    pub(crate) async fn stream_of(&self, method: &str, path: &str) -> axum::response::Response {
        self.open(request(method, path).body(Body::empty()).unwrap(), LOCAL).await
    }

    /// The answer to a request, its body unread.
    pub(crate) async fn open(&self, request: Request<Body>, peer: &str) -> axum::response::Response {
        let mut request = request;
        let peer: SocketAddr = peer.parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(peer));
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn send(&self, request: Request<Body>, peer: &str) -> Answer {
        let response = self.open(request, peer).await;
        let (parts, body) = response.into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        Answer { status: parts.status, headers: parts.headers, text }
    }

    /// A request of the local administrator.
    pub(crate) async fn call(&self, method: &str, path: &str, body: impl Into<Body>) -> Answer {
        self.send(request(method, path).body(body.into()).unwrap(), LOCAL).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "").await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, "").await
    }

    pub(crate) async fn put(&self, path: &str, document: Value) -> Answer {
        self.call("PUT", path, document.to_string()).await
    }

    /// Puts a mesh without its default policies.
    pub(crate) async fn mesh(&self, name: &str) {
        let mesh = serde_json::json!({"type": "Mesh", "name": name, "skipCreatingInitialPolicies": ["*"]});
        let answer = self.put(&format!("/meshes/{name}"), mesh).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    }
}

pub(crate) fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost:5681")
        .header("content-type", "application/json")
}

/// A MeshTimeout of the zone `east`, or of none.
pub(crate) fn timeout(mesh: &str, name: &str, origin: Option<&str>) -> Value {
    let mut document = serde_json::json!({
        "type": "MeshTimeout", "mesh": mesh, "name": name,
        "spec": {"targetRef": {"kind": "Mesh"}, "to": [
            {"targetRef": {"kind": "Mesh"}, "default": {"connectionTimeout": "5s"}},
        ]},
    });
    if let Some(origin) = origin {
        document["labels"] = serde_json::json!({"kuma.io/origin": origin});
    }
    document
}

/// A Dataplane.
pub(crate) fn dataplane(mesh: &str, name: &str) -> Value {
    serde_json::json!({
        "type": "Dataplane", "mesh": mesh, "name": name,
        "networking": {"address": "127.0.0.1", "inbound": [{"port": 8080}]},
    })
}
