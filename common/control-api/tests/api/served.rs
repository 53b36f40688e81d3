//! The API on its ports, and what it asks of proxies.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::http::StatusCode;
use bytes::Bytes;
use control_api::{
    AdminQuery, ApiConfig, ApiError, HttpsConfig, InspectError, NoProxies, ProxyInspector, StoredProxies,
};
use model::labels::Plane;
use model::{Key, rest};
use runtime::Tasks;
use serde_json::{Value, json};
use store::{MemoryStore, Op, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Server, api, dataplane, standalone};

#[tokio::test]
async fn plain_http_stays_on_loopback_and_https_needs_a_certificate() {
    let tasks = Tasks::new();
    let store: Store = Arc::new(MemoryStore::new());
    let config = |https: HttpsConfig| ApiConfig {
        address: [0, 0, 0, 0].into(),
        port: 0,
        https: HttpsConfig { port: 0, ..https },
        ..ApiConfig::default()
    };
    let start = async |config: ApiConfig| {
        let api = api(&store, &tasks, Plane::Global, Arc::new(NoProxies)).await;
        control_api::spawn(&tasks, config, api)
    };
    let missing = start(config(HttpsConfig::default())).await.unwrap_err();
    assert!(matches!(missing, ApiError::NoCertificate), "{missing}");
    let half = HttpsConfig { cert_file: Some("a".into()), ..HttpsConfig::default() };
    assert!(matches!(start(config(half)).await.unwrap_err(), ApiError::HalfPair));

    let dir = tempfile::tempdir().unwrap();
    let names = ["localhost".to_owned()];
    let identity =
        auth::files::load_or_generate(dir.path(), "api", &names, std::time::SystemTime::now().into())
            .unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, &identity.cert_chain_pem).unwrap();
    std::fs::write(&key, identity.key.expose()).unwrap();
    let pair = HttpsConfig { cert_file: Some(cert), key_file: Some(key), ..HttpsConfig::default() };
    let handle = start(config(pair)).await.unwrap();
    assert!(handle.http.ip().is_loopback());
    assert!(handle.https.unwrap().ip().is_unspecified());

    let open = ApiConfig { plain_http_off_loopback: true, ..config(HttpsConfig::default()) };
    let handle = start(open).await.unwrap();
    assert!(handle.http.ip().is_unspecified() && handle.https.is_none());
    tasks.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_stop_waits_for_nothing_that_goes_on_for_ever() {
    let tasks = Tasks::new();
    let store: Store = Arc::new(MemoryStore::new());
    let api = api(&store, &tasks, standalone(), Arc::new(NoProxies)).await;
    let handle = control_api::spawn(&tasks, ApiConfig { port: 0, ..ApiConfig::default() }, api).unwrap();
    let mut stream = tokio::net::TcpStream::connect(handle.http).await.unwrap();
    let request = format!("GET /meshes/_watch HTTP/1.1\r\nhost: {}\r\n\r\n", handle.http);
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("SYNCED") {
        assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0, "{}", String::from_utf8_lossy(&seen));
    }
    let late = tasks.shutdown(Duration::from_secs(20)).await;
    assert!(late.is_empty(), "{late:?}");
    stream.read_to_end(&mut seen).await.unwrap();
    assert!(seen.ends_with(b"0\r\n\r\n"), "the answer ends in order");
}

