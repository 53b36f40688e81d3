//! MeshCircuitBreaker: limits of connections, and endpoints that are left out while they fail.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Checked;
use super::checks::{ALL_BUT_ROUTES, check_percent, check_positive, check_share, check_target, check_top};
use super::common::{IntOrString, TargetRef};
use crate::Violations;
use crate::duration::GoDuration;

/// Limits of connections, and endpoints that are left out while they fail. Either `to` or `rules`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshCircuitBreaker {
    /// Which proxies; all of the mesh where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// Calls that the proxies make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<CircuitBreakerTo>>,
    /// Calls that the proxies take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<CircuitBreakerRule>>,
}

/// Calls to some destinations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CircuitBreakerTo {
    /// The destinations: `Mesh`, `MeshService`, `MeshExternalService` or `MeshMultiZoneService`.
    pub target_ref: TargetRef,
    /// What holds for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<CircuitBreakerConf>,
}

/// Calls to the proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CircuitBreakerRule {
    /// What holds for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<CircuitBreakerConf>,
}

/// What holds for a destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CircuitBreakerConf {
    /// How much of a destination one proxy may use at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_limits: Option<ConnectionLimits>,
    /// When endpoints are left out, and for how long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<OutlierDetection>,
}

/// How much of a destination one proxy may use at the same time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionLimits {
    /// Groups of connections; no limit where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connection_pools: Option<u32>,
    /// Connections; 1024 where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// Requests that wait for a connection; 1024 where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_pending_requests: Option<u32>,
    /// Retries; 3 where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
    /// Requests; 1024 where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<u32>,
}

/// When endpoints are left out, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OutlierDetection {
    /// Lifts what a less specific policy says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Between two looks at all endpoints; `10s` where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<GoDuration>,
    /// How long an endpoint is left out the first time; `30s` where it is absent. Each further time it is longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_ejection_time: Option<GoDuration>,
    /// Share of the endpoints that can be left out, percent; 10 where it is absent. One always can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ejection_percent: Option<u32>,
    /// Whether errors of the connection count apart from answers of the endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split_external_and_local_errors: Option<bool>,
    /// Share of healthy endpoints, percent, below which all are used again; 50 where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy_panic_threshold: Option<IntOrString>,
    /// What counts as failing; those that are absent are off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detectors: Option<Detectors>,
}

/// What counts as failing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Detectors {
    /// Errors of any kind in a row: 5xx, timeouts, resets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_failures: Option<ConsecutiveFailures>,
    /// 502, 503 or 504 in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway_failures: Option<ConsecutiveFailures>,
    /// Errors of the connection in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_origin_failures: Option<ConsecutiveFailures>,
    /// A share of successes far below that of the other endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_rate: Option<SuccessRate>,
    /// A share of failures over a threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_percentage: Option<FailurePercentage>,
}

/// Failures in a row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ConsecutiveFailures {
    /// How many; 5 where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consecutive: Option<u32>,
}

/// A share of successes far below that of the other endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SuccessRate {
    /// Endpoints that must have enough requests; 5 where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum_hosts: Option<u32>,
    /// Requests in one interval for an endpoint to count; 100 where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_volume: Option<u32>,
    /// How many standard deviations below the mean; 1.9 where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standard_deviation_factor: Option<IntOrString>,
}

/// A share of failures over a threshold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FailurePercentage {
    /// Endpoints that must have enough requests; 5 where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum_hosts: Option<u32>,
    /// Requests in one interval for an endpoint to count; 50 where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_volume: Option<u32>,
    /// Share of failures, percent; 85 where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<u32>,
}

impl Checked for MeshCircuitBreaker {
    fn check(&self, violations: &mut Violations) {
        let to = self.to.as_deref().unwrap_or_default();
        let rules = self.rules.as_deref().unwrap_or_default();
        check_top(self.target_ref.as_ref(), !rules.is_empty(), violations);
        match (to.is_empty(), rules.is_empty()) {
            (true, true) => violations.add("spec", "at least one of 'to' or 'rules' has to be defined"),
            (false, false) => violations.add("spec", "field 'to' must be empty when 'rules' is defined"),
            _ => {}
        }
        for (at, item) in to.iter().enumerate() {
            let path = format!("spec.to[{at}]");
            check_target(&format!("{path}.targetRef"), &item.target_ref, &ALL_BUT_ROUTES, violations);
            check_conf(&format!("{path}.default"), item.default.as_ref(), violations);
        }
        for (at, rule) in rules.iter().enumerate() {
            check_conf(&format!("spec.rules[{at}].default"), rule.default.as_ref(), violations);
        }
    }
}

fn check_conf(path: &str, conf: Option<&CircuitBreakerConf>, violations: &mut Violations) {
    let conf = conf.cloned().unwrap_or_default();
    if conf.connection_limits.is_none() && conf.outlier_detection.is_none() {
        violations.add(path, "must have at least one defined: connectionLimits, outlierDetection");
    }
    if let Some(limits) = &conf.connection_limits {
        limits.check(&format!("{path}.connectionLimits"), violations);
    }
    if let Some(detection) = &conf.outlier_detection {
        detection.check(&format!("{path}.outlierDetection"), violations);
    }
}

impl ConnectionLimits {
    fn check(&self, path: &str, violations: &mut Violations) {
        let limits = [
            ("maxConnectionPools", self.max_connection_pools),
            ("maxConnections", self.max_connections),
            ("maxPendingRequests", self.max_pending_requests),
            ("maxRetries", self.max_retries),
            ("maxRequests", self.max_requests),
        ];
        if limits.iter().all(|(_, limit)| limit.is_none()) {
            let names = limits.map(|(name, _)| name).join(", ");
            violations.add(path, format!("must have at least one defined: {names}"));
        }
        for (name, limit) in limits {
            check_positive(&format!("{path}.{name}"), limit, violations);
        }
    }
}

