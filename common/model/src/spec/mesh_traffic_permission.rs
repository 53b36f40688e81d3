//! MeshTrafficPermission: who may send requests to the proxies it selects.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Checked;
use super::checks::check_top;
use super::common::TargetRef;
use crate::Violations;
use crate::validation::is_dns_name;

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
        check_top(self.target_ref.as_ref(), true, violations);
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

/// Checks what a rule says of a peer.
pub(super) fn check_peer(path: &str, peer: &PeerMatch, violations: &mut Violations) {
    if peer.spiffe_id.is_none() && peer.sni.is_none() {
        violations.add(path, "must have at least one defined: spiffeID, sni");
    }
    if let Some(problem) = peer.spiffe_id.as_ref().and_then(spiffe_problem) {
        violations.add(format!("{path}.spiffeID.value"), format!("must be a valid Spiffe ID: {problem}"));
    }
    let Some(sni) = &peer.sni else { return };
    let path = format!("{path}.sni.value");
    if sni.value.is_empty() {
        violations.add(path, "must not be empty");
    } else if !is_dns_name(&sni.value) {
        violations.add(path, DNS1123_MESSAGE);
    }
}

/// What Kubernetes says of a name that is no RFC 1123 subdomain.
const DNS1123_MESSAGE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// What is wrong with a SPIFFE id (SPIFFE-ID standard, 2) or the beginning of one, which may end anywhere.
fn spiffe_problem(id: &SpiffeIdMatch) -> Option<&'static str> {
    let is_prefix = id.r#type == MatchType::Prefix;
    let Some(rest) = id.value.strip_prefix("spiffe://") else {
        return Some(if id.value.is_empty() { "cannot be empty" } else { "scheme is missing or invalid" });
    };
    let (domain, path) = rest.split_once('/').map_or((rest, None), |(domain, path)| (domain, Some(path)));
    let of_domain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
    if domain.is_empty() && !(is_prefix && path.is_none()) {
        return Some("trust domain is missing");
    }
    if !domain.chars().all(of_domain) {
        return Some(
            "trust domain characters are limited to lowercase letters, numbers, dots, dashes, and underscores",
        );
    }
    let path = path?;
    let of_path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let mut segments = path.split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "" if is_last && is_prefix => {}
            "" if is_last => return Some("path cannot have a trailing slash"),
            "" => return Some("path cannot contain empty segments"),
            "." | ".." if !(is_last && is_prefix) => return Some("path cannot contain dot segments"),
            segment if !segment.chars().all(of_path) => {
                return Some(
                    "path segment characters are limited to letters, numbers, dots, dashes, and underscores",
                );
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn report(peer: Value) -> Vec<String> {
        let mut violations = Violations::default();
        let spec = json!({"rules": [{"default": {"allow": [peer]}}]});
        serde_json::from_value::<MeshTrafficPermission>(spec).unwrap().check(&mut violations);
        let prefix = "spec.rules[0].default.allow[0]";
        violations.iter().map(|one| format!("{}|{}", one.field.replace(prefix, ""), one.message)).collect()
    }

    #[test]
    fn spiffe_ids_and_their_beginnings_are_checked() {
        let problem = |r#type: &str, value: &str| {
            let found = report(json!({"spiffeID": {"type": r#type, "value": value}}));
            let text = found.first().cloned().unwrap_or_default();
            text.replace(".spiffeID.value|must be a valid Spiffe ID: ", "")
        };
        for value in ["spiffe://td", "spiffe://a.b-c_d/ns/Web.1"] {
            assert_eq!(problem("Exact", value), "", "{value}");
            assert_eq!(problem("Prefix", value), "", "{value}");
        }
        for value in ["spiffe://", "spiffe://td/", "spiffe://td/ns/.", "spiffe://td/n"] {
            assert_eq!(problem("Prefix", value), "", "{value}");
        }
        for (value, expected) in [
            ("", "cannot be empty"),
            ("https://td/a", "scheme is missing or invalid"),
            ("spiffe://", "trust domain is missing"),
            ("spiffe:///a", "trust domain is missing"),
            ("spiffe://td/", "path cannot have a trailing slash"),
            ("spiffe://td//a", "path cannot contain empty segments"),
            ("spiffe://td/../a", "path cannot contain dot segments"),
        ] {
            assert_eq!(problem("Exact", value), expected, "{value}");
        }
        assert!(problem("Prefix", "spiffe://TD/a").starts_with("trust domain characters are limited"));
        assert!(problem("Prefix", "spiffe://td/a*").starts_with("path segment characters are limited"));
    }

    #[test]
    fn peers_say_something_that_can_match() {
        assert_eq!(report(json!({})), ["|must have at least one defined: spiffeID, sni"]);
        assert_eq!(report(json!({"sni": {"type": "Exact", "value": ""}})), [".sni.value|must not be empty"]);
        assert_eq!(
            report(json!({"sni": {"type": "Exact", "value": "*.a"}})),
            [format!(".sni.value|{DNS1123_MESSAGE}")]
        );
        assert!(report(json!({"sni": {"type": "Exact", "value": "sni.msvc.m.z.web.80"}})).is_empty());
    }
}
