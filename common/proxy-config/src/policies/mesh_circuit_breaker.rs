//! MeshCircuitBreaker: what holds without a policy, that each cluster tells how much of its limits is left.

use envoy_api::envoy::config::cluster::v3::CircuitBreakers;
use envoy_api::envoy::config::cluster::v3::circuit_breakers::Thresholds;

use crate::draft::Draft;

/// Adds the limits to every cluster.
pub(crate) fn apply(draft: &mut Draft) {
    for cluster in draft.clusters.values_mut() {
        let thresholds = vec![Thresholds { track_remaining: true, ..Thresholds::default() }];
        cluster.message.circuit_breakers = Some(CircuitBreakers { thresholds, ..CircuitBreakers::default() });
    }
}
