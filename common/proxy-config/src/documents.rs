//! Documents for the program beside Envoy, as it reads them: their exact JSON. It asks the local listener
//! `system_dynamicconfig` (socket `kuma-mesh-metric-config.sock` in the work folder) for `/dns`, `/meshmetric` and
//! `/otel`, with `If-None-Match` naming the `Etag` that it holds: 200 with a body, 304 when it holds the newest one,
//! 404 when there is nothing to do (what it did before ends).
//!
//! `/meshmetric` says what to collect and for whom. `null` lists are empty ones:
//!
//! ```json
//! {"observability": {"metrics": {
//!   "applications": [{"name": "web", "path": "/metrics", "port": 8080, "address": "127.0.0.1"}],
//!   "backends": [
//!     {"type": "Prometheus", "name": "client-id or null"},
//!     {"type": "OpenTelemetry", "name": "collector",
//!      "openTelemetry": {"endpoint": "/var/run/dp/kuma-otel-collector.sock", "refreshInterval": "1m0s"}}
//!   ],
//!   "sidecar": {
//!     "profiles": {
//!       "appendProfiles": [{"name": "All|Basic|None"}],
//!       "exclude": [{"type": "Prefix|Regex|Exact|Contains", "match": "envoy_cluster_"}],
//!       "include": [{"type": "Exact", "match": "envoy_server_live"}]
//!     },
//!     "includeUnused": true
//!   },
//!   "extraLabels": {"kuma.proxy_role": "sidecar", "kuma.workload": "web", "mesh": "default", "zone": "east"}
//! }}}
//! ```
//!
//! `sidecar` is `null` where policies say nothing, and each of its fields may be missing: then all metrics of the
//! profile `All` that were used are collected. `include` wins over `exclude`, and both over the profiles. An
//! application's `name` may be `null`, its `address` empty: the address of the workload is meant. Scrapes of
//! Prometheus arrive on `kuma-mh-<dataplane>-<mesh>.sock` at `/meshmetric`. A backend of OpenTelemetry stands in this
//! document only for a program without the feature `feature-otel-via-kuma-dp`: its endpoint is a socket on which
//! Envoy takes OTLP. With the feature it is in `/otel` with the signal `metrics`.
//!
//! `/otel` says on which sockets to take signals from Envoy, and where to send them. Booleans that are false, empty
//! texts, empty lists and absent objects are left out:
//!
//! ```json
//! {"backends": [{
//!   "name": "collector",
//!   "socketPath": "/var/run/dp/kuma-otel-collector.sock",
//!   "endpoint": "collector.example:4317",
//!   "useHTTP": true, "useHTTPS": true, "path": "/base",
//!   "envPolicy": {"mode": "Disabled|Optional|Required", "precedence": "EnvFirst|ExplicitFirst",
//!                 "allowSignalOverrides": true},
//!   "traces": {"enabled": true, "envInputPresent": true, "overrideKinds": ["endpoint"],
//!              "missingFields": ["endpoint"], "blockedReasons": ["RequiredEnvMissing"]},
//!   "logs": {"enabled": true},
//!   "metrics": {"enabled": true, "refreshInterval": "1m0s"}
//! }]}
//! ```
//!
//! `endpoint` is `host:port`, or `:port` where the host is found out where the proxy runs (`HOST_IP`, else
//! 127.0.0.1). Without `useHTTP` it takes OTLP over gRPC; with it OTLP over HTTP at `<path>/v1/traces`, `/v1/logs` and
//! `/v1/metrics`. A signal is exported only where its object is there and `enabled`; `metrics` are those that
//! `/meshmetric` says, sent every `refreshInterval`.

use std::collections::BTreeMap;

use model::duration::GoDuration;
use model::spec::SidecarMetrics;
use serde::{Deserialize, Serialize};

/// The document of `/meshmetric`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MetricDocument {
    /// Everything that is observed.
    pub observability: Observability,
}

/// Everything that is observed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Observability {
    /// What to collect and for whom.
    pub metrics: Metrics,
}

