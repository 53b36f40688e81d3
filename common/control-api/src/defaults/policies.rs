//! Specs of default resources. The numbers are the peer's, so that a mesh behaves the same under either.

use model::Kind;
use model::labels::Plane;
use serde_json::{Value, json};

/// Default policies of a new mesh: kind, name and spec.
pub(super) fn of_mesh(mesh: &str) -> [(Kind, String, Value); 4] {
    [
        (Kind::MESH_TIMEOUT, format!("mesh-timeout-all-{mesh}"), timeout_inbound()),
        (Kind::MESH_TIMEOUT, format!("mesh-timeout-to-all-{mesh}"), timeout_outbound()),
        (Kind::MESH_CIRCUIT_BREAKER, format!("mesh-circuit-breaker-all-{mesh}"), circuit_breaker()),
        (Kind::MESH_RETRY, format!("mesh-retry-all-{mesh}"), retry()),
    ]
}

fn timeout_inbound() -> Value {
    json!({
        "targetRef": {"kind": "Mesh"},
        "rules": [{"default": {
            "connectionTimeout": "10s",
            "idleTimeout": "2h0m0s",
            "http": {"requestTimeout": "0s", "streamIdleTimeout": "1h0m0s", "maxStreamDuration": "0s"},
        }}],
    })
}

fn timeout_outbound() -> Value {
    to_all(json!({
        "connectionTimeout": "5s",
        "idleTimeout": "1h0m0s",
        "http": {"requestTimeout": "15s", "streamIdleTimeout": "30m0s"},
    }))
}

fn circuit_breaker() -> Value {
    to_all(json!({"connectionLimits": {
        "maxConnections": 1024,
        "maxPendingRequests": 1024,
        "maxRequests": 1024,
        "maxRetries": 3,
    }}))
}

fn retry() -> Value {
    let requests = json!({
        "numRetries": 5,
        "perTryTimeout": "16s",
        "backOff": {"baseInterval": "25ms", "maxInterval": "250ms"},
    });
    to_all(json!({"tcp": {"maxConnectAttempt": 5}, "http": requests, "grpc": requests}))
}

fn to_all(default: Value) -> Value {
    json!({"targetRef": {"kind": "Mesh"}, "to": [{"targetRef": {"kind": "Mesh"}, "default": default}]})
}

/// Default hostname generators of a control plane: name and spec. A zone names what is its own, the global
/// what reaches zones from elsewhere.
pub(super) fn hostname_generators(plane: &Plane) -> Vec<(&'static str, Value)> {
    let generator = |selector: &str, labels: Value, template: &str| json!({"selector": {selector: {"matchLabels": labels}}, "template": template});
    let universal = json!({"kuma.io/origin": "global", "kuma.io/env": "universal"});
    let kubernetes = |headless: &str| {
        json!({
            "kuma.io/origin": "global",
            "kuma.io/env": "kubernetes",
            "k8s.kuma.io/is-headless-service": headless,
        })
    };
    let origin = |origin: &str| json!({"kuma.io/origin": origin});
    let (service, external, multi) = ("meshService", "meshExternalService", "meshMultiZoneService");
    match plane {
        Plane::Zone { .. } => vec![
            (
                "local-mesh-external-service",
                generator(external, origin("zone"), "{{ .DisplayName }}.extsvc.mesh.local"),
            ),
            (
                "local-universal-mesh-service",
                generator(service, origin("zone"), "{{ .DisplayName }}.svc.mesh.local"),
            ),
        ],
        Plane::Global => vec![
            (
                "synced-mesh-multi-zone-service",
                generator(multi, origin("global"), "{{ .DisplayName }}.mzsvc.mesh.local"),
            ),
            (
                "synced-kube-mesh-service",
                generator(
                    service,
                    kubernetes("false"),
                    "{{ .DisplayName }}.{{ .Namespace }}.svc.{{ .Zone }}.mesh.local",
                ),
            ),
            (
                "synced-headless-kube-mesh-service",
                generator(
                    service,
                    kubernetes("true"),
                    "{{ label \"statefulset.kubernetes.io/pod-name\" }}.{{ label \"k8s.kuma.io/service-name\" }}.{{ .Namespace }}.svc.{{ .Zone }}.mesh.local",
                ),
            ),
            (
                "synced-universal-mesh-service",
                generator(service, universal, "{{ .DisplayName }}.svc.{{ .Zone }}.mesh.local"),
            ),
            (
                "synced-mesh-external-service",
                generator(external, origin("global"), "{{ .DisplayName }}.extsvc.mesh.local"),
            ),
        ],
    }
}

#[cfg(test)]
mod tests {
    use model::Violations;

    use super::*;

    #[test]
    fn default_policies_are_valid_and_read_back_as_they_are() {
        for (kind, name, spec) in of_mesh("m") {
            let typed = kind.json().expect("a typed kind");
            let mut violations = Violations::default();
            (typed.validate)(&spec, &mut violations);
            assert!(violations.is_empty(), "{name}: {violations}");
            assert_eq!((typed.normalise)(&spec).expect("it decodes"), spec, "{name}");
        }
    }
}
