//! MeshIdentity: which proxies get which SPIFFE identity, and who signs it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Checked;
use super::checks::{check_data_source, check_duration_text};
use super::common::{Condition, DataSource, LabelSelector};
use crate::Violations;

/// Gives the proxies it selects an identity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshIdentity {
    /// Which proxies; without it, none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<IdentitySelector>,
    /// Templates of the identity.
    #[serde(rename = "spiffeID", skip_serializing_if = "Option::is_none")]
    pub spiffe_id: Option<SpiffeIdTemplate>,
    /// Who signs.
    pub provider: IdentityProvider,
}

/// Which proxies get an identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct IdentitySelector {
    /// By labels; an empty map selects all, none selects nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataplane: Option<LabelSelector>,
}

/// Templates of a SPIFFE id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SpiffeIdTemplate {
    /// Trust domain; `{{ .Mesh }}.{{ .Zone }}.mesh.local` where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<String>,
    /// Path; `/workload/{{ .Workload }}` where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl MeshIdentity {
    /// Trust domain of an identity that does not set one.
    pub const DEFAULT_TRUST_DOMAIN: &'static str = "{{ .Mesh }}.{{ .Zone }}.mesh.local";
    /// Path of an identity that does not set one.
    pub const DEFAULT_PATH: &'static str = "/workload/{{ .Workload }}";
    /// Condition: certificates can be issued.
    pub const READY: &'static str = "Ready";
    /// Condition: the provider's authority is there.
    pub const PROVIDER: &'static str = "Provider";
    /// Condition: the MeshTrust of a bundled authority is there.
    pub const TRUST_CREATED: &'static str = "MeshTrustCreated";

    /// Template of the trust domain.
    pub fn trust_domain_template(&self) -> &str {
        let set = self.spiffe_id.as_ref().and_then(|id| id.trust_domain.as_deref());
        set.filter(|template| !template.is_empty()).unwrap_or(Self::DEFAULT_TRUST_DOMAIN)
    }

    /// Template of the path.
    pub fn path_template(&self) -> &str {
        let set = self.spiffe_id.as_ref().and_then(|id| id.path.as_deref());
        set.filter(|template| !template.is_empty()).unwrap_or(Self::DEFAULT_PATH)
    }
}

/// Who signs identities.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct IdentityProvider {
    /// Which provider.
    pub r#type: ProviderType,
    /// Settings of the zone's own authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundled: Option<BundledProvider>,
    /// Settings of a SPIRE agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spire: Option<serde_json::Value>,
    /// Settings of another provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extension: Option<serde_json::Value>,
}

/// Which provider signs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProviderType {
    /// The zone's own authority.
    #[default]
    Bundled,
    /// A SPIRE agent beside the proxy.
    Spire,
    /// Another one.
    Extension,
}

/// The zone's own authority.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BundledProvider {
    /// Whether the authority's certificate is published as a MeshTrust: `Enabled` or `Disabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mesh_trust_creation: Option<Switch>,
    /// Allows a self-signed authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure_allow_self_signed: Option<bool>,
    /// Has the zone make the authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autogenerate: Option<Autogenerate>,
    /// Of issued certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_parameters: Option<CertificateParameters>,
    /// An authority that is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<ProvidedCa>,
}

/// On or off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Switch {
    /// On.
    #[default]
    Enabled,
    /// Off.
    Disabled,
}

/// Whether the zone makes the authority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Autogenerate {
    /// On or off.
    pub enabled: bool,
}

/// Parameters of issued certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CertificateParameters {
    /// Lifetime, for example `24h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiry: Option<String>,
}

/// An authority that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ProvidedCa {
    /// Its certificate, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<DataSource>,
    /// Its key, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key: Option<DataSource>,
}

/// Observed state of a MeshIdentity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MeshIdentityStatus {
    /// `Provider`, `MeshTrustCreated`, `Ready`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl Checked for MeshIdentityStatus {}

