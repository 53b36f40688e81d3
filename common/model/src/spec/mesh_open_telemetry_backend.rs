//! MeshOpenTelemetryBackend: a collector to which proxies send spans, logs and metrics.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Checked;
use super::common::Condition;
use crate::Violations;
use crate::validation::is_dns_name;

/// Port of OTLP over gRPC (OpenTelemetry Protocol, OTLP/gRPC default port).
const DEFAULT_PORT: i32 = 4317;

/// A collector to which proxies send spans, logs and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MeshOpenTelemetryBackend {
    /// Where it is. Where it is absent, it runs beside each proxy: at `HOST_IP`, else at 127.0.0.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<OtelEndpoint>,
    /// `grpc` or `http`; `grpc` where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<OtelProtocol>,
    /// What the environment of proxies may change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<OtelEnv>,
}

/// Where a collector is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct OtelEndpoint {
    /// Its address or host name. Where it is absent, it runs beside each proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its port; 4317 where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// What stands before `/v1/traces`, `/v1/logs` and `/v1/metrics`; with `http` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// How OTLP is carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OtelProtocol {
    /// OTLP over gRPC.
    #[default]
    Grpc,
    /// OTLP over HTTP.
    Http,
}

/// What the environment of proxies (`OTEL_EXPORTER_OTLP_*`) may change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OtelEnv {
    /// Whether it counts: `Disabled`, `Optional` (where it is there), `Required` (nothing is sent without it).
    pub mode: OtelEnvMode,
    /// What wins where both say something: `EnvFirst` or `ExplicitFirst`.
    pub precedence: OtelEnvPrecedence,
    /// Whether variables for one signal win over those for all; true where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_signal_overrides: Option<bool>,
}

/// Whether the environment counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OtelEnvMode {
    /// It does not.
    Disabled,
    /// Where it is there.
    #[default]
    Optional,
    /// Nothing is sent without it.
    Required,
}

/// What wins where the environment and the backend both say something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OtelEnvPrecedence {
    /// The backend.
    ExplicitFirst,
    /// The environment.
    #[default]
    EnvFirst,
}

/// Observed state of a MeshOpenTelemetryBackend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MeshOpenTelemetryBackendStatus {
    /// What is observed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl MeshOpenTelemetryBackend {
    /// Its address; `None` for one beside each proxy.
    pub fn address(&self) -> Option<&str> {
        self.endpoint.as_ref()?.address.as_deref().filter(|address| !address.is_empty())
    }

    /// Its port.
    pub fn port(&self) -> u32 {
        let said = self.endpoint.as_ref().and_then(|endpoint| endpoint.port).unwrap_or(DEFAULT_PORT);
        said.try_into().unwrap_or_default()
    }

    /// What stands before the paths of signals, without a slash at the end.
    pub fn path(&self) -> &str {
        let said = self.endpoint.as_ref().and_then(|endpoint| endpoint.path.as_deref());
        said.unwrap_or_default().trim_end_matches('/')
    }

    /// Whether it takes OTLP over HTTP.
    pub fn is_http(&self) -> bool {
        self.protocol == Some(OtelProtocol::Http)
    }
}

impl Checked for MeshOpenTelemetryBackendStatus {}

impl Checked for MeshOpenTelemetryBackend {
    fn check(&self, violations: &mut Violations) {
        let Some(OtelEndpoint { address, port, path }) = &self.endpoint else { return };
        if let Some(problem) = address.as_deref().and_then(address_problem) {
            violations.add("spec.endpoint.address", problem);
        }
        if port.is_some_and(|port| !(1..=i32::from(u16::MAX)).contains(&port)) {
            violations.add("spec.endpoint.port", "port must be a valid (1-65535)");
        }
        let Some(path) = path.as_deref().filter(|path| !path.is_empty()) else { return };
        if !self.is_http() {
            violations.add("spec.endpoint.path", "must not be set when protocol is grpc");
        }
        if !path.starts_with('/') {
            violations.add("spec.endpoint.path", "must start with '/'");
        }
        if path.contains(['?', '#']) {
            violations.add("spec.endpoint.path", "must not contain query or fragment");
        }
    }
}

fn address_problem(address: &str) -> Option<&'static str> {
    if address.is_empty() {
        return Some("must not be empty");
    }
    let is_host = address.parse::<IpAddr>().is_ok() || is_dns_name(&address.to_ascii_lowercase());
    (!is_host).then_some("must be a valid IP address or hostname")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn problems(spec: Value) -> Vec<String> {
        let spec: MeshOpenTelemetryBackend = serde_json::from_value(spec).expect("decodes");
        let mut violations = Violations::default();
        spec.check(&mut violations);
        violations.iter().map(|one| format!("{}: {}", one.field, one.message)).collect()
    }

    #[test]
    fn endpoints_are_checked() {
        assert!(problems(json!({})).is_empty());
        assert!(
            problems(json!({"endpoint": {"address": "::1", "port": 4318, "path": "/a"}, "protocol": "http"}))
                .is_empty()
        );
        assert_eq!(
            problems(json!({"endpoint": {"address": "http://x", "port": 0, "path": "a?b"}})),
            [
                "spec.endpoint.address: must be a valid IP address or hostname",
                "spec.endpoint.port: port must be a valid (1-65535)",
                "spec.endpoint.path: must not be set when protocol is grpc",
                "spec.endpoint.path: must start with '/'",
                "spec.endpoint.path: must not contain query or fragment",
            ]
        );
    }

    #[test]
    fn what_is_absent_has_a_meaning() {
        let backend = MeshOpenTelemetryBackend::default();
        assert_eq!((backend.address(), backend.port(), backend.path()), (None, 4317, ""));
        let env: OtelEnv = serde_json::from_value(json!({})).expect("decodes");
        assert_eq!(
            serde_json::to_value(env).expect("serializes"),
            json!({"mode": "Optional", "precedence": "EnvFirst"})
        );
    }
}
