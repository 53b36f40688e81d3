//! MeshLoadBalancingStrategy: which endpoint of a destination takes a call.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Checked;
use super::checks::{DESTINATIONS, check_not_negative, check_target, check_top};
use super::common::{IntOrString, TargetRef};
use crate::Violations;
use crate::duration::GoDuration;

/// Which endpoint of a destination takes a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshLoadBalancingStrategy {
    /// Which proxies; all of the mesh where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// Calls that the proxies make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<LoadBalancingTo>>,
}

/// Calls to some destinations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancingTo {
    /// The destinations: `Mesh`, `MeshService`, `MeshExternalService`, `MeshMultiZoneService`, or the `MeshHTTPRoute`
    /// to them, for which only `hashPolicies` can be set.
    pub target_ref: TargetRef,
    /// How they are balanced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<LoadBalancingConf>,
}

/// How calls are balanced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancingConf {
    /// Whether near endpoints come first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locality_awareness: Option<LocalityAwareness>,
    /// How one of several equally near endpoints is chosen; `RoundRobin` where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancer>,
    /// What of a request `RingHash` and `Maglev` choose by: requests that are equal in it go to the same endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash_policies: Option<Vec<HashPolicy>>,
}

/// Whether near endpoints come first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalityAwareness {
    /// Makes all zones equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Which endpoints of the own zone come first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_zone: Option<LocalZone>,
    /// Which other zones take over when the endpoints of the own one fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_zone: Option<CrossZone>,
}

/// Which endpoints of the own zone come first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalZone {
    /// Labels, the nearest first: endpoints that have the same value as the calling proxy are preferred.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity_tags: Option<Vec<AffinityTag>>,
}

/// A label that near proxies share, such as `topology.kubernetes.io/zone`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AffinityTag {
    /// The label.
    pub key: String,
    /// Share of the traffic beside the other tags; without, each tag gets nine times what all later ones get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

/// Which other zones take over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CrossZone {
    /// In this order. A zone that none of them names takes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failover: Option<Vec<Failover>>,
    /// When the next ones begin to take over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failover_threshold: Option<FailoverThreshold>,
}

/// Zones that take over for others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failover {
    /// For whom; for all where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<FromZones>,
    /// Who.
    pub to: ToZones,
}

/// Zones whose calls are moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FromZones {
    /// Their names.
    pub zones: Vec<String>,
}

/// Zones that take calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToZones {
    /// How they are named.
    pub r#type: ToZonesType,
    /// Their names, for `Only` and `AnyExcept`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zones: Option<Vec<String>>,
}

/// How zones are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ToZonesType {
    /// No zone.
    None,
    /// The named ones.
    Only,
    /// All others.
    Any,
    /// All others but the named ones.
    AnyExcept,
}

/// When the next zones begin to take over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailoverThreshold {
    /// Share of the endpoints, percent, that must be healthy for all calls to stay; 50 where it is absent.
    pub percentage: IntOrString,
}

/// How an endpoint is chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancer {
    /// The algorithm.
    pub r#type: LoadBalancerType,
    /// One after the other; has nothing to set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_robin: Option<NoSettings>,
    /// The one with the fewest open requests of a few that are drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least_request: Option<LeastRequest>,
    /// By a ring of hashes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring_hash: Option<RingHash>,
    /// Any; has nothing to set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random: Option<NoSettings>,
    /// By a table of hashes: faster than a ring, and moves more when endpoints change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maglev: Option<Maglev>,
}

/// An algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LoadBalancerType {
    /// One after the other.
    RoundRobin,
    /// The one with the fewest open requests of a few that are drawn.
    LeastRequest,
    /// By a ring of hashes.
    RingHash,
    /// Any.
    Random,
    /// By a table of hashes.
    Maglev,
}

/// Nothing to set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NoSettings {}