impl Checked for MeshIdentity {
    fn check(&self, violations: &mut Violations) {
        if let Some(SpiffeIdTemplate { trust_domain, path }) = &self.spiffe_id {
            if let Some(template) = trust_domain {
                check_trust_domain(template, violations);
            }
            if let Some(template) = path {
                check_path(template, violations);
            }
        }
        let IdentityProvider { r#type, bundled, spire, extension } = &self.provider;
        match (r#type, bundled, spire, extension) {
            (ProviderType::Bundled, Some(bundled), ..) => check_bundled(bundled, violations),
            (ProviderType::Bundled, None, ..) => violations.add("spec.provider.bundled", "must be defined"),
            (ProviderType::Spire, _, Some(spire), _) => {
                let path = "spec.provider.spire.agent.timeout";
                let timeout = spire.pointer("/agent/timeout").filter(|timeout| !timeout.is_null());
                match timeout.map(serde_json::Value::as_str) {
                    Some(None) => violations.add(path, "must be a duration, for example 5s"),
                    timeout => check_duration_text(path, timeout.flatten(), violations),
                }
            }
            (ProviderType::Spire, _, None, _) => violations.add("spec.provider.spire", "must be defined"),
            (ProviderType::Extension, .., Some(extension)) => {
                if extension.get("name").and_then(serde_json::Value::as_str).is_none_or(str::is_empty) {
                    violations.add("spec.provider.extension.name", "must not be empty");
                }
            }
            (ProviderType::Extension, .., None) => {
                violations.add("spec.provider.extension", "must be defined");
            }
        }
    }
}

fn check_bundled(bundled: &BundledProvider, violations: &mut Violations) {
    let generated = bundled.autogenerate.is_some_and(|autogenerate| autogenerate.enabled);
    match (&bundled.ca, generated) {
        (Some(_), true) => {
            violations.add("spec.provider.bundled", "must have only one type defined: autogenerate, ca");
        }
        (None, false) => {
            violations.add("spec.provider.bundled", "must have at least one defined: autogenerate, ca");
        }
        (Some(ca), false) => {
            for (field, source) in [("certificate", &ca.certificate), ("privateKey", &ca.private_key)] {
                let path = format!("spec.provider.bundled.ca.{field}");
                match source {
                    Some(source) => check_data_source(&path, source, violations),
                    None => violations.add(path, "must be defined"),
                }
            }
        }
        (None, true) => {}
    }
    let expiry = bundled.certificate_parameters.as_ref().and_then(|parameters| parameters.expiry.as_deref());
    check_duration_text("spec.provider.bundled.certificateParameters.expiry", expiry, violations);
}

/// Fields that the template of a trust domain can ask for.
const TRUST_DOMAIN_FIELDS: [&str; 2] = [".Mesh", ".Zone"];
/// Fields that the template of a path can ask for, besides labels.
const PATH_FIELDS: [&str; 5] = [".Mesh", ".Zone", ".Namespace", ".Workload", ".ServiceAccount"];

fn check_trust_domain(template: &str, violations: &mut Violations) {
    const PATH: &str = "spec.spiffeID.trustDomain";
    let is_known = |expression: &str| TRUST_DOMAIN_FIELDS.contains(&expression);
    match render_stub(template, is_known) {
        Err(reason) => violations.add(PATH, reason),
        // The characters of a trust domain (SPIFFE-ID, 2.1).
        Ok(domain) if !domain.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_')) => {
            violations.add(PATH, "must have only lower case letters, digits, '.', '-' and '_'");
        }
        Ok(_) => {}
    }
}

