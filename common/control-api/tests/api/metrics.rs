//! What is counted of requests.

use std::sync::Arc;

use axum::body::Body;
use control_api::{ApiConfig, Metrics, NoProxies};
use prometheus_client::registry::Registry;
use runtime::Tasks;
use store::{MemoryStore, Store};
use tower::ServiceExt;

use crate::harness::{api, request, standalone};

#[tokio::test]
async fn requests_are_counted_by_route_and_status_and_never_by_name() {
    let (store, tasks): (Store, _) = (Arc::new(MemoryStore::new()), Tasks::new());
    let mut registry = Registry::default();
    let mut api = api(&store, &tasks, standalone(), Arc::new(NoProxies)).await;
    api.metrics = Metrics::new(&mut registry);
    let router = control_api::router(ApiConfig::default(), api);
    for path in ["/meshes/one", "/meshes/two", "/no/such/route"] {
        let request = request("GET", path).body(Body::empty()).unwrap();
        router.clone().oneshot(request).await.unwrap();
    }
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let count = |line: &&str| line.starts_with("api_request_duration_seconds_count");
    let counts: Vec<_> = text.lines().filter(count).collect();
    assert_eq!(counts.len(), 2, "{text}");
    assert!(counts.iter().any(|line| line.contains("route=\"none\"") && line.ends_with(" 1")), "{counts:?}");
    assert!(
        counts.iter().any(|line| line.contains("route=\"/{path}/{name}\"") && line.ends_with(" 2")),
        "{counts:?}"
    );
    assert!(!text.contains("two"), "{text}");
}
