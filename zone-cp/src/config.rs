//! The configuration file of a zone control plane.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use anyhow::Context;
use control_api::ApiConfig;
use control_api::defaults::DefaultsConfig;
use control_plane::{DiagnosticsConfig, StoreConfig, TlsSection};
use runtime::config::{HumanDuration, Secret};
use runtime::telemetry::TelemetryConfig;
use serde::{Deserialize, Serialize};

use crate::controllers::{DEFAULT_GRACE, Range, VipRanges};

/// The configuration of a zone control plane.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Folder of the embedded store, the TLS identity and the admin token. Without it: `/var/lib/isthmus/zone-cp`
    /// for root, `~/.local/state/isthmus/zone-cp` for others.
    pub data_dir: Option<PathBuf>,
    /// Where resources are kept.
    pub store: StoreConfig,
    /// The zone and its global.
    pub zone: ZoneConfig,
    /// The REST API.
    pub api: ApiConfig,
    /// Where proxies connect.
    pub dp_server: DpServerSection,
    /// Where virtual addresses come from.
    pub ipam: IpamSection,
    /// What becomes of services without proxies.
    pub mesh_service: MeshServiceSection,
    /// Metrics, health and readiness.
    pub diagnostics: DiagnosticsConfig,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
    /// What is created on the first start.
    pub defaults: DefaultsConfig,
}

/// The section `zone`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ZoneConfig {
    /// The zone's name: lower-case letters, digits and `-`.
    pub name: String,
    /// The global to join, `grpcs://host:5685`; empty for a zone that stands alone.
    pub global_address: String,
    /// PEM file of the authority of the global's certificate.
    pub global_ca_file: Option<PathBuf>,
    /// SHA-256 of that authority's certificate, as the global prints it.
    pub global_ca_fingerprint: String,
    /// Do not check the global's certificate. The token may then be sent to an impostor.
    pub global_skip_verify: bool,
    /// File with the zone token.
    pub token_file: Option<PathBuf>,
    /// The zone token itself.
    pub token: Secret,
    /// How much of a kind the global may remove within a minute without a confirmation in the zone.
    pub removal_guard: kds::Limits,
}

impl Default for ZoneConfig {
    fn default() -> Self {
        Self {
            name: "default".into(),
            global_address: String::new(),
            global_ca_file: None,
            global_ca_fingerprint: String::new(),
            global_skip_verify: false,
            token_file: None,
            token: Secret::default(),
            removal_guard: kds::Limits::default(),
        }
    }
}

/// How proxies prove who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyAuth {
    /// By a dataplane token.
    #[default]
    Token,
    /// Not at all: whoever reaches the port can be any proxy.
    None,
}

/// The section `dpServer`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct DpServerSection {
    /// Where to listen.
    pub address: IpAddr,
    /// The port; 0 for any free one.
    pub port: u16,
    /// The port's certificate.
    pub tls: TlsSection,
    /// How proxies prove who they are.
    pub auth: ProxyAuth,
    /// Name that Envoys are to dial, where it is not the one their agent asked by.
    pub public_host: Option<String>,
    /// Port that Envoys are to dial, where it is not the one listened on.
    pub public_port: Option<u16>,
    /// Port of Envoy's admin endpoint where it is not served on a socket.
    pub admin_port: u16,
    /// How long the Dataplane of a proxy that left is kept.
    pub deregistration_delay: HumanDuration,
    /// Whether Envoys probe their applications and report.
    pub health_enabled: bool,
    /// How often they report.
    pub health_interval: HumanDuration,
}

impl Default for DpServerSection {
    fn default() -> Self {
        Self {
            address: Ipv4Addr::UNSPECIFIED.into(),
            port: 5678,
            tls: TlsSection::default(),
            auth: ProxyAuth::default(),
            public_host: None,
            public_port: None,
            admin_port: 9901,
            deregistration_delay: HumanDuration::from_secs(10),
            health_enabled: true,
            health_interval: HumanDuration::from_secs(5),
        }
    }
}

/// The section `ipam`: ranges of virtual addresses, `address/length`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct IpamSection {
    /// Of MeshServices.
    pub mesh_service: CidrSection,
    /// Of MeshExternalServices.
    pub mesh_external_service: CidrSection,
    /// Of MeshMultiZoneServices.
    pub mesh_multi_zone_service: CidrSection,
}

/// A range of addresses.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct CidrSection {
    /// The range.
    pub cidr: String,
}

impl Default for IpamSection {
    fn default() -> Self {
        let ranges = VipRanges::default();
        let section = |range: Range| CidrSection { cidr: range.to_string() };
        Self {
            mesh_service: section(ranges.mesh_service),
            mesh_external_service: section(ranges.mesh_external_service),
            mesh_multi_zone_service: section(ranges.mesh_multi_zone_service),
        }
    }
}

impl IpamSection {
    /// The ranges.
    ///
    /// # Errors
    /// The key whose value is no range.
    pub fn ranges(&self) -> anyhow::Result<VipRanges> {
        let range = |key: &str, section: &CidrSection| {
            let text = &section.cidr;
            Range::parse(text)
                .with_context(|| format!("ipam.{key}.cidr: {text:?} is no range: expected a.b.c.d/n"))
        };
        Ok(VipRanges {
            mesh_service: range("meshService", &self.mesh_service)?,
            mesh_external_service: range("meshExternalService", &self.mesh_external_service)?,
            mesh_multi_zone_service: range("meshMultiZoneService", &self.mesh_multi_zone_service)?,
        })
    }
}

/// The section `meshService`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct MeshServiceSection {
    /// How long a generated MeshService whose last proxy is gone is kept.
    pub deletion_grace_period: HumanDuration,
}

impl Default for MeshServiceSection {
    fn default() -> Self {
        Self { deletion_grace_period: HumanDuration::from_secs(DEFAULT_GRACE.as_secs()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_ranges_are_ranges_and_another_is_named_by_its_key() {
        let ranges = IpamSection::default().ranges().unwrap();
        assert_eq!(ranges.mesh_service.to_string(), "241.0.0.0/8");
        let bad = IpamSection { mesh_service: CidrSection { cidr: "241/8".into() }, ..Default::default() };
        assert!(bad.ranges().unwrap_err().to_string().starts_with("ipam.meshService.cidr"));
    }
}
