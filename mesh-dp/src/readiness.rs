//! The readiness port: `/ready` for whoever starts applications or routes to them.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use prometheus_client::registry::Registry;
use runtime::Readiness;
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;

/// What readiness depends on.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    /// What has to happen before Envoy is asked at all.
    pub(crate) readiness: Readiness,
    /// Cancelled when termination begins.
    pub(crate) terminating: CancellationToken,
    pub(crate) admin: Admin,
}

/// `/ready`, and the diagnostics of every binary (`/healthy`, `/metrics`).
pub(crate) fn router(probe: Probe, registry: Arc<Registry>) -> Router {
    let diagnostics = runtime::diagnostics::router(probe.readiness.clone(), registry);
    let ready = Router::new().route("/ready", get(ready)).with_state(probe);
    ready.fallback_service(diagnostics)
}

async fn ready(State(probe): State<Probe>) -> (StatusCode, String) {
    let unready = |text: &str| (StatusCode::SERVICE_UNAVAILABLE, text.to_owned());
    if probe.terminating.is_cancelled() {
        return unready("TERMINATING\n");
    }
    let blockers = probe.readiness.blockers();
    if !blockers.is_empty() {
        return unready(&format!("NOT_READY\nwaiting for: {}\n", blockers.join(", ")));
    }
    if probe.admin.is_ready().await {
        (StatusCode::OK, "READY\n".to_owned())
    } else {
        unready("NOT_READY\nwaiting for: Envoy\n")
    }
}
