//! MeshRateLimit: how many requests and connections a proxy takes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Checked;
use super::checks::{check_header_name, check_target};
use super::common::TargetRef;
use super::inbound::{check_directions, check_peers};
use super::mesh_traffic_permission::PeerMatch;
use crate::Violations;
use crate::duration::GoDuration;

/// How many requests and connections the selected proxies take. Each proxy counts for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshRateLimit {
    /// Which proxies; all of the mesh where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// Limits of incoming traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<RateLimitRule>>,
    /// Accepted for compatibility; it has no effect on any kind of proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<RateLimitTo>>,
}

/// Limits of traffic of some peers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RateLimitRule {
    /// Whose traffic: any of these; all other traffic where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matches: Option<Vec<PeerMatch>>,
    /// The limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<RateLimitConf>,
}

/// Limits of traffic to a destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitTo {
    /// The destination.
    pub target_ref: TargetRef,
    /// The limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<RateLimitConf>,
}

/// Limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RateLimitConf {
    /// Limits that each proxy enforces by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<LocalRateLimit>,
}

/// Limits that each proxy enforces by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LocalRateLimit {
    /// Of requests, where the inbound speaks HTTP, HTTP/2 or gRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpRateLimit>,
    /// Of connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpRateLimit>,
}

/// A limit of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRateLimit {
    /// Lifts a limit that a less specific policy sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// How many requests are let through per interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_rate: Option<Rate>,
    /// What the others are answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_rate_limit: Option<OnRateLimit>,
}

/// A limit of connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpRateLimit {
    /// Lifts a limit that a less specific policy sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// How many connections are taken per interval; the others are closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_rate: Option<Rate>,
}

/// So many per interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rate {
    /// How many.
    pub num: u32,
    /// A duration such as `10s`, more than `50ms`.
    pub interval: GoDuration,
}

/// The answer to a request over the limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct OnRateLimit {
    /// Its HTTP status, 429 by default. Envoy answers 429 instead of one below 400.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<i32>,
    /// Headers of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<HeaderChanges>,
}

/// Headers that are changed; at most ten in all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HeaderChanges {
    /// Headers that get another value beside those they have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add: Option<Vec<HeaderKeyValue>>,
    /// Headers that get this value instead of those they have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<Vec<HeaderKeyValue>>,
}

/// A header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeaderKeyValue {
    /// Its name, in lower case.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Envoy fills no bucket more often than this.
const LEAST_INTERVAL: GoDuration = GoDuration::from_nanos(50_000_000);

/// Headers that Envoy takes for one answer.
const MAX_HEADERS: usize = 10;

impl Checked for MeshRateLimit {
    fn check(&self, violations: &mut Violations) {
        let rules = self.rules.as_deref().unwrap_or_default();
        let to = self.to.as_deref().unwrap_or_default();
        check_directions(self.target_ref.as_ref(), !rules.is_empty(), !to.is_empty(), violations);
        for (at, rule) in rules.iter().enumerate() {
            let path = format!("spec.rules[{at}]");
            check_peers(&path, rule.matches.as_deref(), violations);
            rule.default.clone().unwrap_or_default().check(&format!("{path}.default"), violations);
        }
        for (at, item) in to.iter().enumerate() {
            let path = format!("spec.to[{at}]");
            check_target(&format!("{path}.targetRef"), &item.target_ref, &["Mesh"], violations);
            item.default.clone().unwrap_or_default().check(&format!("{path}.default"), violations);
        }
    }
}

impl RateLimitConf {
    fn check(&self, path: &str, violations: &mut Violations) {
        let path = format!("{path}.local");
        let Some(local) = &self.local else {
            violations.add(path, "must be defined");
            return;
        };
        if local.http.is_none() && local.tcp.is_none() {
            violations.add(&*path, "must have at least one defined: tcp, http");
        }
        if let Some(http) = &local.http {
            let path = format!("{path}.http");
            check_rate(&format!("{path}.requestRate"), http.disabled, http.request_rate.as_ref(), violations);
            if let Some(answer) = &http.on_rate_limit {
                answer.check(&format!("{path}.onRateLimit"), violations);
            }
        }
        if let Some(tcp) = &local.tcp {
            let path = format!("{path}.tcp.connectionRate");
            check_rate(&path, tcp.disabled, tcp.connection_rate.as_ref(), violations);
        }
    }
}

