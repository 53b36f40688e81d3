//! HostnameGenerator: a template that gives destinations their hostnames.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::mesh_external_service::check_extension;
use super::{Checked, LabelSelector};
use crate::{Violations, hostnames};

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
        if let Some(extension) = &self.extension {
            check_extension(extension, violations);
        }
        if self.template.is_empty() {
            violations.add("spec.template", "must not be empty");
        } else if let Err(error) = hostnames::check_template(&self.template) {
            violations.add("spec.template", format!("template gives no hostname: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn report(spec: Value) -> Vec<String> {
        let spec: HostnameGenerator = serde_json::from_value(spec).expect("the test's own document");
        let mut violations = Violations::default();
        spec.check(&mut violations);
        violations.iter().map(|violation| violation.field.clone()).collect()
    }

    #[test]
    fn templates_must_give_a_name() {
        for (template, is_sound) in [
            ("{{ .DisplayName }}.{{ .Namespace }}.svc.{{ .Zone }}.{{ .Mesh }}.local", true),
            (r#"{{ label "kuma.io/service" }}.mesh"#, true),
            ("", false),
            ("{{ .DisplayName", false),
            ("{{ .Nothing }}.mesh", false),
            ("{{ .DisplayName }}..mesh", false),
            ("{{ .DisplayName }}_mesh", false),
        ] {
            let spec = json!({"selector": {"meshService": {}}, "template": template});
            assert_eq!(report(spec).is_empty(), is_sound, "{template}");
        }
    }

    #[test]
    fn every_violation_is_found_at_once() {
        assert_eq!(
            report(json!({"selector": {}, "template": "", "extension": {}})),
            ["spec.selector", "spec.extension.type", "spec.template"]
        );
    }
}
