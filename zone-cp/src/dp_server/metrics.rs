//! What serving proxies costs and how they take it, as metrics.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::session::Counters;

/// Metrics of the server for proxies. Copies count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) connected: Gauge,
    pub(crate) refused: Counter,
    /// Changes after which the configuration of a proxy stayed as it was, without being made.
    pub(crate) kept: Counter,
    generation: Histogram,
    sent: Counter,
    acknowledged: Counter,
    rejected: Counter,
    refused_resources: Gauge,
    unapplied_parts: Gauge,
}

impl Default for Metrics {
    /// Counts, and nobody sees it.
    fn default() -> Self {
        Self {
            connected: Gauge::default(),
            refused: Counter::default(),
            kept: Counter::default(),
            // From a proxy with nothing to say (0.1 ms) to one with tens of thousands of endpoints (0.8 s).
            generation: Histogram::new(exponential_buckets(0.0001, 2.0, 14)),
            sent: Counter::default(),
            acknowledged: Counter::default(),
            rejected: Counter::default(),
            refused_resources: Gauge::default(),
            unapplied_parts: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Metrics that are exported through a registry.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "proxies_connected",
            "Proxies with a configuration stream",
            metrics.connected.clone(),
        );
        registry.register("proxy_streams_refused", "Streams that were not let in", metrics.refused.clone());
        registry.register(
            "proxy_configs_kept",
            "Changes that did not concern a proxy, whose configuration was not made again",
            metrics.kept.clone(),
        );
        registry.register_with_unit(
            "proxy_config_generation",
            "Time to make the configuration of one proxy",
            Unit::Seconds,
            metrics.generation.clone(),
        );
        registry.register("proxy_responses_sent", "Responses sent to proxies", metrics.sent.clone());
        registry.register(
            "proxy_responses_acknowledged",
            "Responses that proxies accepted",
            metrics.acknowledged.clone(),
        );
        registry.register(
            "proxy_responses_rejected",
            "Responses that proxies refused, in whole or in part",
            metrics.rejected.clone(),
        );
        registry.register(
            "proxy_resources_refused",
            "Resources that connected proxies refused, and go on with the version before",
            metrics.refused_resources.clone(),
        );
        registry.register(
            "proxy_policy_parts_unapplied",
            "Parts of policies that could not take effect on connected proxies",
            metrics.unapplied_parts.clone(),
        );
        metrics
    }

    /// The share of one stream in the numbers of problems.
    pub(crate) fn problems(&self) -> ProblemCount {
        let gauges = [self.refused_resources.clone(), self.unapplied_parts.clone()];
        ProblemCount { gauges, counted: [0, 0] }
    }

    pub(crate) fn generated(&self, took: Duration) {
        self.generation.observe(took.as_secs_f64());
    }

    /// Counts what a stream has sent and got since `before`.
    pub(crate) fn counted(&self, before: Counters, now: Counters) {
        self.sent.inc_by(now.sent.saturating_sub(before.sent));
        self.acknowledged.inc_by(now.acknowledged.saturating_sub(before.acknowledged));
        self.rejected.inc_by(now.rejected.saturating_sub(before.rejected));
    }
}

/// The share of one stream in the numbers of problems; gone with it.
#[derive(Debug)]
pub(crate) struct ProblemCount {
    gauges: [Gauge; 2],
    counted: [i64; 2],
}

impl ProblemCount {
    /// Resources that the proxy refused, and parts of policies that could not take effect on it.
    pub(crate) fn set(&mut self, (refused, unapplied): (usize, usize)) {
        let now = [refused, unapplied].map(|count| i64::try_from(count).unwrap_or(i64::MAX));
        for ((gauge, before), now) in self.gauges.iter().zip(self.counted).zip(now) {
            gauge.inc_by(now - before);
        }
        self.counted = now;
    }
}

impl Drop for ProblemCount {
    fn drop(&mut self) {
        self.set((0, 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_counted() {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let first = Counters { sent: 3, acknowledged: 2, rejected: 0 };
        metrics.counted(Counters::default(), first);
        metrics.counted(first, Counters { rejected: 1, ..first });
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in ["proxy_responses_sent_total 3", "proxy_responses_rejected_total 1"] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn problems_leave_with_their_stream() {
        let metrics = Metrics::default();
        let (mut one, mut other) = (metrics.problems(), metrics.problems());
        one.set((2, 1));
        other.set((1, 0));
        one.set((1, 1));
        assert_eq!((metrics.refused_resources.get(), metrics.unapplied_parts.get()), (2, 1));
        drop(one);
        assert_eq!((metrics.refused_resources.get(), metrics.unapplied_parts.get()), (1, 0));
    }
}
