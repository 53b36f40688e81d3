//! MeshTLS: what proxies accept and offer of TLS.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Checked;
use super::checks::check_top;
use super::common::TargetRef;
use crate::Violations;

/// What the selected proxies accept of TLS and, for the whole mesh, offer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshTLS {
    /// Which proxies; all of the mesh where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// What holds for calls that they take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<TlsRule>>,
}

/// What holds for calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TlsRule {
    /// What holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<TlsConf>,
}

/// What holds for calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsConf {
    /// Whether plain connections are taken too; `Strict` where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<TlsMode>,
    /// Versions of TLS; only for the whole mesh, whose proxies have to agree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_version: Option<TlsVersionRange>,
    /// Cipher suites of TLS 1.2; only for the whole mesh. Those of TLS 1.3 cannot be chosen: with it they have no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_ciphers: Option<Vec<TlsCipher>>,
}

/// Whether plain connections are taken too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsMode {
    /// Plain connections are taken too, for the time in which peers get their identities.
    Permissive,
    /// Only connections of peers with an identity.
    #[default]
    Strict,
}

/// Versions of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TlsVersionRange {
    /// The lowest.
    pub min: TlsVersionName,
    /// The highest.
    pub max: TlsVersionName,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersionName {
    /// The proxy's choice.
    #[default]
    TLSAuto,
    /// TLS 1.0.
    TLS10,
    /// TLS 1.1.
    TLS11,
    /// TLS 1.2.
    TLS12,
    /// TLS 1.3.
    TLS13,
}

/// A cipher suite of TLS 1.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsCipher {
    /// ECDHE and ECDSA with AES 128 in GCM.
    #[serde(rename = "ECDHE-ECDSA-AES128-GCM-SHA256")]
    EcdsaAes128,
    /// ECDHE and ECDSA with AES 256 in GCM.
    #[serde(rename = "ECDHE-ECDSA-AES256-GCM-SHA384")]
    EcdsaAes256,
    /// ECDHE and ECDSA with ChaCha20.
    #[serde(rename = "ECDHE-ECDSA-CHACHA20-POLY1305")]
    EcdsaChaCha20,
    /// ECDHE and RSA with AES 128 in GCM.
    #[serde(rename = "ECDHE-RSA-AES128-GCM-SHA256")]
    RsaAes128,
    /// ECDHE and RSA with AES 256 in GCM.
    #[serde(rename = "ECDHE-RSA-AES256-GCM-SHA384")]
    RsaAes256,
    /// ECDHE and RSA with ChaCha20.
    #[serde(rename = "ECDHE-RSA-CHACHA20-POLY1305")]
    RsaChaCha20,
}

impl Checked for MeshTLS {
    fn check(&self, violations: &mut Violations) {
        let target = self.target_ref.as_ref();
        check_top(target, true, violations);
        let rules = self.rules.as_deref().unwrap_or_default();
        if rules.is_empty() {
            violations.add("spec.rules", "must be defined");
        }
        let of_mesh = target.is_none_or(|target| target.kind == "Mesh");
        for (at, rule) in rules.iter().enumerate() {
            let path = format!("spec.rules[{at}].default");
            match &rule.default {
                None => violations.add(path, "must be defined"),
                Some(conf) => conf.check(&path, of_mesh, violations),
            }
        }
    }
}

impl TlsConf {
    fn check(&self, path: &str, of_mesh: bool, violations: &mut Violations) {
        let ciphers = self.tls_ciphers.as_deref().unwrap_or_default();
        if !of_mesh {
            let message = "can only be defined with top level targetRef kind: Mesh";
            if self.tls_version.is_some() {
                violations.add(format!("{path}.tlsVersion"), message);
            }
            if !ciphers.is_empty() {
                violations.add(format!("{path}.tlsCiphers"), message);
            }
        }
        let Some(versions) = &self.tls_version else { return };
        let TlsVersionRange { min, max } = versions;
        if *min != TlsVersionName::TLSAuto && *max != TlsVersionName::TLSAuto && min > max {
            violations.add(format!("{path}.tlsVersion.min"), "must not be higher than max");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn versions_and_ciphers_are_of_the_whole_mesh() {
        let report = |spec: Value| -> Vec<String> {
            let mut violations = Violations::default();
            serde_json::from_value::<MeshTLS>(spec).unwrap().check(&mut violations);
            violations.iter().map(|one| format!("{}|{}", one.field, one.message)).collect()
        };
        assert_eq!(report(json!({})), ["spec.rules|must be defined"]);
        let conf = json!({"tlsVersion": {"min": "TLS13", "max": "TLS12"}, "tlsCiphers": ["ECDHE-RSA-AES128-GCM-SHA256"]});
        let path = "spec.rules[0].default";
        let last = [format!("{path}.tlsVersion.min|must not be higher than max")];
        assert_eq!(report(json!({"rules": [{"default": conf}]})), last);
        let message = "can only be defined with top level targetRef kind: Mesh";
        let first = [format!("{path}.tlsVersion|{message}"), format!("{path}.tlsCiphers|{message}")];
        let spec =
            json!({"targetRef": {"kind": "Dataplane", "sectionName": "http"}, "rules": [{"default": conf}]});
        assert_eq!(report(spec), [&first[..], &last[..]].concat());
    }
}
