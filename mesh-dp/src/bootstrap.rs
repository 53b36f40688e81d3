//! The bootstrap exchange: what mesh-dp tells the control plane, and what comes back.

mod client;

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

pub(crate) use client::{Client, FetchError};

/// The body of `POST /bootstrap`. Fields that are left out are those that do not apply.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BootstrapRequest {
    pub(crate) mesh: String,
    pub(crate) name: String,
    pub(crate) proxy_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dataplane_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dataplane_token_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dataplane_resource: Option<String>,
    pub(crate) version: Version,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca_cert: Option<String>,
    pub(crate) dynamic_metadata: BTreeMap<String, String>,
    /// Which variables of OpenTelemetry are there, without their values.
    pub(crate) otel_env: serde_json::Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dns_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) readiness_port: Option<u16>,
    pub(crate) operating_system: &'static str,
    pub(crate) features: Vec<&'static str>,
    pub(crate) workdir: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) system_ca_path: Option<String>,
    pub(crate) ipv6_enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metrics_resources: Option<MetricsResources>,
    /// Which packets are brought to Envoy, and to which ports.
    #[serde(rename = "dataplaneConfig", skip_serializing_if = "Option::is_none")]
    pub(crate) transparent_proxy: Option<serde_json::Value>,
}

/// With what Envoy serves metrics over TLS.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MetricsResources {
    pub(crate) cert_path: String,
    pub(crate) key_path: String,
}

/// Which programs run the proxy.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Version {
    pub(crate) kuma_dp: AgentVersion,
    pub(crate) envoy: EnvoyVersion,
}

/// This program. The protocol's name for it is that of the program it stands in for.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AgentVersion {
    pub(crate) version: String,
    pub(crate) git_tag: String,
    pub(crate) git_commit: String,
    pub(crate) build_date: String,
}

/// Envoy, as `envoy --version` tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EnvoyVersion {
    pub(crate) version: String,
    pub(crate) build: String,
    pub(crate) kuma_dp_compatible: bool,
}

/// What this program can do, for the control plane to rely on.
pub(crate) fn features(bind_outbounds: bool, is_transparent: bool) -> Vec<&'static str> {
    let mut features = vec![
        "feature-tcp-accesslog-via-named-pipe",
        "feature-strict-inbound-ports",
        "feature-reuse-port",
        "feature-otel-via-kuma-dp",
    ];
    if bind_outbounds {
        features.push("feature-bind-outbounds");
    }
    if is_transparent {
        features.push("feature-transparent-proxy-in-dataplane-metadata");
    }
    features
}

/// Envoy's bootstrap (YAML or JSON) in an answer to a request that accepts JSON.
fn envoy_bootstrap(body: &[u8]) -> Result<Vec<u8>, String> {
    #[derive(Deserialize)]
    struct Body {
        bootstrap: String,
    }
    let body: Body = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let bootstrap = STANDARD.decode(body.bootstrap).map_err(|error| error.to_string())?;
    if bootstrap.is_empty() { Err("the bootstrap is empty".to_owned()) } else { Ok(bootstrap) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_has_the_names_of_the_protocol() {
        let request = BootstrapRequest {
            mesh: "m".into(),
            name: "n".into(),
            proxy_type: "dataplane",
            dataplane_token: Some("t".into()),
            dataplane_token_path: None,
            dataplane_resource: None,
            version: Version {
                kuma_dp: AgentVersion { version: "1".into(), ..AgentVersion::default() },
                envoy: EnvoyVersion { version: "1.40.0".into(), build: "b".into(), kuma_dp_compatible: true },
            },
            ca_cert: None,
            dynamic_metadata: BTreeMap::new(),
            otel_env: json!({"shared": {}}),
            dns_port: Some(53),
            readiness_port: None,
            operating_system: "linux",
            features: features(true, false),
            workdir: "/w".into(),
            system_ca_path: None,
            ipv6_enabled: true,
            metrics_resources: Some(MetricsResources { cert_path: "/c".into(), key_path: "/k".into() }),
            transparent_proxy: None,
        };
        let expected = json!({
            "mesh": "m", "name": "n", "proxyType": "dataplane", "dataplaneToken": "t",
            "version": {
                "kumaDp": {"version": "1", "gitTag": "", "gitCommit": "", "buildDate": ""},
                "envoy": {"version": "1.40.0", "build": "b", "kumaDpCompatible": true}
            },
            "dynamicMetadata": {}, "otelEnv": {"shared": {}}, "dnsPort": 53, "operatingSystem": "linux",
            "features": [
                "feature-tcp-accesslog-via-named-pipe", "feature-strict-inbound-ports",
                "feature-reuse-port", "feature-otel-via-kuma-dp", "feature-bind-outbounds"
            ],
            "workdir": "/w", "ipv6Enabled": true, "metricsResources": {"certPath": "/c", "keyPath": "/k"}
        });
        assert_eq!(serde_json::to_value(&request).unwrap(), expected);
    }

    #[test]
    fn the_bootstrap_is_inside_base64() {
        assert_eq!(envoy_bootstrap(br#"{"bootstrap": "bm9kZToge30="}"#).unwrap(), b"node: {}");
        for bad in [&b"node: {}"[..], b"{}", br#"{"bootstrap": "%"}"#, br#"{"bootstrap": ""}"#] {
            assert!(envoy_bootstrap(bad).is_err());
        }
    }
}
