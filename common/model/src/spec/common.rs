//! Pieces that several specs share.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Resource;
use crate::labels;

/// Labels that must all be there with these values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// Labels and the values they must have; empty selects everything.
    pub match_labels: BTreeMap<String, String>,
}

impl LabelSelector {
    /// Whether all labels are on the resource. `kuma.io/display-name` means the display name.
    pub fn selects(&self, resource: &Resource) -> bool {
        labels_select(&self.match_labels, resource)
    }
}

/// Whether all of `wanted` are labels of the resource. `kuma.io/display-name` means the display name.
pub fn labels_select(wanted: &BTreeMap<String, String>, resource: &Resource) -> bool {
    wanted.iter().all(|(key, value)| match key.as_str() {
        labels::DISPLAY_NAME => resource.display_name() == value,
        _ => resource.label(key) == Some(value),
    })
}

/// A reference to what a policy applies to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TargetRef {
    /// Kind of the target, for example `Mesh` or `Dataplane`.
    pub kind: String,
    /// Labels that select targets of the kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Section of the target: a port or a listener, by name or number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
}

/// A number, or text that holds one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum IntOrString {
    /// A number.
    Int(i64),
    /// Text.
    String(String),
}

impl IntOrString {
    /// The number; `None` for text that is none.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "numbers beyond 2^53 are no shares")]
            Self::Int(number) => Some(*number as f64),
            Self::String(text) => text.parse().ok().filter(|number: &f64| number.is_finite()),
        }
    }
}

/// One observation about a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Condition {
    /// What is observed.
    pub r#type: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word why.
    pub reason: String,
    /// For people.
    #[serde(default)]
    pub message: String,
}

impl Condition {
    /// A condition that holds or does not.
    pub fn new(r#type: &str, holds: bool, reason: &str, message: impl Into<String>) -> Self {
        let status = if holds { "True" } else { "False" };
        Self { r#type: r#type.into(), status: status.into(), reason: reason.into(), message: message.into() }
    }
}

/// Whether a condition of this type holds.
pub fn holds(conditions: &[Condition], r#type: &str) -> bool {
    conditions.iter().any(|condition| condition.r#type == r#type && condition.status == "True")
}

/// A virtual address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Vip {
    /// The address.
    pub ip: String,
}

/// The generator that made a hostname.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostnameGeneratorRef {
    /// Its name.
    pub core_name: String,
}

/// A hostname of a destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Address {
    /// The hostname.
    pub hostname: String,
    /// Who made it: `HostnameGenerator`.
    pub origin: String,
    /// The generator that made it.
    pub hostname_generator_ref: HostnameGeneratorRef,
}

/// What became of one generator for one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HostnameGeneratorStatus {
    /// The generator.
    pub hostname_generator_ref: HostnameGeneratorRef,
    /// Whether the hostname was generated, and why not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// How many proxies stand behind something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DataplaneProxies {
    /// With an open configuration stream.
    #[serde(skip_serializing_if = "is_zero")]
    pub connected: u32,
    /// Ready to serve.
    #[serde(skip_serializing_if = "is_zero")]
    pub healthy: u32,
    /// All.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
pub(super) fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Application protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Protocol {
    /// Bytes.
    #[default]
    Tcp,
    /// HTTP/1.1.
    Http,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// gRPC over HTTP/2.
    Grpc,
    /// TLS that the application terminates.
    Tls,
    /// MySQL.
    Mysql,
}

impl Protocol {
    /// Reads a protocol's name in any case; empty means TCP, unknown ones `None`.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "" | "tcp" => Self::Tcp,
            "http" => Self::Http,
            "http2" => Self::Http2,
            "grpc" => Self::Grpc,
            "tls" => Self::Tls,
            "mysql" => Self::Mysql,
            _ => return None,
        })
    }

    /// Whether an HTTP connection manager serves it.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc)
    }

    /// The name as users write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::Tls => "tls",
            Self::Mysql => "mysql",
        }
    }
}

/// Where a piece of data comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DataSource {
    /// `File`, `Secret`, `EnvVar` or `InsecureInline`.
    #[schemars(extend("enum" = ["File", "Secret", "EnvVar", "InsecureInline"]))]
    pub r#type: String,
    /// A file on the machine of the control plane or proxy that reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<FileSource>,
    /// A Secret of the mesh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// An environment variable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_var: Option<EnvVarSource>,
    /// The value itself, readable by everyone who reads the resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure_inline: Option<InlineSource>,
}

/// A file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileSource {
    /// Absolute path.
    pub path: String,
}

/// A Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretRef {
    /// Always `Secret`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// An environment variable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnvVarSource {
    /// Its name.
    pub name: String,
}

/// An inline value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InlineSource {
    /// The value.
    pub value: String,
}
