//! MeshTrust: authorities whose identities the mesh accepts for a trust domain.

use base64::Engine;
use base64::prelude::BASE64_STANDARD as STANDARD;
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
    #[schemars(extend("enum" = ["Pem"]))]
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

impl Checked for MeshTrustStatus {}

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
            if bundle.r#type != "Pem" {
                violations.add(
                    format!("spec.caBundles[{at}].type"),
                    format!("{:?} must be one of [\"Pem\"]", bundle.r#type),
                );
            }
            match &bundle.pem {
                None => violations.add(format!("spec.caBundles[{at}].pem"), "must be defined"),
                Some(pem) if !has_certificates(&pem.value) => {
                    violations
                        .add(format!("spec.caBundles[{at}].pem.value"), "must be a PEM-encoded certificate");
                }
                Some(_) => {}
            }
        }
    }
}

/// Whether a text holds at least one PEM block (RFC 7468), and each holds a DER sequence, as certificates are.
fn has_certificates(text: &str) -> bool {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    /// The tag of a sequence.
    const SEQUENCE: u8 = 0x30;
    let mut blocks = text.split(BEGIN).skip(1).peekable();
    blocks.peek().is_some()
        && blocks.all(|block| {
            let Some((body, _)) = block.split_once(END) else { return false };
            let body: String = body.split_ascii_whitespace().collect();
            STANDARD.decode(body).is_ok_and(|der| der.first() == Some(&SEQUENCE))
        })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn fields(spec: Value) -> Vec<String> {
        let spec: MeshTrust = serde_json::from_value(spec).expect("the test's own document");
        let mut violations = Violations::default();
        spec.check(&mut violations);
        violations.iter().map(|violation| violation.field.clone()).collect()
    }

    #[test]
    fn authorities_are_pem() {
        for (value, is_sound) in [
            ("-----BEGIN CERTIFICATE-----\nMAMC\nAQE=\n-----END CERTIFICATE-----\n", true),
            ("", false),
            ("MAMCAQE=", false),
            ("-----BEGIN CERTIFICATE-----\nMAMCAQE=", false),
            ("-----BEGIN CERTIFICATE-----\n???\n-----END CERTIFICATE-----", false),
            ("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----", false),
        ] {
            let spec = json!({"trustDomain": "a", "caBundles": [{"type": "Pem", "pem": {"value": value}}]});
            assert_eq!(fields(spec).is_empty(), is_sound, "{value}");
        }
    }

    #[test]
    fn every_violation_is_found_at_once() {
        assert_eq!(fields(json!({})), ["spec.trustDomain", "spec.caBundles"]);
        assert_eq!(
            fields(json!({"trustDomain": "a".repeat(254), "caBundles": [{"type": "Der"}]})),
            ["spec.trustDomain", "spec.caBundles[0].type", "spec.caBundles[0].pem"]
        );
    }
}
