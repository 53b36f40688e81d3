//! The configuration file of the global control plane.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use control_api::ApiConfig;
use control_api::defaults::DefaultsConfig;
use control_plane::{DiagnosticsConfig, StoreConfig, TlsSection};
use runtime::telemetry::TelemetryConfig;
use serde::{Deserialize, Serialize};

use crate::kds::ZoneAuth;

/// The configuration of the global control plane.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Folder of the embedded store, the TLS identity and the admin token. Without it: `/var/lib/isthmus/global-cp`
    /// for root, `~/.local/state/isthmus/global-cp` for others.
    pub data_dir: Option<PathBuf>,
    /// Where resources are kept.
    pub store: StoreConfig,
    /// The REST API.
    pub api: ApiConfig,
    /// Where zones connect.
    pub kds: KdsConfig,
    /// Metrics, health and readiness.
    pub diagnostics: DiagnosticsConfig,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
    /// What is created on the first start.
    pub defaults: DefaultsConfig,
}

/// The section `kds`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct KdsConfig {
    /// Where to listen.
    pub address: IpAddr,
    /// The port; 0 for any free one.
    pub port: u16,
    /// How zones prove who they are.
    pub zone_auth: ZoneAuth,
    /// The port's certificate.
    pub tls: TlsSection,
    /// How much of what a zone has of a kind it may remove within a minute without a confirmation.
    pub removal_guard: kds::Limits,
}

impl Default for KdsConfig {
    fn default() -> Self {
        Self {
            address: Ipv4Addr::UNSPECIFIED.into(),
            port: 5685,
            zone_auth: ZoneAuth::default(),
            tls: TlsSection::default(),
            removal_guard: kds::Limits::default(),
        }
    }
}
