//! MeshHealthCheck: asking endpoints whether they are well.

use base64::Engine;
use base64::prelude::BASE64_STANDARD as STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Checked;
use super::checks::{
    ALL_BUT_ROUTES, check_header_name, check_not_negative, check_percent, check_positive, check_target,
    check_top,
};
use super::common::TargetRef;
use super::mesh_rate_limit::HeaderChanges;
use crate::Violations;
use crate::duration::GoDuration;

/// Asking the endpoints of destinations whether they are well; each proxy asks for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshHealthCheck {
    /// Which proxies ask; all of the mesh where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// Whom they ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<HealthCheckTo>>,
}

/// Some destinations, and how they are asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheckTo {
    /// The destinations: `Mesh`, `MeshService`, `MeshExternalService` or `MeshMultiZoneService`.
    pub target_ref: TargetRef,
    /// How they are asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<HealthCheckConf>,
}

/// How endpoints are asked. The protocol of the destination decides which of `http`, `grpc` and `tcp` is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HealthCheckConf {
    /// Between two questions; `1m` where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<GoDuration>,
    /// Longest wait for an answer; `15s` where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GoDuration>,
    /// Failures in a row after which an endpoint is not used; 5 where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unhealthy_threshold: Option<u32>,
    /// Good answers in a row after which it is used again; 1 where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy_threshold: Option<u32>,
    /// Longest random pause before the first question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_jitter: Option<GoDuration>,
    /// Longest random pause added to each interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_jitter: Option<GoDuration>,
    /// The same as a share of the interval, percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_jitter_percent: Option<u32>,
    /// Whether calls fail instead when too few endpoints are healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail_traffic_on_panic: Option<bool>,
    /// A file of the proxy's machine to which changes of health are written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_log_path: Option<String>,
    /// Whether every failure is written there, not only the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub always_log_health_check_failures: Option<bool>,
    /// Between two questions while there is no traffic; `1m` where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_traffic_interval: Option<GoDuration>,
    /// How TCP destinations are asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpHealthCheck>,
    /// How HTTP and HTTP/2 destinations are asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpHealthCheck>,
    /// How gRPC destinations are asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcHealthCheck>,
    /// Whether a connection serves several questions; true where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reuse_connection: Option<bool>,
}

/// Connects; sends and expects bytes where they are given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TcpHealthCheck {
    /// Lifts what a less specific policy says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// What is sent, base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send: Option<String>,
    /// What has to be in the answer, in this order, base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive: Option<Vec<String>>,
}

/// Asks by a GET.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpHealthCheck {
    /// Lifts what a less specific policy says; the connection alone is tried where `tcp` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Path; `/` where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Headers of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_headers_to_add: Option<HeaderChanges>,
    /// Statuses that are good; 200 where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_statuses: Option<Vec<i32>>,
}

/// Asks by `grpc.health.v1.Health`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GrpcHealthCheck {
    /// Lifts what a less specific policy says; the connection alone is tried where `tcp` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// The service that is asked about; the whole server where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// The authority header; the name of the cluster where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}

/// Most headers of a kind.
const MAX_HEADERS: usize = 16;

impl Checked for MeshHealthCheck {
    fn check(&self, violations: &mut Violations) {
        check_top(self.target_ref.as_ref(), false, violations);
        let to = self.to.as_deref().unwrap_or_default();
        if to.is_empty() {
            violations.add("spec.to", "must be defined");
        }
        for (at, item) in to.iter().enumerate() {
            let path = format!("spec.to[{at}]");
            check_target(&format!("{path}.targetRef"), &item.target_ref, &ALL_BUT_ROUTES, violations);
            item.default.clone().unwrap_or_default().check(&format!("{path}.default"), violations);
        }
    }
}

