//! MeshTrust: authorities whose identities the mesh accepts for a trust domain.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Checked;
use crate::Violations;

/// Authorities of one trust domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshTrust {
    /// The trust domain.
    pub trust_domain: String,
    /// Its authorities: two while one replaces the other.
    pub ca_bundles: Vec<CaBundle>,
}

/// One authority.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CaBundle {
    /// Always `Pem`.
    pub r#type: String,
    /// The certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pem: Option<Pem>,
}

impl CaBundle {
    /// An authority from its PEM.
    pub fn pem(value: impl Into<String>) -> Self {
        Self { r#type: "Pem".into(), pem: Some(Pem { value: value.into() }) }
    }
}

/// PEM text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Pem {
    /// The text.
    pub value: String,
}

/// Observed state of a MeshTrust.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MeshTrustStatus {
    /// The MeshIdentity it was made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<TrustOrigin>,
}

/// The MeshIdentity that made a MeshTrust.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TrustOrigin {
    /// Its identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kri: Option<String>,
}

/// Longest trust domain, as a DNS name.
const MAX_TRUST_DOMAIN: usize = 253;

impl Checked for MeshTrust {
    fn check(&self, violations: &mut Violations) {
        if self.trust_domain.is_empty() {
            violations.add("spec.trustDomain", "must not be empty");
        } else if self.trust_domain.len() > MAX_TRUST_DOMAIN {
            violations
                .add("spec.trustDomain", format!("must not be longer than {MAX_TRUST_DOMAIN} characters"));
        }
        if self.ca_bundles.is_empty() {
            violations.add("spec.caBundles", "must not be empty");
        }
        for (at, bundle) in self.ca_bundles.iter().enumerate() {
            match &bundle.pem {
                None => violations.add(format!("spec.caBundles[{at}].pem"), "must be defined"),
                Some(pem) if !pem.value.contains("-----BEGIN CERTIFICATE-----") => {
                    violations
                        .add(format!("spec.caBundles[{at}].pem.value"), "must be a PEM-encoded certificate");
                }
                Some(_) => {}
            }
        }
    }
}
