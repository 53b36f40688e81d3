//! MeshTCPRoute: where connections to a service go.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Checked;
use super::backend_ref::BackendRef;
use super::checks::{SERVICES, check_target, check_top};
use super::common::TargetRef;
use crate::Violations;

/// Where connections of the selected proxies to services go. Requests of HTTP follow a MeshHTTPRoute where there is
/// one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshTCPRoute {
    /// Which proxies; all of the mesh where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// Connections to which services, and where they go. At least one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<TcpRouteTo>>,
}

/// Connections to a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpRouteTo {
    /// The service: `MeshService`, `MeshExternalService` or `MeshMultiZoneService`.
    pub target_ref: TargetRef,
    /// Exactly one.
    pub rules: Vec<TcpRouteRule>,
}

/// What becomes of connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TcpRouteRule {
    /// What becomes of them; rules of other policies are merged into it.
    pub default: TcpRouteConf,
}

/// What becomes of connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpRouteConf {
    /// Who takes them; the service itself where it is absent or empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_refs: Option<Vec<BackendRef>>,
}

impl Checked for MeshTCPRoute {
    fn check(&self, violations: &mut Violations) {
        check_top(self.target_ref.as_ref(), false, violations);
        let to = self.to.as_deref().unwrap_or_default();
        if to.is_empty() {
            violations.add("spec.to", "in body should have at least 1 items");
        }
        for (at, item) in to.iter().enumerate() {
            let path = format!("spec.to[{at}]");
            check_target(&format!("{path}.targetRef"), &item.target_ref, &SERVICES, violations);
            match item.rules.as_slice() {
                [] => violations.add(format!("{path}.rules"), "must be defined"),
                [rule] => rule.default.check(&format!("{path}.rules[0].default"), violations),
                _ => violations.add(format!("{path}.rules"), "in body should have at most 1 items"),
            }
        }
    }
}

impl TcpRouteConf {
    fn check(&self, path: &str, violations: &mut Violations) {
        let path = format!("{path}.backendRefs");
        let backends = self.backend_refs.as_deref().unwrap_or_default();
        if backends.is_empty() {
            violations.add(&*path, "must be defined");
        }
        for (at, backend) in backends.iter().enumerate() {
            backend.check(&format!("{path}[{at}]"), violations);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn report(spec: Value) -> Vec<String> {
        let mut violations = Violations::default();
        serde_json::from_value::<MeshTCPRoute>(spec).unwrap().check(&mut violations);
        violations.iter().map(|one| format!("{}|{}", one.field, one.message)).collect()
    }

    #[test]
    fn a_service_has_one_rule_with_backends() {
        assert_eq!(report(json!({})), ["spec.to|in body should have at least 1 items"]);
        let web = json!({"kind": "MeshService", "labels": {"kuma.io/display-name": "web"}});
        let backends = json!([
            {"kind": "MeshService", "labels": {"a": "b"}, "port": 80},
            {"kind": "MeshService", "labels": {"a": "b"}},
            {"kind": "MeshExternalService", "labels": {"a": "b"}},
            {"kind": "MeshMultiZoneService", "port": 70000},
            {"kind": "MeshHTTPRoute", "labels": {"a": "b"}},
        ]);
        let spec = json!({"to": [
            {"targetRef": web, "rules": []},
            {"targetRef": {"kind": "Mesh"}, "rules": [{"default": {}}]},
            {"targetRef": web, "rules": [{"default": {}}, {"default": {}}]},
            {"targetRef": web, "rules": [{"default": {"backendRefs": backends}}]},
        ]});
        let expected = [
            "spec.to[0].rules|must be defined",
            "spec.to[1].targetRef.kind|value 'Mesh' is not supported",
            "spec.to[1].rules[0].default.backendRefs|must be defined",
            "spec.to[2].rules|in body should have at most 1 items",
            "spec.to[3].rules[0].default.backendRefs[1].port|must be defined",
            "spec.to[3].rules[0].default.backendRefs[3].labels|must be set when kind is MeshMultiZoneService",
            "spec.to[3].rules[0].default.backendRefs[3].port|port must be a valid (1-65535)",
            "spec.to[3].rules[0].default.backendRefs[4].kind|value 'MeshHTTPRoute' is not supported",
        ];
        assert_eq!(report(spec), expected);
    }
}
