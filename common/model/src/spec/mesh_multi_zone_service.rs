//! MeshMultiZoneService: one destination over the MeshServices of several zones.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Checked;
use super::common::{Address, Condition, HostnameGeneratorStatus, LabelSelector, Protocol, Vip};
use super::mesh_service::{check_port, tcp};
use crate::Violations;

/// One destination over the MeshServices it selects, wherever they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshMultiZoneService {
    /// Which MeshServices.
    pub selector: MultiZoneSelector,
    /// The ports it offers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<MultiZonePort>,
}

/// Which MeshServices make up a MeshMultiZoneService.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MultiZoneSelector {
    /// By labels.
    pub mesh_service: LabelSelector,
}

/// A port of a MeshMultiZoneService.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MultiZonePort {
    /// Name of the port; MeshServices' ports are matched by it, else by number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The port clients use.
    pub port: u32,
    /// `tcp`, `http`, `http2` or `grpc`.
    #[serde(default = "tcp")]
    pub app_protocol: String,
}

impl MultiZonePort {
    /// The section of the service's identifier that names this port.
    pub fn section(&self) -> String {
        self.name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| self.port.to_string())
    }

    /// Its protocol; unknown ones are TCP.
    pub fn protocol(&self) -> Protocol {
        Protocol::parse(&self.app_protocol).unwrap_or_default()
    }
}

/// A MeshService that makes up a MeshMultiZoneService.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MatchedMeshService {
    /// Display name.
    pub name: String,
    /// Kubernetes namespace.
    pub namespace: String,
    /// Zone.
    pub zone: String,
    /// Mesh.
    pub mesh: String,
}

/// Observed state of a MeshMultiZoneService in this zone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshMultiZoneServiceStatus {
    /// Its hostnames.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
    /// Its virtual addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vips: Vec<Vip>,
    /// The services it is made of, ordered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mesh_services: Vec<MatchedMeshService>,
    /// What became of each hostname generator.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hostname_generators: Vec<HostnameGeneratorStatus>,
    /// Whether any service matched.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl Checked for MeshMultiZoneServiceStatus {}

impl Checked for MeshMultiZoneService {
    fn check(&self, violations: &mut Violations) {
        if self.selector.mesh_service.match_labels.is_empty() {
            violations.add("spec.selector.meshService.matchLabels", "cannot be empty");
        }
        if self.ports.is_empty() {
            violations.add("spec.ports", "cannot be empty");
        }
        for (at, port) in self.ports.iter().enumerate() {
            let path = format!("spec.ports[{at}]");
            if port.name.as_deref() == Some("") {
                violations.add(format!("{path}.name"), "cannot be empty");
            }
            check_port(&path, port.port, &port.app_protocol, violations);
        }
    }
}
