//! What an agent tells of itself and of the Envoy it is going to run.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// The body of `POST /bootstrap`; unknown fields are those of agents that are newer.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Request {
    pub(super) mesh: String,
    pub(super) name: String,
    pub(super) proxy_type: String,
    pub(super) dataplane_token: Option<String>,
    pub(super) dataplane_resource: Option<String>,
    pub(super) version: Value,
    pub(super) ca_cert: Option<String>,
    pub(super) dynamic_metadata: Option<BTreeMap<String, String>>,
    #[serde(alias = "otelEnvInventory")]
    pub(super) otel_env: Option<Value>,
    pub(super) dns_port: Option<u32>,
    pub(super) readiness_port: Option<u32>,
    /// The peers' name for it says the opposite: true means that the probe proxy runs.
    #[serde(rename = "appProbeProxyDisabled")]
    pub(super) app_probe_proxy: bool,
    pub(super) features: Option<Vec<String>>,
    pub(super) workdir: String,
    pub(super) metrics_resources: Option<MetricsResources>,
    pub(super) system_ca_path: String,
    #[serde(rename = "dataplaneConfig", alias = "transparentProxy")]
    pub(super) transparent_proxy: Option<Value>,
    #[serde(alias = "IPv6Enabled", alias = "iPv6Enabled")]
    pub(super) ipv6_enabled: bool,
    pub(super) spire_resources: Option<SpireResources>,
}

/// Files for the metrics endpoint.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct MetricsResources {
    pub(super) cert_path: String,
    pub(super) key_path: String,
}

/// The SPIRE agent beside the proxy.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SpireResources {
    pub(super) socket_path: String,
}