impl HealthCheckConf {
    fn check(&self, path: &str, violations: &mut Violations) {
        for (field, value) in [
            ("interval", self.interval),
            ("timeout", self.timeout),
            ("initialJitter", self.initial_jitter),
            ("intervalJitter", self.interval_jitter),
            ("noTrafficInterval", self.no_traffic_interval),
        ] {
            if matches!(field, "initialJitter" | "intervalJitter") {
                check_not_negative(&format!("{path}.{field}"), value, violations);
            } else {
                check_positive(&format!("{path}.{field}"), value, violations);
            }
        }
        check_positive(&format!("{path}.unhealthyThreshold"), self.unhealthy_threshold, violations);
        check_positive(&format!("{path}.healthyThreshold"), self.healthy_threshold, violations);
        check_percent(&format!("{path}.intervalJitterPercent"), self.interval_jitter_percent, violations);
        if self.event_log_path.as_deref().is_some_and(|path| !is_path(path)) {
            violations.add(format!("{path}.eventLogPath"), "must be a valid path when defined");
        }
        if self.tcp.is_none() && self.http.is_none() && self.grpc.is_none() {
            violations.add(path, "must have at least one defined: tcp, http, grpc");
        }
        if let Some(http) = &self.http {
            http.check(&format!("{path}.http"), violations);
        }
        if let Some(tcp) = &self.tcp {
            tcp.check(&format!("{path}.tcp"), violations);
        }
    }
}

impl HttpHealthCheck {
    fn check(&self, path: &str, violations: &mut Violations) {
        if self.path.as_deref().is_some_and(|path| !path.starts_with('/') || !is_path(path)) {
            violations.add(format!("{path}.path"), "must be a valid path when defined");
        }
        for (at, status) in self.expected_statuses.iter().flatten().enumerate() {
            if !(100..600).contains(status) {
                let at = format!("{path}.expectedStatuses[{at}]");
                violations.add(at, "must be in inclusive range [100, 599]");
            }
        }
        let Some(headers) = &self.request_headers_to_add else { return };
        for (field, list) in [("add", &headers.add), ("set", &headers.set)] {
            if list.as_ref().is_some_and(|list| list.len() > MAX_HEADERS) {
                let at = format!("{path}.requestHeadersToAdd.{field}");
                violations.add(at, format!("must have at most {MAX_HEADERS} items"));
            }
            for (at, header) in list.iter().flatten().enumerate() {
                let at = format!("{path}.requestHeadersToAdd.{field}[{at}].name");
                check_header_name(&at, &header.name, violations);
            }
        }
    }
}

impl TcpHealthCheck {
    fn check(&self, path: &str, violations: &mut Violations) {
        let sent = self.send.iter().map(|text| ("send".to_owned(), text));
        let received = self.receive.iter().flatten().enumerate();
        let received = received.map(|(at, text)| (format!("receive[{at}]"), text));
        for (field, text) in sent.chain(received) {
            if STANDARD.decode(text).is_err() {
                violations.add(format!("{path}.{field}"), "must be base64");
            }
        }
    }
}

/// Something without control characters.
fn is_path(path: &str) -> bool {
    !path.is_empty() && !path.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn report(spec: Value) -> Vec<String> {
        let mut violations = Violations::default();
        serde_json::from_value::<MeshHealthCheck>(spec).unwrap().check(&mut violations);
        violations.iter().map(|one| format!("{}|{}", one.field, one.message)).collect()
    }

    #[test]
    fn every_rule_has_its_path() {
        assert_eq!(report(json!({})), ["spec.to|must be defined"]);
        let conf = json!({
            "interval": "0s",
            "initialJitter": "-1s",
            "healthyThreshold": 0,
            "intervalJitterPercent": 101,
            "eventLogPath": "",
            "http": {"path": "no slash", "expectedStatuses": [200, 99, 600]},
            "tcp": {"send": "a", "receive": ["AAA=", "A==="]},
        });
        let mesh = json!({"kind": "Mesh"});
        let path = "spec.to[0].default";
        assert_eq!(
            report(json!({"to": [{"targetRef": mesh, "default": conf}, {"targetRef": mesh}]})),
            [
                format!("{path}.interval|must be greater than zero when defined"),
                format!("{path}.initialJitter|must not be negative when defined"),
                format!("{path}.healthyThreshold|must be greater than zero when defined"),
                format!("{path}.intervalJitterPercent|must be in inclusive range [0, 100]"),
                format!("{path}.eventLogPath|must be a valid path when defined"),
                format!("{path}.http.path|must be a valid path when defined"),
                format!("{path}.http.expectedStatuses[1]|must be in inclusive range [100, 599]"),
                format!("{path}.http.expectedStatuses[2]|must be in inclusive range [100, 599]"),
                format!("{path}.tcp.send|must be base64"),
                format!("{path}.tcp.receive[1]|must be base64"),
                "spec.to[1].default|must have at least one defined: tcp, http, grpc".to_owned(),
            ]
        );
    }
}
