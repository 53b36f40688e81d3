//! MeshTrafficPermission: who may send requests to the proxies it selects.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Checked;
use super::common::TargetRef;
use crate::Violations;

/// Who may send requests to the selected proxies. Without any, nobody may.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshTrafficPermission {
    /// Which proxies; all of the mesh where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// Rules, all of them in force.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<PermissionRule>,
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PermissionRule {
    /// What it allows and denies.
    pub default: Permission,
}

/// Peers that are allowed and denied; a denial always wins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Permission {
    /// Denied, whatever else allows them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deny: Option<Vec<PeerMatch>>,
    /// Allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<PeerMatch>>,
    /// Allowed, and counted as if they were denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_with_shadow_deny: Option<Vec<PeerMatch>>,
}

/// A peer: everything given must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PeerMatch {
    /// Its identity.
    #[serde(rename = "spiffeID", skip_serializing_if = "Option::is_none")]
    pub spiffe_id: Option<SpiffeIdMatch>,
    /// The server name it asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<SniMatch>,
}

/// Matches a SPIFFE id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SpiffeIdMatch {
    /// How.
    pub r#type: MatchType,
    /// The id or its beginning.
    pub value: String,
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum MatchType {
    /// The whole value.
    Exact,
    /// Its beginning.
    Prefix,
}

/// Matches a server name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SniMatch {
    /// How.
    pub r#type: SniMatchType,
    /// The server name.
    pub value: String,
}

/// How a server name is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum SniMatchType {
    /// The whole name.
    Exact,
}

impl Checked for MeshTrafficPermission {
    fn check(&self, violations: &mut Violations) {
        if self.rules.is_empty() {
            violations.add("spec.rules", "must be defined");
        }
        for (at, rule) in self.rules.iter().enumerate() {
            let path = format!("spec.rules[{at}].default");
            let Permission { deny, allow, allow_with_shadow_deny } = &rule.default;
            let lists = [("deny", deny), ("allow", allow), ("allowWithShadowDeny", allow_with_shadow_deny)];
            if lists.iter().all(|(_, list)| list.as_ref().is_none_or(Vec::is_empty)) {
                violations.add(&*path, "must have at least one defined: allow, allowWithShadowDeny, deny");
            }
            for (name, list) in lists {
                for (index, peer) in list.iter().flatten().enumerate() {
                    check_peer(&format!("{path}.{name}[{index}]"), peer, violations);
                }
            }
        }
    }
}

pub(super) fn check_peer(path: &str, peer: &PeerMatch, violations: &mut Violations) {
    if peer.spiffe_id.is_none() && peer.sni.is_none() {
        violations.add(path, "must have at least one defined: spiffeID, sni");
    }
    if let Some(id) = &peer.spiffe_id
        && !id.value.starts_with("spiffe://")
    {
        violations
            .add(format!("{path}.spiffeID.value"), "must be a valid Spiffe ID: scheme is missing or invalid");
    }
    if let Some(sni) = &peer.sni
        && sni.value.is_empty()
    {
        violations.add(format!("{path}.sni.value"), "must not be empty");
    }
}
