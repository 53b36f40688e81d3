//! MeshService: a destination inside the mesh.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Checked;
use super::common::{Address, DataplaneProxies, HostnameGeneratorStatus, LabelSelector, Protocol, Vip};
use crate::Violations;

/// A destination: the proxies it selects, and the ports they serve.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshService {
    /// Whether a proxy is ready to serve all ports.
    pub state: ServiceState,
    /// Which Dataplanes serve it.
    pub selector: ServiceSelector,
    /// The ports it offers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ServicePort>,
    /// Identities its proxies may present.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub identities: Vec<ServiceIdentity>,
}

/// Whether a service can be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceState {
    /// At least one proxy has all ports ready.
    Available,
    /// None has.
    #[default]
    Unavailable,
}

/// Which Dataplanes serve a MeshService: one of its fields is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSelector {
    /// One Dataplane by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataplane_ref: Option<DataplaneRef>,
    /// Dataplanes by labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataplane_labels: Option<LabelSelector>,
}

/// One Dataplane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DataplaneRef {
    /// Its name.
    pub name: String,
}

/// A port of a MeshService.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Name of the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The port clients use.
    pub port: u32,
    /// The inbound that serves it, by port or by name; the same port where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_port: Option<TargetPort>,
    /// `tcp`, `http`, `http2` or `grpc`.
    #[serde(default = "tcp")]
    pub app_protocol: String,
}

pub(super) fn tcp() -> String {
    "tcp".into()
}

impl ServicePort {
    /// The section of the service's identifier that names this port.
    pub fn section(&self) -> String {
        self.name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| self.port.to_string())
    }

    /// Its protocol; unknown ones are TCP.
    pub fn protocol(&self) -> Protocol {
        Protocol::parse(&self.app_protocol).unwrap_or_default()
    }

    /// The inbound that serves it.
    pub fn target(&self) -> TargetPort {
        self.target_port.clone().unwrap_or(TargetPort::Number(self.port))
    }
}

/// An inbound, by number or by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TargetPort {
    /// By its port.
    Number(u32),
    /// By its name.
    Name(String),
}

impl fmt::Display for TargetPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(port) => write!(f, "{port}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// An identity of a service's proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct ServiceIdentity {
    /// `SpiffeID`; other types are of older peers and are not used.
    pub r#type: String,
    /// The identity.
    pub value: String,
}

impl ServiceIdentity {
    /// The type of SPIFFE identities.
    pub const SPIFFE: &'static str = "SpiffeID";
}

/// Observed state of a MeshService in this zone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshServiceStatus {
    /// Its hostnames.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
    /// Its virtual addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vips: Vec<Vip>,
    /// Whether its proxies accept mutual TLS.
    pub tls: ServiceTls,
    /// What became of each hostname generator.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hostname_generators: Vec<HostnameGeneratorStatus>,
    /// Its proxies.
    pub dataplane_proxies: DataplaneProxies,
}

/// Whether a service's proxies accept mutual TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ServiceTls {
    /// `Ready` once all of them do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<TlsStatus>,
}

/// Whether mutual TLS can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsStatus {
    /// All proxies have an identity that is trusted.
    Ready,
    /// Some have not.
    NotReady,
}

impl Checked for MeshServiceStatus {}

impl Checked for MeshService {
    fn check(&self, violations: &mut Violations) {
        for (at, port) in self.ports.iter().enumerate() {
            check_port(&format!("spec.ports[{at}]"), port.port, &port.app_protocol, violations);
        }
        if self.selector.dataplane_ref.is_some() && self.selector.dataplane_labels.is_some() {
            violations.add("spec.selector", "must have only one type defined: dataplaneLabels, dataplaneRef");
        }
    }
}

/// Checks a service port's number and protocol.
pub(super) fn check_port(path: &str, port: u32, protocol: &str, violations: &mut Violations) {
    if !(1..=65535).contains(&port) {
        violations.add(format!("{path}.port"), "port must be a valid (1-65535)");
    }
    if Protocol::parse(protocol).is_none() {
        violations.add(
            format!("{path}.appProtocol"),
            format!(
                "{protocol:?} must be one of [\"tcp\", \"http\", \"http2\", \"grpc\", \"tls\", \"mysql\"]"
            ),
        );
    }
}
