//! HostnameGenerator: a template that gives destinations their hostnames.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Checked, LabelSelector};
use crate::Violations;

/// Gives the destinations it selects a hostname.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HostnameGenerator {
    /// Which destinations; exactly one of its fields is set.
    pub selector: HostnameSelector,
    /// Go-style template of the hostname, for example `{{ .DisplayName }}.svc.mesh.local`.
    pub template: String,
    /// Replaces the built-in generator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extension: Option<serde_json::Value>,
}

/// Which destinations get a hostname.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HostnameSelector {
    /// MeshServices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mesh_service: Option<LabelSelector>,
    /// MeshExternalServices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mesh_external_service: Option<LabelSelector>,
    /// MeshMultiZoneServices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mesh_multi_zone_service: Option<LabelSelector>,
}

impl Checked for HostnameGenerator {
    fn check(&self, violations: &mut Violations) {
        let HostnameSelector { mesh_service, mesh_external_service, mesh_multi_zone_service } =
            &self.selector;
        let set =
            [mesh_service, mesh_external_service, mesh_multi_zone_service].into_iter().flatten().count();
        if set != 1 {
            violations.add(
                "spec.selector",
                "exactly one selector (meshService, meshExternalService, meshMultiZoneService) must be defined",
            );
        }
        if self.template.is_empty() {
            violations.add("spec.template", "must not be empty");
        }
    }
}
