//! The diagnostics port: `/ready`, `/healthy` and `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::registry::Registry;

use crate::readiness::Readiness;
use crate::serve::{self, BindError, ServeOptions};
use crate::tasks::Tasks;

/// Content type of the OpenMetrics text format, version 1.0.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The three routes, to be served alone or beside others.
///
/// `/ready` answers 200, or 503 with the blockers one a line; `/healthy` answers 200 for as long as
/// the process can answer at all.
pub fn router(readiness: Readiness, registry: Arc<Registry>) -> Router {
    Router::new()
        .route("/ready", get(ready).with_state(readiness))
        .route("/healthy", get(|| async { "healthy\n" }))
        .route("/metrics", get(metrics).with_state(registry))
}

/// Binds `address` (port 0: any) and serves the routes until shutdown. Returns the bound address.
pub fn spawn(
    tasks: &Tasks,
    address: SocketAddr,
    readiness: Readiness,
    registry: Arc<Registry>,
) -> Result<SocketAddr, BindError> {
    let listener = serve::bind(address)?;
    serve::spawn(tasks, "diagnostics", listener, router(readiness, registry), ServeOptions::default())
}

async fn ready(State(readiness): State<Readiness>) -> impl IntoResponse {
    let blockers = readiness.blockers();
    if blockers.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not ready, waiting for:\n{}\n", blockers.join("\n")))
    }
}

async fn metrics(State(registry): State<Arc<Registry>>) -> impl IntoResponse {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => (StatusCode::OK, [(header::CONTENT_TYPE, OPEN_METRICS)], text),
        Err(error) => {
            let plain = [(header::CONTENT_TYPE, "text/plain")];
            (StatusCode::INTERNAL_SERVER_ERROR, plain, format!("cannot encode metrics: {error}\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use http_body_util::BodyExt;
    use prometheus_client::metrics::counter::Counter;
    use tower::ServiceExt;

    async fn get(router: &Router, path: &str) -> (StatusCode, String) {
        let request = axum::http::Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_names_what_it_waits_for() {
        let readiness = Readiness::new();
        let store = readiness.blocker("store");
        let router = router(readiness, Arc::default());
        let (status, body) = get(&router, "/ready").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("store"), "{body}");
        assert_eq!(get(&router, "/healthy").await.0, StatusCode::OK);
        drop(store);
        assert_eq!(get(&router, "/ready").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn metrics_are_open_metrics_text() {
        let mut registry = Registry::default();
        let writes = Counter::<u64>::default();
        registry.register("writes", "Writes accepted", writes.clone());
        writes.inc();
        let router = router(Readiness::new(), Arc::new(registry));
        let (status, body) = get(&router, "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(body.contains("writes_total 1"), "{body}");
        assert!(body.ends_with("# EOF\n"), "{body}");
    }
}