/// A limit that is not lifted has a rate.
fn check_rate(path: &str, disabled: Option<bool>, rate: Option<&Rate>, violations: &mut Violations) {
    let Some(rate) = rate else {
        if !disabled.unwrap_or(false) {
            violations.add(path, "must be defined");
        }
        return;
    };
    if rate.num == 0 {
        violations.add(format!("{path}.num"), "must be greater than 0");
    }
    if rate.interval <= LEAST_INTERVAL {
        violations.add(format!("{path}.interval"), format!("must be greater than: {LEAST_INTERVAL}"));
    }
}

impl OnRateLimit {
    fn check(&self, path: &str, violations: &mut Violations) {
        if let Some(status) = self.status.filter(|status| !is_known_status(*status)) {
            let message = format!("{status} is no status that Envoy can answer; 429 is usual");
            violations.add(format!("{path}.status"), message);
        }
        let Some(HeaderChanges { add, set }) = &self.headers else { return };
        let path = format!("{path}.headers");
        let all = add.iter().flatten().chain(set.iter().flatten()).count();
        if all > MAX_HEADERS {
            let message = format!("must have at most {MAX_HEADERS} headers, 'add' and 'set' together");
            violations.add(&*path, message);
        }
        for (field, list) in [("add", add), ("set", set)] {
            for (at, header) in list.iter().flatten().enumerate() {
                check_header_name(&format!("{path}.{field}[{at}].name"), &header.name, violations);
            }
        }
    }
}

/// What Envoy has a name for.
fn is_known_status(status: i32) -> bool {
    matches!(status, 100 | 200..=208 | 226 | 300..=305 | 307 | 308 | 400..=417 | 421..=424 | 426 | 428 | 429 | 431 | 500..=508 | 510 | 511)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn report(spec: Value) -> Vec<String> {
        let mut violations = Violations::default();
        serde_json::from_value::<MeshRateLimit>(spec).unwrap().check(&mut violations);
        violations.iter().map(|one| format!("{}|{}", one.field, one.message)).collect()
    }

    #[test]
    fn a_policy_says_something_in_one_direction() {
        assert_eq!(report(json!({})), ["spec|at least one of 'to' or 'rules' has to be defined"]);
        let to =
            json!({"targetRef": {"kind": "MeshService"}, "default": {"local": {"tcp": {"disabled": true}}}});
        let both = json!({
            "targetRef": {"kind": "Dataplane"},
            "rules": [{"default": {"local": {}}}, {}, {"default": {"local": {"tcp": {}}}}],
            "to": [to],
        });
        assert_eq!(
            report(both),
            [
                "spec|field 'to' must be empty when 'rules' is defined",
                "spec.to|must not be defined",
                "spec.rules[0].default.local|must have at least one defined: tcp, http",
                "spec.rules[1].default.local|must be defined",
                "spec.rules[2].default.local.tcp.connectionRate|must be defined",
                "spec.to[0].targetRef.kind|value 'MeshService' is not supported",
            ]
        );
    }

    #[test]
    fn limits_and_answers_are_checked() {
        let header = |name: &str| json!({"name": name, "value": "v"});
        let many = vec![header("a"); 10];
        let answer = json!({"status": 299, "headers": {"add": [header("Upper")], "set": many}});
        let spec = json!({"rules": [{
            "matches": [{}, {"spiffeID": {"type": "Exact", "value": "x"}}],
            "default": {"local": {
                "http": {"requestRate": {"num": 0, "interval": "1s"}, "onRateLimit": answer},
                "tcp": {"connectionRate": {"num": 1, "interval": "50ms"}},
            }},
        }]});
        let path = "spec.rules[0].default.local";
        assert_eq!(
            report(spec),
            [
                "spec.rules[0].matches[0]|must have at least one defined: spiffeID, sni".to_owned(),
                "spec.rules[0].matches[1].spiffeID.value|must be a valid Spiffe ID: scheme is missing or invalid"
                    .to_owned(),
                format!("{path}.http.requestRate.num|must be greater than 0"),
                format!("{path}.http.onRateLimit.status|299 is no status that Envoy can answer; 429 is usual"),
                format!("{path}.http.onRateLimit.headers|must have at most 10 headers, 'add' and 'set' together"),
                format!(r"{path}.http.onRateLimit.headers.add[0].name|in body should match '^[a-z0-9!#$%&'*+\-.^_\x60|~]+$'"),
                format!("{path}.tcp.connectionRate.interval|must be greater than: 50ms"),
            ]
        );
    }
}
