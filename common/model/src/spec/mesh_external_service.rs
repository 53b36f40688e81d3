//! MeshExternalService: a destination outside the mesh, reached through a zone egress.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Checked;
use super::checks::{check_data_source, check_port_number, is_host};
use super::common::{Address, DataSource, HostnameGeneratorStatus, Protocol, Vip};
use super::mesh_service::tcp;
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
    #[schemars(extend("enum" = ["HostnameGenerator"]))]
    pub r#type: String,
    /// The port clients use.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u32,
    /// `tcp`, `http`, `http2` or `grpc`.
    #[schemars(extend("enum" = ["tcp", "grpc", "http", "http2"]))]
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
    #[schemars(range(min = 1, max = 65535))]
    pub port: u32,
    /// Lower is preferred.
    #[schemars(range(max = 128))]
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

/// What clients can speak to something outside the mesh.
const PROTOCOLS: [&str; 4] = ["tcp", "grpc", "http", "http2"];
/// Versions of TLS, older first; `TLSAuto` leaves it to Envoy.
const TLS_VERSIONS: [&str; 5] = ["TLSAuto", "TLS10", "TLS11", "TLS12", "TLS13"];
const MODES: [&str; 4] = ["Secured", "SkipSAN", "SkipCA", "SkipAll"];
const SAN_TYPES: [&str; 2] = ["Exact", "Prefix"];
/// Lowest priority of an endpoint: as many as Envoy knows.
const MAX_PRIORITY: u32 = 128;

impl Checked for MeshExternalServiceStatus {}

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
        check_port_number("spec.match.port", self.r#match.port, violations);
        check_one_of("spec.match.protocol", &self.r#match.protocol, &PROTOCOLS, violations);
        for (at, endpoint) in self.endpoints.iter().flatten().enumerate() {
            check_endpoint(&format!("spec.endpoints[{at}]"), endpoint, violations);
        }
        if let Some(tls) = &self.tls {
            check_tls(tls, violations);
        }
        if let Some(extension) = &self.extension {
            check_extension(extension, violations);
        }
    }
}

fn check_one_of(path: &str, said: &str, allowed: &[&str], violations: &mut Violations) {
    if !allowed.contains(&said) {
        violations.add(path, format!("{said:?} must be one of {allowed:?}"));
    }
}

fn check_endpoint(path: &str, endpoint: &ExternalEndpoint, violations: &mut Violations) {
    let address = endpoint.address.as_str();
    let is_socket = address.strip_prefix("unix://").is_some_and(|path| path.starts_with('/'));
    if address.is_empty() {
        violations.add(format!("{path}.address"), "must not be empty");
    } else if !is_socket && !is_host(address) {
        violations.add(
            format!("{path}.address"),
            "must be an IP address, a DNS name or a path of a socket that starts with unix:///",
        );
    }
    // A socket needs no port: zero counts as left out.
    if !is_socket || endpoint.port != 0 {
        check_port_number(&format!("{path}.port"), endpoint.port, violations);
    }
    if endpoint.priority.is_some_and(|priority| priority > MAX_PRIORITY) {
        violations.add(format!("{path}.priority"), format!("must be in inclusive range [0, {MAX_PRIORITY}]"));
    }
}

fn check_tls(tls: &ExternalTls, violations: &mut Violations) {
    if let Some(TlsVersions { min, max }) = &tls.version {
        check_one_of("spec.tls.version.min", min, &TLS_VERSIONS, violations);
        check_one_of("spec.tls.version.max", max, &TLS_VERSIONS, violations);
        let rank =
            |version: &str| TLS_VERSIONS.iter().position(|known| *known == version).filter(|at| *at > 0);
        if let (Some(min), Some(max)) = (rank(min), rank(max))
            && min > max
        {
            violations.add("spec.tls.version.min", "must not be greater than max");
        }
    }
    if let Some(verification) = &tls.verification {
        check_verification(verification, violations);
    }
}

