//! MeshPassthrough: what applications may call outside the mesh.

use std::collections::BTreeSet;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Checked;
use super::checks::check_top;
use super::common::TargetRef;
use crate::Violations;

/// What the applications of the selected proxies may call outside the mesh. It needs traffic that is redirected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshPassthrough {
    /// Which proxies; all of the mesh where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// What may be called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<PassthroughConf>,
}

/// What may be called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PassthroughConf {
    /// Whether all, what `appendMatch` names, or nothing; `Matched` where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passthrough_mode: Option<PassthroughMode>,
    /// Destinations. Those of several policies add up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub append_match: Option<Vec<PassthroughMatch>>,
}

/// How much may be called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PassthroughMode {
    /// Everything.
    All,
    /// What is named.
    #[default]
    Matched,
    /// Nothing.
    None,
}

/// A destination outside the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PassthroughMatch {
    /// How it is named.
    pub r#type: PassthroughMatchType,
    /// Its name, for example `example.com`, `*.example.com`, `192.0.2.1` or `192.0.2.0/24`.
    pub value: String,
    /// Its port; any where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
    /// What is spoken.
    #[serde(default)]
    pub protocol: PassthroughProtocol,
}

/// How a destination is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum PassthroughMatchType {
    /// By a name; `*.` in front means all names below it.
    Domain,
    /// By an address.
    #[serde(rename = "IP")]
    Ip,
    /// By a range of addresses.
    #[serde(rename = "CIDR")]
    Cidr,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PassthroughProtocol {
    /// Bytes.
    #[default]
    Tcp,
    /// TLS that the application begins.
    Tls,
    /// gRPC.
    Grpc,
    /// HTTP/1.1.
    Http,
    /// HTTP/2.
    Http2,
    /// MySQL, in which the server speaks first.
    Mysql,
}

impl PassthroughProtocol {
    /// The name as users write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Grpc => "grpc",
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::Mysql => "mysql",
        }
    }

    fn is_http(self) -> bool {
        matches!(self, Self::Grpc | Self::Http | Self::Http2)
    }
}

impl Checked for MeshPassthrough {
    fn check(&self, violations: &mut Violations) {
        check_top(self.target_ref.as_ref(), false, violations);
        let matches = self.default.as_ref().and_then(|conf| conf.append_match.as_deref()).unwrap_or_default();
        let mut seen = BTreeSet::new();
        for (at, one) in matches.iter().enumerate() {
            let path = format!("spec.default.appendMatch[{at}]");
            one.check(&path, violations);
            let key = (one.r#type, one.value.as_str(), one.port, one.protocol);
            if !seen.insert(key) {
                violations.add(&*path, "is there twice");
            }
        }
        check_ports(matches, violations);
    }
}

/// On one port a proxy tells protocols apart by what comes first; bytes and HTTP are alike in that.
fn check_ports(matches: &[PassthroughMatch], violations: &mut Violations) {
    for (at, one) in matches.iter().enumerate() {
        let conflicts = |other: &&PassthroughMatch| {
            let same_place = other.port == one.port && other.value == one.value;
            let alike = |a: PassthroughProtocol, b: PassthroughProtocol| {
                (a == PassthroughProtocol::Tcp && b.is_http()) || (a.is_http() && b.is_http() && a != b)
            };
            same_place && (alike(one.protocol, other.protocol) || alike(other.protocol, one.protocol))
        };
        if let Some(other) = matches.iter().take(at).find(conflicts) {
            let path = format!("spec.default.appendMatch[{at}].protocol");
            let (this, that) = (one.protocol.as_str(), other.protocol.as_str());
            violations.add(path, format!("using {this} and {that} for one value and port is not supported"));
        }
    }
}

impl PassthroughMatch {
    fn check(&self, path: &str, violations: &mut Violations) {
        if self.port.is_some_and(|port| port == 0 || port > u32::from(u16::MAX)) {
            violations.add(format!("{path}.port"), "port must be a valid (1-65535)");
        }
        if self.protocol == PassthroughProtocol::Mysql {
            if self.port.is_none() {
                violations.add(format!("{path}.port"), "must be defined when protocol is mysql");
            }
            if self.r#type == PassthroughMatchType::Domain {
                violations.add(format!("{path}.protocol"), "mysql cannot be matched by a domain");
            }
        }
        let value = format!("{path}.value");
        match self.r#type {
            PassthroughMatchType::Ip if self.value.parse::<IpAddr>().is_err() => {
                violations.add(value, "provided IP has incorrect value");
            }
            PassthroughMatchType::Cidr if !is_cidr(&self.value) => {
                violations.add(value, "provided CIDR has incorrect value");
            }
            PassthroughMatchType::Domain => self.check_domain(path, violations),
            _ => {}
        }
    }

    fn check_domain(&self, path: &str, violations: &mut Violations) {
        let domain = self.value.strip_prefix("*.").unwrap_or(&self.value);
        if !crate::validation::is_dns_name(&domain.to_lowercase()) || domain.parse::<IpAddr>().is_ok() {
            violations.add(format!("{path}.value"), "provided DNS has incorrect value");
        }
        if self.protocol == PassthroughProtocol::Tcp {
            let message =
                "using domains with tcp is not possible: names are seen with tls, http, http2 and grpc only";
            violations.add(format!("{path}.protocol"), message);
        }
    }
}

/// An address with the length of its prefix.
fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let longest = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    length.parse::<u8>().is_ok_and(|length| length <= longest)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn every_rule_has_its_path() {
        let report = |matches: Value| -> Vec<String> {
            let mut violations = Violations::default();
            let spec = json!({"default": {"appendMatch": matches}});
            serde_json::from_value::<MeshPassthrough>(spec).unwrap().check(&mut violations);
            let short = |field: &str| field.replace("spec.default.appendMatch", "");
            violations.iter().map(|one| format!("{}|{}", short(&one.field), one.message)).collect()
        };
        let good = json!([
            {"type": "Domain", "value": "*.example.com", "protocol": "tls"},
            {"type": "IP", "value": "192.0.2.1"},
            {"type": "CIDR", "value": "2001:db8::/32", "port": 443},
        ]);
        assert_eq!(report(good), [""; 0]);
        let bad = json!([
            {"type": "Domain", "value": "exa mple", "protocol": "http", "port": 0},
            {"type": "Domain", "value": "example.com"},
            {"type": "IP", "value": "10.0.0"},
            {"type": "CIDR", "value": "10.0.0.0/33"},
            {"type": "IP", "value": "10.0.0.1", "protocol": "mysql"},
            {"type": "IP", "value": "10.0.0.2", "port": 80},
            {"type": "IP", "value": "10.0.0.2", "port": 80, "protocol": "http"},
            {"type": "IP", "value": "10.0.0.2", "port": 80},
        ]);
        assert_eq!(
            report(bad),
            [
                "[0].port|port must be a valid (1-65535)",
                "[0].value|provided DNS has incorrect value",
                "[1].protocol|using domains with tcp is not possible: names are seen with tls, http, http2 and grpc only",
                "[2].value|provided IP has incorrect value",
                "[3].value|provided CIDR has incorrect value",
                "[4].port|must be defined when protocol is mysql",
                "[7]|is there twice",
                "[6].protocol|using http and tcp for one value and port is not supported",
                "[7].protocol|using tcp and http for one value and port is not supported",
            ]
        );
    }
}