fn check_path(template: &str, violations: &mut Violations) {
    const PATH: &str = "spec.spiffeID.path";
    let is_label = |expression: &str| {
        let name = expression.strip_prefix("label").map(str::trim);
        name.and_then(|name| name.strip_prefix('"')?.strip_suffix('"')).is_some_and(|name| !name.is_empty())
    };
    let is_known = |expression: &str| PATH_FIELDS.contains(&expression) || is_label(expression);
    match render_stub(template, is_known) {
        Err(reason) => violations.add(PATH, reason),
        Ok(path) if !path.is_empty() && !path.starts_with('/') => violations.add(PATH, "must start with '/'"),
        Ok(_) => {}
    }
}

/// The template with a stub for every expression, or why it cannot be rendered.
fn render_stub(template: &str, is_known: impl Fn(&str) -> bool) -> Result<String, String> {
    let mut rendered = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (expression, after) =
            after.split_once("}}").ok_or("template has an expression that is not closed")?;
        let expression = expression.trim();
        if !is_known(expression) {
            return Err(format!("template asks for {expression:?}, which is not known here"));
        }
        rendered.push_str(before);
        rendered.push_str("stub");
        rest = after;
    }
    rendered.push_str(rest);
    Ok(rendered)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn fields(spec: Value) -> Vec<String> {
        let spec: MeshIdentity = serde_json::from_value(spec).expect("the test's own document");
        let mut violations = Violations::default();
        spec.check(&mut violations);
        violations.iter().map(|violation| violation.field.clone()).collect()
    }

    #[test]
    fn sound_identities_have_no_violation() {
        let inline = json!({"type": "InsecureInline", "insecureInline": {"value": "x"}});
        let templates = json!({
            "trustDomain": "{{ .Mesh }}.{{ .Zone }}.example",
            "path": r#"/ns/{{ .Namespace }}/{{ label "team" }}/{{.Workload}}"#,
        });
        for provider in [
            json!({"type": "Bundled", "bundled": {"autogenerate": {"enabled": true},
                "certificateParameters": {"expiry": "24h"}}}),
            json!({"type": "Bundled", "bundled": {"ca": {"certificate": inline, "privateKey": inline}}}),
            json!({"type": "Spire", "spire": {"agent": {"timeout": "5s"}}}),
            json!({"type": "Extension", "extension": {"name": "acme"}}),
        ] {
            assert!(fields(json!({"spiffeID": templates, "provider": provider})).is_empty(), "{provider}");
        }
    }

    #[test]
    fn each_provider_needs_its_own_settings() {
        for (provider, want) in [
            (json!({"type": "Bundled"}), vec!["spec.provider.bundled"]),
            (json!({"type": "Spire"}), vec!["spec.provider.spire"]),
            (
                json!({"type": "Spire", "spire": {"agent": {"timeout": 5}}}),
                vec!["spec.provider.spire.agent.timeout"],
            ),
            (json!({"type": "Extension"}), vec!["spec.provider.extension"]),
            (json!({"type": "Extension", "extension": {}}), vec!["spec.provider.extension.name"]),
            (
                json!({"bundled": {"ca": {"certificate": {"type": "EnvVar"}},
                    "certificateParameters": {"expiry": "tomorrow"}}}),
                vec![
                    "spec.provider.bundled.ca.certificate.envVar",
                    "spec.provider.bundled.ca.privateKey",
                    "spec.provider.bundled.certificateParameters.expiry",
                ],
            ),
        ] {
            assert_eq!(fields(json!({"provider": provider})), want, "{provider}");
        }
    }

    #[test]
    fn templates_that_cannot_be_rendered_are_refused() {
        let provider = json!({"bundled": {"autogenerate": {"enabled": true}}});
        for (domain, path) in [("{{ .Mesh", "{{"), ("{{ .Workload }}", "/{{ .Nothing }}"), ("A b", "x")] {
            let spec = json!({"spiffeID": {"trustDomain": domain, "path": path}, "provider": provider});
            assert_eq!(fields(spec), ["spec.spiffeID.trustDomain", "spec.spiffeID.path"], "{domain} {path}");
        }
    }
}
