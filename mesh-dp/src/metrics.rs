//! What `/metrics` tells of mesh-dp itself.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// How a DNS query was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum DnsAnswer {
    /// From the mesh's records.
    Mesh,
    /// By the name server it was forwarded to.
    Forwarded,
    /// Not: the name server failed or the query made no sense.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct DnsLabels {
    pub(crate) answer: DnsAnswer,
}

/// The counters. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) envoy_starts: Counter,
    pub(crate) bootstrap_attempts: Counter,
    pub(crate) dns_queries: Family<DnsLabels, Counter>,
    pub(crate) access_logs_dropped: Counter,
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("isthmus_dp");
        registry.register("envoy_starts", "Starts of Envoy, the first included", self.envoy_starts.clone());
        let attempts = self.bootstrap_attempts.clone();
        registry.register("bootstrap_attempts", "Requests for the bootstrap", attempts);
        registry.register(
            "dns_queries",
            "DNS queries by the way they were answered",
            self.dns_queries.clone(),
        );
        let dropped = self.access_logs_dropped.clone();
        registry.register("access_logs_dropped", "Access log lines that no backend took", dropped);
    }

    pub(crate) fn dns(&self, answer: DnsAnswer) {
        self.dns_queries.get_or_create(&DnsLabels { answer }).inc();
    }
}