fn check_verification(said: &ExternalVerification, violations: &mut Violations) {
    const PATH: &str = "spec.tls.verification";
    if let Some(mode) = &said.mode {
        check_one_of(&format!("{PATH}.mode"), mode, &MODES, violations);
    }
    if said
        .server_name
        .as_ref()
        .is_some_and(|name| !crate::validation::is_dns_name(&name.to_ascii_lowercase()))
    {
        violations.add(format!("{PATH}.serverName"), "must be a valid DNS name");
    }
    for (at, name) in said.subject_alt_names.iter().enumerate() {
        let path = format!("{PATH}.subjectAltNames[{at}]");
        // Without a type it is exact.
        if !name.r#type.is_empty() {
            check_one_of(&format!("{path}.type"), &name.r#type, &SAN_TYPES, violations);
        }
        if name.value.is_empty() {
            violations.add(format!("{path}.value"), "must not be empty");
        }
    }
    let sources =
        [("caCert", &said.ca_cert), ("clientCert", &said.client_cert), ("clientKey", &said.client_key)];
    for (field, source) in sources {
        if let Some(source) = source {
            check_data_source(&format!("{PATH}.{field}"), source, violations);
        }
    }
    match (&said.client_cert, &said.client_key) {
        (Some(_), None) => {
            violations.add(format!("{PATH}.clientKey"), "must be defined when clientCert is defined");
        }
        (None, Some(_)) => {
            violations.add(format!("{PATH}.clientCert"), "must be defined when clientKey is defined");
        }
        _ => {}
    }
}

/// Checks that an extension says which one it is.
pub(super) fn check_extension(extension: &serde_json::Value, violations: &mut Violations) {
    if extension.get("type").and_then(serde_json::Value::as_str).is_none_or(str::is_empty) {
        violations.add("spec.extension.type", "must not be empty");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn fields(spec: Value) -> Vec<String> {
        let spec: MeshExternalService = serde_json::from_value(spec).expect("the test's own document");
        let mut violations = Violations::default();
        spec.check(&mut violations);
        violations.iter().map(|violation| violation.field.clone()).collect()
    }

    #[test]
    fn a_sound_service_has_no_violation() {
        let source = json!({"type": "Secret", "secretRef": {"kind": "Secret", "name": "a"}});
        assert!(
            fields(json!({
                "match": {"port": 443, "protocol": "http"},
                "endpoints": [
                    {"address": "Example.com", "port": 443, "priority": 128},
                    {"address": "2001:db8::1", "port": 443},
                    {"address": "unix:///run/a.sock"},
                ],
                "tls": {
                    "version": {"min": "TLS12", "max": "TLSAuto"},
                    "verification": {
                        "mode": "SkipCA", "serverName": "example.com", "caCert": source,
                        "subjectAltNames": [{"type": "Prefix", "value": "a"}],
                        "clientCert": source, "clientKey": source,
                    },
                },
            }))
            .is_empty()
        );
    }

    #[test]
    fn every_violation_is_found_at_once() {
        assert_eq!(
            fields(json!({
                "match": {"type": "Other", "port": 65536, "protocol": "mysql"},
                "endpoints": [
                    {"address": "", "port": 0},
                    {"address": "a b", "port": 1, "priority": 129},
                    {"address": "unix://relative"},
                ],
                "extension": {"type": ""},
                "tls": {
                    "version": {"min": "TLS13", "max": "TLS12"},
                    "verification": {
                        "mode": "Skip", "serverName": "a_b", "subjectAltNames": [{"type": "Regex", "value": ""}],
                        "caCert": {"type": "File"}, "clientCert": {"type": "Nowhere"},
                    },
                },
            })),
            [
                "spec.match.type",
                "spec.match.port",
                "spec.match.protocol",
                "spec.endpoints[0].address",
                "spec.endpoints[0].port",
                "spec.endpoints[1].address",
                "spec.endpoints[1].priority",
                "spec.endpoints[2].address",
                "spec.endpoints[2].port",
                "spec.tls.version.min",
                "spec.tls.verification.mode",
                "spec.tls.verification.serverName",
                "spec.tls.verification.subjectAltNames[0].type",
                "spec.tls.verification.subjectAltNames[0].value",
                "spec.tls.verification.caCert.file",
                "spec.tls.verification.clientCert.type",
                "spec.tls.verification.clientKey",
                "spec.extension.type",
            ]
        );
    }
}