#[tokio::test]
async fn a_sender_of_a_body_that_is_too_large_reads_the_answer() {
    let tasks = Tasks::new();
    let store: Store = Arc::new(MemoryStore::new());
    let api = api(&store, &tasks, standalone(), Arc::new(NoProxies)).await;
    let config = ApiConfig { port: 0, ..ApiConfig::default() };
    let handle = control_api::spawn(&tasks, config, api).unwrap();
    let mut stream = tokio::net::TcpStream::connect(handle.http).await.unwrap();
    let length = 20 << 20;
    let head = format!(
        "PUT /meshes/default HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b' '; length]).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("/std-errors"), "{answer}");
    tasks.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_proxy_that_only_the_store_knows_has_a_configuration() {
    let tasks = Tasks::new();
    let store: Store = Arc::new(MemoryStore::new());
    let documents = [
        json!({"type": "Mesh", "name": "default"}),
        dataplane("default", "dp"),
        dataplane("default", "unseen"),
        json!({"type": "DataplaneInsight", "mesh": "default", "name": "dp"}),
    ];
    for document in &documents {
        let resource = rest::parse(document).unwrap().resource.build();
        store.commit(vec![Op::create(resource)]).await.unwrap();
    }
    let snapshots = api(&store, &tasks, standalone(), Arc::new(NoProxies)).await.snapshots;
    let proxies = StoredProxies::new(snapshots, "default");
    let key = |name: &str| Key::new(model::Kind::DATAPLANE, "default", name);
    let xds = proxies.configuration(&key("dp"), false).await.unwrap();
    let clusters = &xds["type.googleapis.com/envoy.config.cluster.v3.Cluster"];
    assert!(clusters.get("self_inbound_dp_8080").is_some(), "{clusters}");
    for name in ["unseen", "none"] {
        let error = proxies.configuration(&key(name), false).await.unwrap_err();
        assert!(matches!(error, InspectError::NotConnected(_)), "{name}: {error}");
    }
    let query = AdminQuery::Clusters { json: true };
    assert_eq!(proxies.admin(&key("dp"), query).await, Err(InspectError::NotAvailable));
}

/// Knows one proxy.
#[derive(Default)]
struct OneProxy(Mutex<Vec<AdminQuery>>);

#[async_trait]
impl ProxyInspector for OneProxy {
    async fn configuration(&self, dataplane: &Key, shadow: bool) -> Result<Value, InspectError> {
        match &*dataplane.name {
            "dp" => Ok(json!({"type/Cluster": {"a": {"timeout": if shadow { "2s" } else { "1s" }}}})),
            other => Err(InspectError::NotConnected(other.into())),
        }
    }

    async fn admin(&self, _: &Key, query: AdminQuery) -> Result<Bytes, InspectError> {
        self.0.lock().unwrap().push(query);
        Ok(Bytes::from_static(b"{}"))
    }
}

async fn with_proxies() -> (Server, Arc<OneProxy>) {
    let proxies = Arc::new(OneProxy::default());
    let server = Server::with(standalone(), ApiConfig::default(), Arc::clone(&proxies) as _).await;
    for name in ["dp", "lost"] {
        let insight = json!({"type": "DataplaneInsight", "mesh": "default", "name": name});
        let insight = rest::parse(&insight).unwrap().resource.build();
        server.store.commit(vec![Op::create(insight)]).await.unwrap();
    }
    server.mesh("default").await;
    for name in ["dp", "lost", "new"] {
        server.put(&format!("/meshes/default/dataplanes/{name}"), dataplane("default", name)).await;
    }
    (server, proxies)
}

#[tokio::test]
async fn the_configuration_of_a_proxy_and_what_a_shadow_would_change() {
    let (server, _) = with_proxies().await;
    let path = "/meshes/default/dataplanes/dp/_config";
    let plain = server.get(path).await.json();
    assert_eq!(plain, json!({"xds": {"type/Cluster": {"a": {"timeout": "1s"}}}}));
    let shadow = server.get(&format!("{path}?shadow=true&include=diff")).await.json();
    assert_eq!(shadow["xds"]["type/Cluster"]["a"]["timeout"], "2s");
    let operations: Vec<_> = shadow["diff"].as_array().unwrap().iter().map(|one| one["op"].clone()).collect();
    assert_eq!(operations, ["test", "remove", "add"]);
    assert_eq!(server.get(&format!("{path}?include=diff")).await.json()["diff"], json!([]));
    for (query, what) in [("shadow=maybe", "shadow"), ("include=all", "include")] {
        let detail = server.get(&format!("{path}?{query}")).await.json()["detail"].clone();
        assert_eq!(detail, format!("bad request: unsupported value for query parameter '{what}'"));
    }
    let unseen = server.get("/meshes/default/dataplanes/new/_config").await;
    assert_eq!(unseen.json()["title"], "Failed to fetch dataplane insight");
    let lost = server.get("/meshes/default/dataplanes/lost/_config").await;
    assert!(lost.json()["detail"].as_str().unwrap().contains("not connected"), "{}", lost.text);
}

#[tokio::test]
async fn proxies_are_asked_as_the_caller_asks() {
    let (server, proxies) = with_proxies().await;
    for path in ["xds?include_eds=true", "stats", "stats?format=json&usedonly=false", "clusters"] {
        let answer = server.get(&format!("/meshes/default/dataplanes/dp/{path}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
    }
    assert_eq!(
        *proxies.0.lock().unwrap(),
        [
            AdminQuery::ConfigDump { include_eds: true },
            AdminQuery::Stats { json: false, used_only: true },
            AdminQuery::Stats { json: true, used_only: false },
            AdminQuery::Clusters { json: false },
        ]
    );
    let answer = server.get("/meshes/default/dataplanes/dp/quitquitquit").await;
    assert_eq!(answer.json()["title"], "Could not execute admin operation");
    assert_eq!(server.get("/meshes/default/dataplanes/none/stats").await.status, StatusCode::NOT_FOUND);
}
