//! MeshExternalService: a destination outside the mesh, reached through a zone egress.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Checked;
use super::common::{Address, DataSource, HostnameGeneratorStatus, Protocol, Vip};
use super::mesh_service::{check_port, tcp};
use crate::Violations;

/// A destination outside the mesh.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshExternalService {
    /// What traffic is meant for it.
    pub r#match: ExternalMatch,
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Vec<ExternalEndpoint>>,
    /// TLS towards it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ExternalTls>,
    /// Replaces the built-in handling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extension: Option<serde_json::Value>,
}

/// What traffic is meant for a MeshExternalService.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ExternalMatch {
    /// Always `HostnameGenerator`.
    pub r#type: String,
    /// The port clients use.
    pub port: u32,
    /// `tcp`, `http`, `http2` or `grpc`.
    pub protocol: String,
}

impl Default for ExternalMatch {
    fn default() -> Self {
        Self { r#type: "HostnameGenerator".into(), port: 0, protocol: tcp() }
    }
}

impl ExternalMatch {
    /// Its protocol; unknown ones are TCP.
    pub fn protocol(&self) -> Protocol {
        Protocol::parse(&self.protocol).unwrap_or_default()
    }
}

/// An address of a MeshExternalService.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ExternalEndpoint {
    /// IP, DNS name or `unix:` path.
    pub address: String,
    /// Port.
    pub port: u32,
    /// Lower is preferred.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
}

/// TLS towards a MeshExternalService.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ExternalTls {
    /// Whether the egress originates TLS.
    pub enabled: bool,
    /// Versions to offer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<TlsVersions>,
    /// Whether the server may renegotiate.
    pub allow_renegotiation: bool,
    /// How the server is verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification: Option<ExternalVerification>,
}

/// Range of TLS versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TlsVersions {
    /// Lowest: `TLSAuto`, `TLS10` to `TLS13`.
    pub min: String,
    /// Highest.
    pub max: String,
}

impl Default for TlsVersions {
    fn default() -> Self {
        Self { min: "TLSAuto".into(), max: "TLSAuto".into() }
    }
}

/// How an external server is verified.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ExternalVerification {
    /// `Secured`, `SkipSAN`, `SkipCA` or `SkipAll`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Server name to send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Names the certificate may carry.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<SanMatch>,
    /// Authority that signs the server's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_cert: Option<DataSource>,
    /// Certificate to present.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_cert: Option<DataSource>,
    /// Its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key: Option<DataSource>,
}

/// A name a certificate may carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SanMatch {
    /// `Exact` or `Prefix`.
    #[serde(default)]
    pub r#type: String,
    /// The name.
    pub value: String,
}

/// Observed state of a MeshExternalService in this zone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshExternalServiceStatus {
    /// Its virtual address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vip: Option<Vip>,
    /// Its hostnames.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
    /// What became of each hostname generator.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hostname_generators: Vec<HostnameGeneratorStatus>,
}

impl Checked for MeshExternalService {
    fn check(&self, violations: &mut Violations) {
        if self.r#match.r#type != "HostnameGenerator" {
            violations.add(
                "spec.match.type",
                format!(
                    "unrecognized type '{}' - only 'HostnameGenerator' is supported",
                    self.r#match.r#type
                ),
            );
        }
        check_port("spec.match", self.r#match.port, &self.r#match.protocol, violations);
        for (at, endpoint) in self.endpoints.iter().flatten().enumerate() {
            if endpoint.address.is_empty() {
                violations.add(format!("spec.endpoints[{at}].address"), "must not be empty");
            }
        }
    }
}