/// The endpoint with the fewest open requests of a few that are drawn.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LeastRequest {
    /// How many are drawn; 2 where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2))]
    pub choice_count: Option<u32>,
    /// How much open requests count where endpoints have different weights; 1 where it is absent, 0 is not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_request_bias: Option<IntOrString>,
}

/// A ring of hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RingHash {
    /// `XXHash` where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash_function: Option<HashFunction>,
    /// Least entries; 1024 where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 8_000_000))]
    pub min_ring_size: Option<u32>,
    /// Most entries; 8 million where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 8_000_000))]
    pub max_ring_size: Option<u32>,
}

/// A hash function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HashFunction {
    /// xxHash.
    XXHash,
    /// MurmurHash2.
    MurmurHash2,
}

/// A table of hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Maglev {
    /// Entries, a prime number; 65537 where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 5_000_011))]
    pub table_size: Option<u32>,
}

/// What of a request is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HashPolicy {
    /// Which of the fields below is set.
    pub r#type: HashPolicyType,
    /// Whether later ones are left out when this one finds something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<bool>,
    /// A header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<NamedPart>,
    /// A cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<CookiePart>,
    /// The connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionPart>,
    /// A parameter of the query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_parameter: Option<NamedPart>,
    /// An object that an earlier filter of the proxy has left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter_state: Option<KeyedPart>,
}

/// A part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HashPolicyType {
    /// A header.
    Header,
    /// A cookie.
    Cookie,
    /// The connection.
    Connection,
    /// A parameter of the query.
    QueryParameter,
    /// An object that an earlier filter of the proxy has left.
    FilterState,
}

/// Something with a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NamedPart {
    /// The name.
    #[schemars(length(min = 1))]
    pub name: String,
}

/// Something with a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyedPart {
    /// The key.
    #[schemars(length(min = 1))]
    pub key: String,
}

/// A cookie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CookiePart {
    /// Its name.
    #[schemars(length(min = 1))]
    pub name: String,
    /// How long a cookie lives that the proxy makes for a client without one; it makes none where this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<GoDuration>,
    /// The path of that cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// A connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ConnectionPart {
    /// Whether the address of the caller counts.
    #[serde(rename = "sourceIP", skip_serializing_if = "Option::is_none")]
    pub source_ip: Option<bool>,
}

const ROUTE: &str = "MeshHTTPRoute";

impl Checked for MeshLoadBalancingStrategy {
    fn check(&self, violations: &mut Violations) {
        check_top(self.target_ref.as_ref(), false, violations);
        let to = self.to.as_deref().unwrap_or_default();
        if to.is_empty() {
            violations.add("spec.to", "must be defined");
        }
        for (at, item) in to.iter().enumerate() {
            let path = format!("spec.to[{at}]");
            check_target(&format!("{path}.targetRef"), &item.target_ref, &DESTINATIONS, violations);
            let Some(conf) = &item.default else { continue };
            conf.check(&format!("{path}.default"), item.target_ref.kind == ROUTE, violations);
        }
    }
}

impl LoadBalancingConf {
    fn check(&self, path: &str, of_route: bool, violations: &mut Violations) {
        if of_route {
            let fields = [
                ("localityAwareness", self.locality_awareness.is_some()),
                ("loadBalancer", self.load_balancer.is_some()),
            ];
            for (field, _) in fields.into_iter().filter(|(_, set)| *set) {
                violations.add(format!("{path}.{field}"), "must not be set with kind MeshHTTPRoute");
            }
        }
        if let Some(locality) = &self.locality_awareness {
            locality.check(&format!("{path}.localityAwareness"), violations);
        }
        if let Some(balancer) = &self.load_balancer {
            balancer.check(&format!("{path}.loadBalancer"), violations);
        }
        for (at, policy) in self.hash_policies.iter().flatten().enumerate() {
            policy.check(&format!("{path}.hashPolicies[{at}]"), violations);
        }
    }
}

