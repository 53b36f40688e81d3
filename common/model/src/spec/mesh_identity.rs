//! MeshIdentity: which proxies get which SPIFFE identity, and who signs it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Checked;
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

impl Checked for MeshIdentity {
    fn check(&self, violations: &mut Violations) {
        if self.provider.r#type != ProviderType::Bundled {
            return;
        }
        let Some(bundled) = &self.provider.bundled else {
            violations.add("spec.provider.bundled", "must be defined");
            return;
        };
        let generated = bundled.autogenerate.is_some_and(|autogenerate| autogenerate.enabled);
        match (&bundled.ca, generated) {
            (Some(_), true) => {
                violations.add("spec.provider.bundled", "must have only one type defined: autogenerate, ca")
            }
            (None, false) => {
                violations.add("spec.provider.bundled", "must have at least one defined: autogenerate, ca")
            }
            (Some(ca), false) => {
                for (field, source) in [("certificate", &ca.certificate), ("privateKey", &ca.private_key)] {
                    if source.is_none() {
                        violations.add(format!("spec.provider.bundled.ca.{field}"), "must be defined");
                    }
                }
            }
            (None, true) => {}
        }
    }
}
