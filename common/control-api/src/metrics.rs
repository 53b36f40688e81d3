//! Requests as metrics.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::app::Shared;

/// Route of requests that match none.
const NO_ROUTE: &str = "none";

/// Labels of a request. A route is a pattern: names of resources do not become labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    method: String,
    route: String,
    status: u16,
}

/// Makes the histogram of one route.
#[derive(Clone, Debug, Default)]
struct Durations;

impl MetricConstructor<Histogram> for Durations {
    /// From a read of one resource (0.25 ms) to the longest request that is waited for (more than 8 s).
    fn new_metric(&self) -> Histogram {
        Histogram::new(exponential_buckets(0.00025, 2.0, 16))
    }
}

/// Requests that were answered. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    durations: Family<Labels, Histogram, Durations>,
}

impl Default for Metrics {
    /// Counts, and nobody sees it.
    fn default() -> Self {
        Self { durations: Family::new_with_constructor(Durations) }
    }
}

impl Metrics {
    /// Metrics that are exported through a registry.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register_with_unit(
            "api_request_duration",
            "Requests to the REST API by method, route and status, and how long they took",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        metrics
    }
}

/// Counts a request.
pub(crate) async fn count(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().to_string();
    let route = request.extensions().get::<MatchedPath>().map_or(NO_ROUTE, MatchedPath::as_str).to_owned();
    let response = next.run(request).await;
    let labels = Labels { method, route, status: response.status().as_u16() };
    app.api.metrics.durations.get_or_create(&labels).observe(began.elapsed().as_secs_f64());
    response
}