impl OutlierDetection {
    fn check(&self, path: &str, violations: &mut Violations) {
        check_positive(&format!("{path}.interval"), self.interval, violations);
        check_positive(&format!("{path}.baseEjectionTime"), self.base_ejection_time, violations);
        check_percent(&format!("{path}.maxEjectionPercent"), self.max_ejection_percent, violations);
        let panic = format!("{path}.healthyPanicThreshold");
        check_share(&panic, self.healthy_panic_threshold.as_ref(), violations);
        match &self.detectors {
            Some(detectors) => detectors.check(&format!("{path}.detectors"), violations),
            None if self.disabled == Some(true) => {}
            None => violations.add(format!("{path}.detectors"), "must be defined"),
        }
    }
}

impl Detectors {
    fn check(&self, path: &str, violations: &mut Violations) {
        let rows = [
            ("totalFailures", self.total_failures.as_ref()),
            ("gatewayFailures", self.gateway_failures.as_ref()),
            ("localOriginFailures", self.local_origin_failures.as_ref()),
        ];
        let any = rows.iter().any(|(_, row)| row.is_some());
        if !any && self.success_rate.is_none() && self.failure_percentage.is_none() {
            violations.add(
                path,
                "must have at least one defined: totalFailures, gatewayFailures, localOriginFailures, successRate, \
                 failurePercentage",
            );
        }
        for (name, row) in rows {
            check_positive(
                &format!("{path}.{name}.consecutive"),
                row.and_then(|row| row.consecutive),
                violations,
            );
        }
        if let Some(rate) = &self.success_rate {
            let path = format!("{path}.successRate");
            check_positive(&format!("{path}.minimumHosts"), rate.minimum_hosts, violations);
            check_positive(&format!("{path}.requestVolume"), rate.request_volume, violations);
            check_factor(&format!("{path}.standardDeviationFactor"), rate, violations);
        }
        if let Some(percentage) = &self.failure_percentage {
            let path = format!("{path}.failurePercentage");
            check_positive(&format!("{path}.minimumHosts"), percentage.minimum_hosts, violations);
            check_positive(&format!("{path}.requestVolume"), percentage.request_volume, violations);
            check_percent(&format!("{path}.threshold"), percentage.threshold, violations);
        }
    }
}

fn check_factor(path: &str, rate: &SuccessRate, violations: &mut Violations) {
    match rate.standard_deviation_factor.as_ref().map(IntOrString::as_f64) {
        Some(None) => violations.add(path, "string must be a valid number"),
        Some(Some(factor)) if factor <= 0.0 => {
            violations.add(path, "must be greater than zero when defined");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn report(spec: Value) -> Vec<String> {
        let mut violations = Violations::default();
        serde_json::from_value::<MeshCircuitBreaker>(spec).unwrap().check(&mut violations);
        violations.iter().map(|one| format!("{}|{}", one.field, one.message)).collect()
    }

    #[test]
    fn a_policy_says_something_in_one_direction() {
        assert_eq!(report(json!({})), ["spec|at least one of 'to' or 'rules' has to be defined"]);
        let limits = json!({"connectionLimits": {"maxRequests": 1}});
        let spec = json!({
            "targetRef": {"kind": "Dataplane", "sectionName": "http"},
            "to": [
                {"targetRef": {"kind": "MeshHTTPRoute", "labels": {"a": "b"}}, "default": limits},
                {"targetRef": {"kind": "MeshService"}, "default": {}},
            ],
        });
        assert_eq!(
            report(spec),
            [
                "spec.targetRef.sectionName|can only be used with inbound policies",
                "spec.to[0].targetRef.kind|value 'MeshHTTPRoute' is not supported",
                "spec.to[1].targetRef.labels|must be set when kind is MeshService",
                "spec.to[1].default|must have at least one defined: connectionLimits, outlierDetection",
            ]
        );
        let inbound = json!({"targetRef": {"kind": "Dataplane", "sectionName": "http"}, "rules": [{"default": limits}]});
        assert_eq!(report(inbound), [""; 0]);
    }

    #[test]
    fn numbers_are_in_their_ranges() {
        let spec = json!({"rules": [{"default": {
            "connectionLimits": {"maxConnections": 0},
            "outlierDetection": {
                "interval": "0s",
                "maxEjectionPercent": 101,
                "healthyPanicThreshold": "many",
                "detectors": {
                    "totalFailures": {"consecutive": 0},
                    "successRate": {"standardDeviationFactor": "-1.9"},
                    "failurePercentage": {"threshold": 200},
                },
            },
        }}, {"default": {"connectionLimits": {}, "outlierDetection": {"disabled": true}}}]});
        let outlier = "spec.rules[0].default.outlierDetection";
        assert_eq!(
            report(spec),
            [
                "spec.rules[0].default.connectionLimits.maxConnections|must be greater than zero when defined".to_owned(),
                format!("{outlier}.interval|must be greater than zero when defined"),
                format!("{outlier}.maxEjectionPercent|must be in inclusive range [0, 100]"),
                format!("{outlier}.healthyPanicThreshold|string must be a valid number"),
                format!("{outlier}.detectors.totalFailures.consecutive|must be greater than zero when defined"),
                format!("{outlier}.detectors.successRate.standardDeviationFactor|must be greater than zero when defined"),
                format!("{outlier}.detectors.failurePercentage.threshold|must be in inclusive range [0, 100]"),
                "spec.rules[1].default.connectionLimits|must have at least one defined: maxConnectionPools, \
                 maxConnections, maxPendingRequests, maxRetries, maxRequests"
                    .to_owned(),
            ]
        );
    }
}
