//! MeshMetric: which metrics of proxies and applications are collected, and who gets them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Checked;
use super::checks::{check_expression, check_positive, check_top};
use super::common::TargetRef;
use super::otel_backend_ref::{OtelBackendRef, check_backend_ref};
use crate::Violations;
use crate::duration::GoDuration;

/// Which metrics of the selected proxies and their applications are collected, and who gets them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshMetric {
    /// Which proxies; all of the mesh where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// What is collected, and who gets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<MetricConf>,
}

/// What is collected, and who gets it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MetricConf {
    /// Metrics of Envoy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sidecar: Option<SidecarMetrics>,
    /// Applications whose metrics are added. Proxies of a zone have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applications: Option<Vec<MetricApplication>>,
    /// Who gets the metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backends: Option<Vec<MetricBackendConf>>,
}

/// Metrics of Envoy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SidecarMetrics {
    /// Which ones; all where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profiles: Option<MetricProfiles>,
    /// Also those that never changed; false where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_unused: Option<bool>,
}

/// Which metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MetricProfiles {
    /// Sets of metrics that are added up; policies add theirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub append_profiles: Option<Vec<MetricProfile>>,
    /// Metrics that are left out of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude: Option<Vec<MetricSelector>>,
    /// Metrics that are there in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include: Option<Vec<MetricSelector>>,
}

/// A set of metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MetricProfile {
    /// `All`, `Basic` (what dashboards and alerts need) or `None`.
    pub name: MetricProfileName,
}

/// Names of sets of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MetricProfileName {
    /// Everything.
    All,
    /// What dashboards and alerts need.
    Basic,
    /// Nothing.
    None,
}

/// Some metrics by their name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MetricSelector {
    /// How names are compared.
    pub r#type: MetricSelectorType,
    /// What they are compared with.
    pub r#match: String,
}

/// How names of metrics are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MetricSelectorType {
    /// Their beginning.
    Prefix,
    /// An expression matches.
    Regex,
    /// The whole name.
    Exact,
    /// Any part of them.
    Contains,
}

/// An application whose metrics are added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MetricApplication {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where its metrics are; `/metrics` where it is absent.
    #[serde(default = "metrics_path")]
    pub path: String,
    /// The port on which it serves them.
    pub port: i32,
    /// The address on which it serves them; that of the workload where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

fn metrics_path() -> String {
    "/metrics".into()
}

/// Who gets the metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricBackendConf {
    /// `Prometheus` or `OpenTelemetry`.
    pub r#type: MetricBackendType,
    /// A Prometheus that scrapes proxies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusBackend>,
    /// A collector to which proxies send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_telemetry: Option<OtelMetricBackend>,
}

/// Kinds of backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MetricBackendType {
    /// A Prometheus that scrapes proxies.
    Prometheus,
    /// A collector to which proxies send.
    OpenTelemetry,
}

/// A Prometheus that scrapes proxies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrometheusBackend {
    /// Tells several Prometheus apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The port that it scrapes; 5670 where it is absent.
    #[serde(default = "prometheus_port")]
    pub port: i32,
    /// The path that it scrapes; `/metrics` where it is absent.
    #[serde(default = "metrics_path")]
    pub path: String,
    /// How it is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<PrometheusTls>,
}

fn prometheus_port() -> i32 {
    5670
}

impl Default for PrometheusBackend {
    fn default() -> Self {
        Self { client_id: None, port: prometheus_port(), path: metrics_path(), tls: None }
    }
}

/// How Prometheus is served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PrometheusTls {
    /// `Disabled` where it is absent.
    pub mode: PrometheusTlsMode,
}

/// Whether Prometheus is served over TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PrometheusTlsMode {
    /// In the clear.
    #[default]
    Disabled,
    /// With the certificate that the proxy was started with.
    ProvidedTLS,
    /// With the identity of the proxy; Prometheus needs one of the mesh too.
    ActiveMTLSBackend,
}

/// A collector to which proxies send.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OtelMetricBackend {
    /// The collector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_ref: Option<OtelBackendRef>,
    /// How often metrics are sent; every `60s` where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_interval: Option<GoDuration>,
}

impl Checked for MeshMetric {
    fn check(&self, violations: &mut Violations) {
        check_top(self.target_ref.as_ref(), false, violations);
        let Some(conf) = &self.default else { return };
        if let Some(profiles) = conf.sidecar.as_ref().and_then(|sidecar| sidecar.profiles.as_ref()) {
            check_selectors("include", profiles.include.as_deref(), violations);
            check_selectors("exclude", profiles.exclude.as_deref(), violations);
        }
        for (at, application) in conf.applications.iter().flatten().enumerate() {
            let path = format!("spec.default.applications[{at}]");
            check_port(&format!("{path}.port"), application.port, violations);
            if application.address.as_deref() == Some("") {
                violations.add(format!("{path}.address"), "must not be empty");
            }
        }
        for (at, backend) in conf.backends.iter().flatten().enumerate() {
            check_backend(&format!("spec.default.backends[{at}]"), backend, violations);
        }
    }
}

