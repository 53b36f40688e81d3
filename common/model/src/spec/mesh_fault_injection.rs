//! MeshFaultInjection: faults that a proxy adds to requests, to see how callers take them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Checked;
use super::checks::check_target;
use super::common::{IntOrString, TargetRef};
use super::inbound::{check_directions, check_peers};
use super::mesh_traffic_permission::PeerMatch;
use crate::Violations;
use crate::duration::GoDuration;

/// Faults that the selected proxies add to requests over HTTP, HTTP/2 and gRPC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshFaultInjection {
    /// Which proxies; all of the mesh where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// Faults of incoming requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<FaultRule>>,
    /// Accepted for compatibility; it has no effect on any kind of proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<FaultTo>>,
}

/// Faults of requests of some peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FaultRule {
    /// Whose requests: any of these; everybody's where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<Vec<PeerMatch>>,
    /// The faults.
    pub default: FaultConf,
}

/// Faults of requests to a destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FaultTo {
    /// The destination.
    pub target_ref: TargetRef,
    /// The faults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<FaultConf>,
}

/// Faults, each decided upon by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FaultConf {
    /// The faults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<Vec<Fault>>,
}

/// A fault: any combination of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Fault {
    /// Requests are answered with an error, and the application does not see them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abort: Option<Abort>,
    /// Requests wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Delay>,
    /// Responses are slow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_bandwidth: Option<ResponseBandwidth>,
}

/// Requests are answered with an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Abort {
    /// The HTTP status of the answer, 200 to 599.
    pub http_status: i32,
    /// Share of the requests: a number from 0 to 100, with a fraction as a string such as `"2.5"`.
    pub percentage: IntOrString,
}

/// Requests wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Delay {
    /// Share of the requests: a number from 0 to 100, with a fraction as a string such as `"2.5"`.
    pub percentage: IntOrString,
    /// How long: a duration such as `5s`.
    pub value: GoDuration,
}

/// Responses are slow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResponseBandwidth {
    /// What is let through per second, with a unit: `10kbps`, `1Mbps` or `1Gbps`. Envoy counts KiB per second.
    pub limit: String,
    /// Share of the responses: a number from 0 to 100, with a fraction as a string such as `"2.5"`.
    pub percentage: IntOrString,
}

/// A share of all, from 0 to 100.
fn check_percentage(path: &str, share: &IntOrString, violations: &mut Violations) {
    match share.as_f64() {
        None => violations.add(path, "string must be a valid number"),
        Some(number) if !(0.0..=100.0).contains(&number) => {
            violations.add(path, "must be in inclusive range [0.0, 100.0]");
        }
        Some(_) => {}
    }
}

impl ResponseBandwidth {
    /// The limit in thousands per second; `None` for text that is none, or too much.
    pub fn kbps(&self) -> Option<u64> {
        const UNITS: [(&str, u64); 3] = [("kbps", 1), ("Mbps", 1_000), ("Gbps", 1_000_000)];
        let (number, scale) =
            UNITS.iter().find_map(|(unit, scale)| Some((self.limit.strip_suffix(unit)?, *scale)))?;
        number.trim_end().parse::<u64>().ok()?.checked_mul(scale)
    }
}

/// Statuses that an answer can have.
const STATUSES: std::ops::RangeInclusive<i32> = 100..=599;

/// Statuses with which Envoy answers in place of the application.
const INJECTED: std::ops::RangeInclusive<i32> = 200..=599;

impl Checked for MeshFaultInjection {
    fn check(&self, violations: &mut Violations) {
        let rules = self.rules.as_deref().unwrap_or_default();
        let to = self.to.as_deref().unwrap_or_default();
        check_directions(self.target_ref.as_ref(), !rules.is_empty(), !to.is_empty(), violations);
        for (at, rule) in rules.iter().enumerate() {
            let path = format!("spec.rules[{at}]");
            check_peers(&path, rule.matches.as_deref(), violations);
            rule.default.check(&format!("{path}.default"), violations);
        }
        for (at, item) in to.iter().enumerate() {
            let path = format!("spec.to[{at}]");
            check_target(&format!("{path}.targetRef"), &item.target_ref, &["Mesh"], violations);
            item.default.clone().unwrap_or_default().check(&format!("{path}.default"), violations);
        }
    }
}

