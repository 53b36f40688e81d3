//! MeshCircuitBreaker: limits of clusters, and endpoints that are left out while they fail. Without a policy each
//! cluster still tells how much of its limits is left.

use envoy_api::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use envoy_api::envoy::config::cluster::v3::{CircuitBreakers, OutlierDetection as Detection};
use envoy_api::envoy::r#type::v3::Percent;
use model::Kind;
use model::spec::{
    CircuitBreakerConf, ConnectionLimits, ConsecutiveFailures, Detectors, IntOrString, OutlierDetection,
};

use crate::draft::{Cluster, Draft, Role};
use crate::generate::Context;
use crate::parts::duration;

/// A detector that counts.
const ON: Option<u32> = Some(100);
/// A detector that does not.
const OFF: Option<u32> = Some(0);

/// Sets the limits of every cluster.
pub(crate) fn apply(context: &Context<'_>, draft: &mut Draft) {
    let selected = context.policies(Kind::MESH_CIRCUIT_BREAKER);
    for cluster in draft.clusters.values_mut() {
        let conf = match &cluster.role {
            Role::Inbound { section, .. } => selected.catch_all(section),
            Role::Outbound(destination) | Role::External(destination) => {
                selected.to(&destination.as_target())
            }
            _ => None,
        };
        let conf: CircuitBreakerConf = conf.and_then(|conf| conf.decode().ok()).unwrap_or_default();
        let limits = thresholds(conf.connection_limits.as_ref());
        cluster.message.circuit_breakers =
            Some(CircuitBreakers { thresholds: vec![limits], ..CircuitBreakers::default() });
        if let Some(said) = conf.outlier_detection.filter(|said| said.disabled != Some(true)) {
            detect(&said, cluster);
        }
    }
}

fn thresholds(limits: Option<&ConnectionLimits>) -> Thresholds {
    let limits = limits.cloned().unwrap_or_default();
    Thresholds {
        track_remaining: true,
        max_connection_pools: limits.max_connection_pools,
        max_connections: limits.max_connections,
        max_pending_requests: limits.max_pending_requests,
        max_retries: limits.max_retries,
        max_requests: limits.max_requests,
        ..Thresholds::default()
    }
}

fn detect(said: &OutlierDetection, cluster: &mut Cluster) {
    let mut detection = Detection {
        interval: said.interval.map(duration),
        base_ejection_time: said.base_ejection_time.map(duration),
        max_ejection_percent: said.max_ejection_percent,
        split_external_local_origin_errors: said.split_external_and_local_errors.unwrap_or_default(),
        ..Detection::default()
    };
    match &said.detectors {
        Some(detectors) => choose(detectors, &mut detection),
        None => {
            detection.enforcing_consecutive_5xx = OFF;
            detection.enforcing_consecutive_gateway_failure = OFF;
            detection.enforcing_consecutive_local_origin_failure = OFF;
        }
    }
    cluster.message.outlier_detection = Some(detection);
    if let Some(value) = said.healthy_panic_threshold.as_ref().and_then(IntOrString::as_f64) {
        let common = cluster.message.common_lb_config.get_or_insert_default();
        common.healthy_panic_threshold = Some(Percent { value });
    }
}

/// Every detector is said to be on or off: by themselves some of Envoy's are on.
fn choose(detectors: &Detectors, detection: &mut Detection) {
    let switch = |on: bool| if on { ON } else { OFF };
    let in_a_row = |failures: &Option<ConsecutiveFailures>| {
        (failures.as_ref().and_then(|failures| failures.consecutive), switch(failures.is_some()))
    };
    (detection.consecutive_5xx, detection.enforcing_consecutive_5xx) = in_a_row(&detectors.total_failures);
    (detection.consecutive_gateway_failure, detection.enforcing_consecutive_gateway_failure) =
        in_a_row(&detectors.gateway_failures);
    (detection.consecutive_local_origin_failure, detection.enforcing_consecutive_local_origin_failure) =
        in_a_row(&detectors.local_origin_failures);

    let rate = detectors.success_rate.as_ref();
    detection.enforcing_success_rate = switch(rate.is_some());
    detection.enforcing_local_origin_success_rate = switch(rate.is_some());
    detection.success_rate_minimum_hosts = rate.and_then(|rate| rate.minimum_hosts);
    detection.success_rate_request_volume = rate.and_then(|rate| rate.request_volume);
    let factor = rate.and_then(|rate| rate.standard_deviation_factor.as_ref()?.as_f64());
    detection.success_rate_stdev_factor = factor.map(thousandths);

    let share = detectors.failure_percentage.as_ref();
    detection.enforcing_failure_percentage = switch(share.is_some());
    detection.enforcing_failure_percentage_local_origin = switch(share.is_some());
    detection.failure_percentage_minimum_hosts = share.and_then(|share| share.minimum_hosts);
    detection.failure_percentage_request_volume = share.and_then(|share| share.request_volume);
    detection.failure_percentage_threshold = share.and_then(|share| share.threshold);
}

/// Envoy divides the factor by a thousand.
fn thousandths(factor: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is clamped")]
    let thousandths = (factor * 1000.0).round().clamp(0.0, f64::from(u32::MAX)) as u32;
    thousandths
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn detectors_that_are_not_named_are_off() {
        let mut detection = Detection::default();
        let said =
            json!({"gatewayFailures": {"consecutive": 3}, "successRate": {"standardDeviationFactor": "1.9"}});
        choose(&serde_json::from_value(said).expect("detectors"), &mut detection);
        assert_eq!(
            (detection.consecutive_gateway_failure, detection.enforcing_consecutive_gateway_failure),
            (Some(3), ON)
        );
        assert_eq!((detection.success_rate_stdev_factor, detection.enforcing_success_rate), (Some(1900), ON));
        assert_eq!((detection.consecutive_5xx, detection.enforcing_consecutive_5xx), (None, OFF));
        assert_eq!(
            (detection.failure_percentage_threshold, detection.enforcing_failure_percentage),
            (None, OFF)
        );
    }
}