fn check_selectors(list: &str, selectors: Option<&[MetricSelector]>, violations: &mut Violations) {
    for (at, selector) in selectors.unwrap_or_default().iter().enumerate() {
        let path = format!("spec.default.sidecar.profiles.{list}[{at}].match");
        if selector.r#match.is_empty() {
            violations.add(path, "must not be empty");
        } else if selector.r#type == MetricSelectorType::Regex {
            check_expression(&path, &selector.r#match, violations);
        }
    }
}

fn check_port(path: &str, port: i32, violations: &mut Violations) {
    if !(1..=i32::from(u16::MAX)).contains(&port) {
        violations.add(path, "port must be a valid (1-65535)");
    }
}

fn check_backend(path: &str, backend: &MetricBackendConf, violations: &mut Violations) {
    match (backend.r#type, &backend.prometheus, &backend.open_telemetry) {
        (MetricBackendType::Prometheus, Some(prometheus), _) => {
            check_port(&format!("{path}.prometheus.port"), prometheus.port, violations);
            if !prometheus.path.starts_with('/') {
                violations.add(format!("{path}.prometheus.path"), "must be a valid path when defined");
            }
        }
        (MetricBackendType::OpenTelemetry, _, Some(backend)) => {
            let path = format!("{path}.openTelemetry");
            check_backend_ref(&path, backend.backend_ref.as_ref(), violations);
            check_positive(&format!("{path}.refreshInterval"), backend.refresh_interval, violations);
        }
        (MetricBackendType::Prometheus, None, _) => {
            violations.add(format!("{path}.prometheus"), "must be defined");
        }
        (MetricBackendType::OpenTelemetry, _, None) => {
            violations.add(format!("{path}.openTelemetry"), "must be defined");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn problems(spec: Value) -> Vec<String> {
        let spec: MeshMetric = serde_json::from_value(spec).expect("decodes");
        let mut violations = Violations::default();
        spec.check(&mut violations);
        violations.iter().map(|one| format!("{}: {}", one.field, one.message)).collect()
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let spec = json!({
            "targetRef": {"kind": "Dataplane", "sectionName": "http"},
            "default": {
                "sidecar": {"profiles": {
                    "include": [{"type": "Regex", "match": "("}],
                    "exclude": [{"type": "Exact", "match": ""}],
                }},
                "applications": [{"port": 0}, {"port": 80, "address": ""}],
                "backends": [
                    {"type": "Prometheus"},
                    {"type": "Prometheus", "prometheus": {"port": 70000, "path": "metrics"}},
                    {"type": "OpenTelemetry"},
                    {"type": "OpenTelemetry", "openTelemetry": {"refreshInterval": "0s"}},
                    {"type": "OpenTelemetry",
                     "openTelemetry": {"backendRef": {"kind": "MeshOpenTelemetryBackend"}}},
                ],
            },
        });
        assert_eq!(
            problems(spec),
            [
                "spec.targetRef.sectionName: can only be used with inbound policies",
                "spec.default.sidecar.profiles.include[0].match: must be a valid regular expression",
                "spec.default.sidecar.profiles.exclude[0].match: must not be empty",
                "spec.default.applications[0].port: port must be a valid (1-65535)",
                "spec.default.applications[1].address: must not be empty",
                "spec.default.backends[0].prometheus: must be defined",
                "spec.default.backends[1].prometheus.port: port must be a valid (1-65535)",
                "spec.default.backends[1].prometheus.path: must be a valid path when defined",
                "spec.default.backends[2].openTelemetry: must be defined",
                "spec.default.backends[3].openTelemetry.backendRef: must be defined",
                "spec.default.backends[3].openTelemetry.refreshInterval: must be greater than zero when defined",
                "spec.default.backends[4].openTelemetry.backendRef.labels: must be set when kind is MeshOpenTelemetryBackend",
            ]
        );
    }

    #[test]
    fn defaults_appear_in_what_is_there() {
        let spec = json!({"default": {
            "applications": [{"port": 8080}],
            "backends": [{"type": "Prometheus", "prometheus": {"tls": {}}}],
        }});
        assert_eq!(problems(spec.clone()), Vec::<String>::new());
        let read: MeshMetric = serde_json::from_value(spec).expect("decodes");
        assert_eq!(
            serde_json::to_value(read).expect("serializes"),
            json!({"default": {
                "applications": [{"path": "/metrics", "port": 8080}],
                "backends": [{"type": "Prometheus", "prometheus": {
                    "port": 5670, "path": "/metrics", "tls": {"mode": "Disabled"},
                }}],
            }})
        );
    }
}
