//! Whether the zone is in step with the global, as metrics.

use std::sync::atomic::AtomicI64;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use super::LinkState;

/// Gauges of the way to the global.
#[derive(Clone, Debug, Default)]
pub struct LinkMetrics {
    connected: Gauge,
    since: Gauge<i64, AtomicI64>,
}

impl LinkMetrics {
    /// Gauges that are exported through a registry.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "global_connected",
            "1 while the zone is connected to the global",
            metrics.connected.clone(),
        );
        registry.register(
            "global_state_since_timestamp_seconds",
            "Since when the zone is connected, or has gone on with what it had",
            metrics.since.clone(),
        );
        metrics
    }

    /// Follows the state until its sender is gone.
    pub async fn follow(self, mut states: watch::Receiver<LinkState>) {
        loop {
            let (connected, since) = match &*states.borrow_and_update() {
                LinkState::Connected(since) => (1, *since),
                LinkState::Disconnected { since, .. } => (0, *since),
            };
            self.connected.set(connected);
            self.since.set(since.unix_seconds());
            if states.changed().await.is_err() {
                return;
            }
        }
    }
}