/// What to collect and for whom.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metrics {
    /// Applications to scrape.
    pub applications: Option<Vec<Application>>,
    /// Who takes the metrics.
    pub backends: Option<Vec<MetricBackend>>,
    /// Which metrics of Envoy.
    pub sidecar: Option<SidecarMetrics>,
    /// Labels that every metric gets.
    pub extra_labels: BTreeMap<String, String>,
}

/// An application to scrape.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Application {
    /// Its name.
    pub name: Option<String>,
    /// Path of its metrics.
    pub path: String,
    /// Port of its metrics.
    pub port: u32,
    /// Address; empty means that of the workload.
    pub address: String,
}

/// Who takes the metrics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MetricBackend {
    /// `Prometheus` or `OpenTelemetry`.
    pub r#type: String,
    /// Its name.
    pub name: Option<String>,
    /// Where metrics are pushed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_telemetry: Option<MetricPush>,
}

/// Where metrics are pushed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MetricPush {
    /// Path of a socket that takes OTLP.
    pub endpoint: String,
    /// How often.
    pub refresh_interval: GoDuration,
}

/// The document of `/otel`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OtelDocument {
    /// Collectors.
    pub backends: Vec<OtelBackend>,
}

/// A collector and the signals that go to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OtelBackend {
    /// Name of the MeshOpenTelemetryBackend.
    pub name: String,
    /// Socket on which Envoy hands signals over.
    pub socket_path: String,
    /// `host:port`; the host may be empty.
    pub endpoint: String,
    /// OTLP over HTTP instead of gRPC.
    #[serde(rename = "useHTTP", skip_serializing_if = "is_false")]
    pub use_http: bool,
    /// With TLS.
    #[serde(rename = "useHTTPS", skip_serializing_if = "is_false")]
    pub use_https: bool,
    /// What stands before the paths of signals.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// What the environment of the proxy may change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_policy: Option<model::spec::OtelEnv>,
    /// Spans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traces: Option<OtelSignal>,
    /// Access logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logs: Option<OtelSignal>,
    /// Metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<OtelSignal>,
}

/// How a signal is exported.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OtelSignal {
    /// Whether it is.
    pub enabled: bool,
    /// Whether the environment of the proxy says anything.
    #[serde(skip_serializing_if = "is_false")]
    pub env_input_present: bool,
    /// What the environment says of this signal alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub override_kinds: Vec<String>,
    /// What the environment should say and does not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing_fields: Vec<String>,
    /// Why something of it is not done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blocked_reasons: Vec<String>,
    /// How often metrics are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_interval: Option<GoDuration>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_is_absent_has_its_form() {
        let empty = serde_json::to_string(&MetricDocument::default()).expect("serializes");
        let wanted = r#"{"observability":{"metrics":{"applications":null,"backends":null,"sidecar":null,"extraLabels":{}}}}"#;
        assert_eq!(empty, wanted);
        let signal = OtelSignal { enabled: true, ..OtelSignal::default() };
        let backend = OtelBackend { name: "a".into(), logs: Some(signal), ..OtelBackend::default() };
        let written = serde_json::to_value(OtelDocument { backends: vec![backend] }).expect("serializes");
        let wanted = json!({"backends": [
            {"name": "a", "socketPath": "", "endpoint": "", "logs": {"enabled": true}}
        ]});
        assert_eq!(written, wanted);
    }

    #[test]
    fn documents_are_read_back() {
        let written: Value = json!({"backends": [{
            "name": "a", "socketPath": "/s", "endpoint": ":4318", "useHTTP": true, "path": "/x",
            "envPolicy": {"mode": "Required", "precedence": "EnvFirst", "allowSignalOverrides": false},
            "metrics": {"enabled": false, "missingFields": ["endpoint"], "blockedReasons": ["RequiredEnvMissing"],
                        "refreshInterval": "1m0s"},
        }]});
        let read: OtelDocument = serde_json::from_value(written.clone()).expect("reads");
        assert_eq!(serde_json::to_value(read).expect("serializes"), written);
    }
}