impl LocalityAwareness {
    fn check(&self, path: &str, violations: &mut Violations) {
        if let Some(tags) = self.local_zone.as_ref().and_then(|local| local.affinity_tags.as_ref()) {
            check_tags(&format!("{path}.localZone.affinityTags"), tags, violations);
        }
        let Some(cross) = &self.cross_zone else { return };
        let path = format!("{path}.crossZone");
        for (at, failover) in cross.failover.iter().flatten().enumerate() {
            failover.check(&format!("{path}.failover[{at}]"), violations);
        }
        if let Some(threshold) = &cross.failover_threshold {
            let path = format!("{path}.failoverThreshold.percentage");
            match threshold.percentage.as_f64() {
                None => violations.add(path, "string must be a valid number"),
                Some(share) if !(share > 0.0 && share <= 100.0) => {
                    violations.add(path, "must be greater than 0 and at most 100");
                }
                Some(_) => {}
            }
        }
    }
}

fn check_tags(path: &str, tags: &[AffinityTag], violations: &mut Violations) {
    for (at, tag) in tags.iter().enumerate() {
        if tag.key.is_empty() {
            violations.add(format!("{path}[{at}].key"), "must not be empty");
        }
        if tag.weight == Some(0) {
            violations.add(format!("{path}[{at}].weight"), "must be greater than 0");
        }
    }
    let weighted = tags.iter().filter(|tag| tag.weight.is_some()).count();
    if weighted != 0 && weighted != tags.len() {
        violations.add(path, "all or none affinity tags should have weight");
    }
}

