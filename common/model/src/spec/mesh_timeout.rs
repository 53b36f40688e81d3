//! MeshTimeout: how long connections, requests and silences may last.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Checked;
use super::checks::{DESTINATIONS, check_not_negative, check_positive, check_target, check_top};
use super::common::TargetRef;
use super::inbound::check_peers;
use super::mesh_traffic_permission::PeerMatch;
use crate::Violations;
use crate::duration::GoDuration;

/// How long connections, requests and silences of the selected proxies may last. Either `to` or `rules`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshTimeout {
    /// Which proxies; all of the mesh where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// Calls that the proxies make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<TimeoutTo>>,
    /// Calls that the proxies take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<TimeoutRule>>,
}

/// Calls to some destinations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimeoutTo {
    /// The destinations: `Mesh`, `MeshService`, `MeshExternalService`, `MeshMultiZoneService`, or the `MeshHTTPRoute`
    /// to them.
    pub target_ref: TargetRef,
    /// Their timeouts.
    #[serde(default)]
    pub default: TimeoutConf,
}

/// Calls by some peers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TimeoutRule {
    /// Which ones: those that any item matches; all where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matches: Option<Vec<PeerMatch>>,
    /// Their timeouts.
    pub default: TimeoutConf,
}

/// Timeouts, for example `10s` or `1h`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TimeoutConf {
    /// How long a connection may take to open; `5s` where it is absent, never 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_timeout: Option<GoDuration>,
    /// How long a connection may be silent; `1h` where it is absent, 0 is no limit: then connections may leak.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<GoDuration>,
    /// Timeouts of HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpTimeouts>,
}

/// Timeouts of HTTP. 0 is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpTimeouts {
    /// How long a request may take until it is answered; `15s` where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_timeout: Option<GoDuration>,
    /// How long a stream may be silent; `30m` where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_idle_timeout: Option<GoDuration>,
    /// How long a stream may last; no limit where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_stream_duration: Option<GoDuration>,
    /// After how long a connection is drained; no limit where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connection_duration: Option<GoDuration>,
    /// How long the headers of a request may take from their first byte; no limit where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_headers_timeout: Option<GoDuration>,
}

impl Checked for MeshTimeout {
    fn check(&self, violations: &mut Violations) {
        let rules = self.rules.as_deref().unwrap_or_default();
        let to = self.to.as_deref().unwrap_or_default();
        check_top(self.target_ref.as_ref(), !rules.is_empty(), violations);
        match (rules.is_empty(), to.is_empty()) {
            (true, true) => violations.add("spec", "at least one of 'to' or 'rules' has to be defined"),
            (false, false) => violations.add("spec", "field 'to' must be empty when 'rules' is defined"),
            _ => {}
        }
        for (at, rule) in rules.iter().enumerate() {
            let path = format!("spec.rules[{at}]");
            check_peers(&path, rule.matches.as_deref(), violations);
            rule.default.check(&format!("{path}.default"), violations);
        }
        for (at, item) in to.iter().enumerate() {
            let path = format!("spec.to[{at}]");
            check_target(&format!("{path}.targetRef"), &item.target_ref, &DESTINATIONS, violations);
            let path = format!("{path}.default");
            item.default.check(&path, violations);
            if item.target_ref.kind == "MeshHTTPRoute" {
                item.default.check_for_route(&path, violations);
            }
        }
    }
}

impl TimeoutConf {
    fn check(&self, path: &str, violations: &mut Violations) {
        if self.connection_timeout.is_none() && self.idle_timeout.is_none() && self.http.is_none() {
            violations.add(path, "at least one timeout should be configured");
        }
        check_positive(&format!("{path}.connectionTimeout"), self.connection_timeout, violations);
        check_not_negative(&format!("{path}.idleTimeout"), self.idle_timeout, violations);
        let Some(http) = &self.http else { return };
        if *http == HttpTimeouts::default() {
            violations
                .add(format!("{path}.http"), "at least one timeout in this section should be configured");
        }
        let said = [
            ("requestTimeout", http.request_timeout),
            ("streamIdleTimeout", http.stream_idle_timeout),
            ("maxStreamDuration", http.max_stream_duration),
            ("maxConnectionDuration", http.max_connection_duration),
            ("requestHeadersTimeout", http.request_headers_timeout),
        ];
        for (name, said) in said {
            check_not_negative(&format!("{path}.http.{name}"), said, violations);
        }
    }