impl FaultConf {
    fn check(&self, path: &str, violations: &mut Violations) {
        let Some(faults) = &self.http else {
            violations.add(format!("{path}.http"), "must be defined");
            return;
        };
        for (at, fault) in faults.iter().enumerate() {
            fault.check(&format!("{path}.http[{at}]"), violations);
        }
    }
}

impl Fault {
    fn check(&self, path: &str, violations: &mut Violations) {
        if self.abort.is_none() && self.delay.is_none() && self.response_bandwidth.is_none() {
            violations.add(path, "must have at least one defined: abort, delay, responseBandwidth");
        }
        if let Some(abort) = &self.abort {
            let status = [STATUSES, INJECTED].into_iter().find(|range| !range.contains(&abort.http_status));
            if let Some(range) = status {
                let message = format!("must be in inclusive range [{}, {}]", range.start(), range.end());
                violations.add(format!("{path}.abort.httpStatus"), message);
            }
            check_percentage(&format!("{path}.abort.percentage"), &abort.percentage, violations);
        }
        if let Some(delay) = &self.delay {
            if delay.value.is_negative() || delay.value.is_zero() {
                violations.add(format!("{path}.delay.value"), "must be greater than 0");
            }
            check_percentage(&format!("{path}.delay.percentage"), &delay.percentage, violations);
        }
        if let Some(bandwidth) = &self.response_bandwidth {
            match bandwidth.kbps() {
                None => violations
                    .add(format!("{path}.responseBandwidth.limit"), "must be in kbps/Mbps/Gbps units"),
                Some(0) => {
                    violations.add(format!("{path}.responseBandwidth.limit"), "must be greater than 0")
                }
                Some(_) => {}
            }
            check_percentage(
                &format!("{path}.responseBandwidth.percentage"),
                &bandwidth.percentage,
                violations,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn report(faults: Value) -> Vec<String> {
        let mut violations = Violations::default();
        let spec = json!({"rules": [{"default": {"http": faults}}]});
        serde_json::from_value::<MeshFaultInjection>(spec).unwrap().check(&mut violations);
        let prefix = "spec.rules[0].default.http";
        violations.iter().map(|one| format!("{}|{}", one.field.replace(prefix, ""), one.message)).collect()
    }

    #[test]
    fn faults_that_can_work_pass() {
        let faults = json!([
            {"abort": {"httpStatus": 200, "percentage": 0}, "delay": {"value": "1s", "percentage": "99.9"}},
            {"responseBandwidth": {"limit": "10 kbps", "percentage": 100}},
        ]);
        assert_eq!(report(faults), Vec::<String>::new());
    }

    #[test]
    fn each_part_of_a_fault_is_checked() {
        let faults = json!([
            {},
            {"abort": {"httpStatus": 600, "percentage": 101}},
            {"abort": {"httpStatus": 101, "percentage": "x"}},
            {"responseBandwidth": {"limit": "10", "percentage": -1}},
            {"responseBandwidth": {"limit": "0Gbps", "percentage": "1e1"}},
            {"delay": {"value": "0s", "percentage": "100.1"}},
        ]);
        assert_eq!(
            report(faults),
            [
                "[0]|must have at least one defined: abort, delay, responseBandwidth",
                "[1].abort.httpStatus|must be in inclusive range [100, 599]",
                "[1].abort.percentage|must be in inclusive range [0.0, 100.0]",
                "[2].abort.httpStatus|must be in inclusive range [200, 599]",
                "[2].abort.percentage|string must be a valid number",
                "[3].responseBandwidth.limit|must be in kbps/Mbps/Gbps units",
                "[3].responseBandwidth.percentage|must be in inclusive range [0.0, 100.0]",
                "[4].responseBandwidth.limit|must be greater than 0",
                "[5].delay.value|must be greater than 0",
                "[5].delay.percentage|must be in inclusive range [0.0, 100.0]",
            ]
        );
    }

    #[test]
    fn bandwidth_has_a_unit() {
        let kbps =
            |limit: &str| ResponseBandwidth { limit: limit.into(), percentage: IntOrString::Int(1) }.kbps();
        assert_eq!(kbps("10kbps"), Some(10));
        assert_eq!(kbps("2Mbps"), Some(2_000));
        assert_eq!(kbps("1Gbps"), Some(1_000_000));
        assert_eq!(kbps("99999999999999999Gbps"), None);
        assert_eq!(kbps("1bps"), None);
    }
}