impl Failover {
    fn check(&self, path: &str, violations: &mut Violations) {
        if let Some(from) = &self.from {
            check_zones(&format!("{path}.from.zones"), &from.zones, violations);
        }
        let to = format!("{path}.to.zones");
        let zones = self.to.zones.as_deref().unwrap_or_default();
        match self.to.r#type {
            ToZonesType::Only | ToZonesType::AnyExcept => check_zones(&to, zones, violations),
            ToZonesType::None | ToZonesType::Any if !zones.is_empty() => {
                violations.add(to, format!("must be empty when type is {:?}", self.to.r#type));
            }
            ToZonesType::None | ToZonesType::Any => {}
        }
    }
}

fn check_zones(path: &str, zones: &[String], violations: &mut Violations) {
    if zones.is_empty() {
        violations.add(path, "must not be empty");
    }
    for (at, _) in zones.iter().enumerate().filter(|(_, zone)| zone.is_empty()) {
        violations.add(format!("{path}[{at}]"), "must not be empty");
    }
}

impl LoadBalancer {
    fn check(&self, path: &str, violations: &mut Violations) {
        if let Some(RingHash { min_ring_size: Some(min), max_ring_size: Some(max), .. }) = &self.ring_hash
            && min > max
        {
            violations.add(format!("{path}.ringHash.minRingSize"), "must not be greater than maxRingSize");
        }
        let bias = self.least_request.as_ref().and_then(|least| least.active_request_bias.as_ref());
        let path = format!("{path}.leastRequest.activeRequestBias");
        match bias.map(IntOrString::as_f64) {
            Some(None) => violations.add(path, "string must be a valid number"),
            Some(Some(bias)) if bias < 0.0 => violations.add(path, "must not be negative when defined"),
            _ => {}
        }
    }
}

impl HashPolicy {
    fn check(&self, path: &str, violations: &mut Violations) {
        let parts = [
            (HashPolicyType::Header, "header", self.header.is_some()),
            (HashPolicyType::Cookie, "cookie", self.cookie.is_some()),
            (HashPolicyType::Connection, "connection", self.connection.is_some()),
            (HashPolicyType::QueryParameter, "queryParameter", self.query_parameter.is_some()),
            (HashPolicyType::FilterState, "filterState", self.filter_state.is_some()),
        ];
        for (of, field, _) in parts.into_iter().filter(|(of, _, set)| *of == self.r#type && !set) {
            violations.add(format!("{path}.{field}"), format!("must be defined when type is {of:?}"));
        }
        let names = [
            ("header.name", self.header.as_ref().map(|part| &part.name)),
            ("cookie.name", self.cookie.as_ref().map(|part| &part.name)),
            ("queryParameter.name", self.query_parameter.as_ref().map(|part| &part.name)),
            ("filterState.key", self.filter_state.as_ref().map(|part| &part.key)),
        ];
        for (field, _) in names.into_iter().filter(|(_, name)| name.is_some_and(String::is_empty)) {
            violations.add(format!("{path}.{field}"), "must not be empty");
        }
        if let Some(cookie) = &self.cookie {
            check_not_negative(&format!("{path}.cookie.ttl"), cookie.ttl, violations);
            if cookie.path.as_deref().is_some_and(|path| !path.starts_with('/')) {
                violations.add(format!("{path}.cookie.path"), "must be an absolute path");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn report(target: Value, conf: Value) -> Vec<String> {
        let spec = json!({"to": [{"targetRef": target, "default": conf}]});
        let mut violations = Violations::default();
        serde_json::from_value::<MeshLoadBalancingStrategy>(spec).unwrap().check(&mut violations);
        let short = |field: &str| field.replace("spec.to[0].default.", "");
        violations.iter().map(|one| format!("{}|{}", short(&one.field), one.message)).collect()
    }

    #[test]
    fn a_route_has_hash_policies_only() {
        let route = json!({"kind": "MeshHTTPRoute", "labels": {"a": "b"}});
        let conf = json!({
            "localityAwareness": {"disabled": true},
            "loadBalancer": {"type": "Random"},
            "hashPolicies": [{"type": "Connection", "connection": {"sourceIP": true}}],
        });
        assert_eq!(
            report(route, conf),
            [
                "localityAwareness|must not be set with kind MeshHTTPRoute",
                "loadBalancer|must not be set with kind MeshHTTPRoute",
            ]
        );
    }

    #[test]
    fn every_rule_has_its_path() {
        let conf = json!({
            "localityAwareness": {
                "localZone": {"affinityTags": [{"key": "", "weight": 0}, {"key": "rack"}]},
                "crossZone": {
                    "failover": [
                        {"from": {"zones": []}, "to": {"type": "Any", "zones": ["a"]}},
                        {"to": {"type": "Only", "zones": [""]}},
                    ],
                    "failoverThreshold": {"percentage": "0"},
                },
            },
            "loadBalancer": {"type": "RingHash", "ringHash": {"minRingSize": 2, "maxRingSize": 1}},
            "hashPolicies": [
                {"type": "Header"},
                {"type": "Cookie", "cookie": {"name": "", "ttl": "-1s", "path": "p"}},
            ],
        });
        assert_eq!(
            report(json!({"kind": "Mesh"}), conf),
            [
                "localityAwareness.localZone.affinityTags[0].key|must not be empty",
                "localityAwareness.localZone.affinityTags[0].weight|must be greater than 0",
                "localityAwareness.localZone.affinityTags|all or none affinity tags should have weight",
                "localityAwareness.crossZone.failover[0].from.zones|must not be empty",
                "localityAwareness.crossZone.failover[0].to.zones|must be empty when type is Any",
                "localityAwareness.crossZone.failover[1].to.zones[0]|must not be empty",
                "localityAwareness.crossZone.failoverThreshold.percentage|must be greater than 0 and at most 100",
                "loadBalancer.ringHash.minRingSize|must not be greater than maxRingSize",
                "hashPolicies[0].header|must be defined when type is Header",
                "hashPolicies[1].cookie.name|must not be empty",
                "hashPolicies[1].cookie.ttl|must not be negative when defined",
                "hashPolicies[1].cookie.path|must be an absolute path",
            ]
        );
    }
}