    /// A route is a part of what goes over connections: it has no timeouts of connections.
    fn check_for_route(&self, path: &str, violations: &mut Violations) {
        let http = self.http.clone().unwrap_or_default();
        let said = [
            ("connectionTimeout", self.connection_timeout),
            ("idleTimeout", self.idle_timeout),
            ("http.maxStreamDuration", http.max_stream_duration),
            ("http.maxConnectionDuration", http.max_connection_duration),
            ("http.requestHeadersTimeout", http.request_headers_timeout),
        ];
        for (name, _) in said.into_iter().filter(|(_, said)| said.is_some()) {
            let message = "can't be specified when targetRef is referencing MeshHTTPRoute";
            violations.add(format!("{path}.{name}"), message);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn report(spec: Value) -> Vec<String> {
        let mut violations = Violations::default();
        serde_json::from_value::<MeshTimeout>(spec).unwrap().check(&mut violations);
        violations.iter().map(|one| format!("{}|{}", one.field, one.message)).collect()
    }

    #[test]
    fn a_policy_has_one_direction_and_says_something() {
        assert_eq!(report(json!({})), ["spec|at least one of 'to' or 'rules' has to be defined"]);
        let both = json!({
            "targetRef": {"kind": "Mesh", "labels": {"a": "b"}},
            "rules": [{"matches": [{}], "default": {"http": {}}}],
            "to": [{"targetRef": {"kind": "Dataplane"}, "default": {}}],
        });
        let expected = [
            "spec.targetRef.labels|must not be set with kind Mesh",
            "spec|field 'to' must be empty when 'rules' is defined",
            "spec.rules[0].matches[0]|must have at least one defined: spiffeID, sni",
            "spec.rules[0].default.http|at least one timeout in this section should be configured",
            "spec.to[0].targetRef.kind|value 'Dataplane' is not supported",
            "spec.to[0].default|at least one timeout should be configured",
        ];
        assert_eq!(report(both), expected);
    }

    #[test]
    fn timeouts_are_not_negative_and_a_route_has_no_connections() {
        let spec = json!({
            "targetRef": {"kind": "Dataplane", "sectionName": "main"},
            "to": [
                {"targetRef": {"kind": "Mesh"}, "default":
                    {"connectionTimeout": "0s", "idleTimeout": "-1s", "http": {"requestTimeout": "-1s"}}},
                {"targetRef": {"kind": "MeshHTTPRoute", "labels": {"a": "b"}}, "default":
                    {"connectionTimeout": "1s", "http": {"requestTimeout": "1s", "maxStreamDuration": "1s"}}},
                {"targetRef": {"kind": "MeshService"}, "default": {"idleTimeout": "0s"}},
            ],
        });
        let expected = [
            "spec.targetRef.sectionName|can only be used with inbound policies",
            "spec.to[0].default.connectionTimeout|must be greater than zero when defined",
            "spec.to[0].default.idleTimeout|must not be negative when defined",
            "spec.to[0].default.http.requestTimeout|must not be negative when defined",
            "spec.to[1].default.connectionTimeout|can't be specified when targetRef is referencing MeshHTTPRoute",
            "spec.to[1].default.http.maxStreamDuration|can't be specified when targetRef is referencing MeshHTTPRoute",
            "spec.to[2].targetRef.labels|must be set when kind is MeshService",
        ];
        assert_eq!(report(spec), expected);
    }
}
