//! The result: resources per type and name, each with a version that is a hash of its content.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use prost::{Message, Name};
use serde_json::{Map, Value};

use crate::note::Note;

/// Types of resources, in the order in which they are best delivered: what a resource refers to comes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceType {
    /// `envoy.config.cluster.v3.Cluster`.
    Cluster,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment`.
    Endpoint,
    /// `envoy.extensions.transport_sockets.tls.v3.Secret`.
    Secret,
    /// `envoy.config.listener.v3.Listener`.
    Listener,
    /// `envoy.config.route.v3.RouteConfiguration`; none are generated, routes are part of listeners.
    Route,
}

impl ResourceType {
    /// All, in delivery order.
    pub const ALL: [Self; 5] = [Self::Cluster, Self::Endpoint, Self::Secret, Self::Listener, Self::Route];

    /// The type URL.
    pub fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoint => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    /// Reads a type URL.
    pub fn from_type_url(type_url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == type_url)
    }
}

/// Hash of the content of a resource: equal content has equal versions, on every replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One encoded resource. Copies share the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigResource {
    /// Hash of the content.
    pub version: Version,
    /// What it is.
    pub kind: ResourceType,
    /// The encoded message.
    pub value: Bytes,
}

impl ConfigResource {
    pub(crate) fn encode<M: Message + Name>(kind: ResourceType, message: &M) -> Self {
        debug_assert_eq!(kind.type_url(), M::type_url());
        let value = Bytes::from(message.encode_to_vec());
        Self { version: Version(xxhash_rust::xxh3::xxh3_64(&value)), kind, value }
    }

    /// The form in which a discovery response carries it; copies the bytes.
    pub fn to_any(&self) -> prost_types::Any {
        prost_types::Any { type_url: self.kind.type_url().into(), value: self.value.to_vec() }
    }
}

/// Resources of one type by name.
pub type Resources = BTreeMap<Arc<str>, ConfigResource>;

/// Everything that one proxy is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyConfig {
    resources: BTreeMap<ResourceType, Resources>,
    pub(crate) notes: Vec<Note>,
}

static NONE: Resources = Resources::new();

impl ProxyConfig {
    /// Resources of one type by name.
    pub fn of(&self, kind: ResourceType) -> &Resources {
        self.resources.get(&kind).unwrap_or(&NONE)
    }

    /// One resource.
    pub fn get(&self, kind: ResourceType, name: &str) -> Option<&ConfigResource> {
        self.of(kind).get(name)
    }

    /// All resources, by type in delivery order, then by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &ConfigResource)> {
        self.resources.values().flatten()
    }

    /// Parts of policies that took no effect.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// The first resource of a name stays: two resources never change places.
    pub(crate) fn insert(&mut self, name: Arc<str>, resource: ConfigResource) {
        self.resources.entry(resource.kind).or_default().entry(name).or_insert(resource);
    }

    /// Resources by type URL and name as people read them. Private keys, and the certificates that belong to them,
    /// are left out: secrets of that kind as a whole, inline ones blanked.
    pub fn to_json(&self) -> Value {
        let types = self.resources.iter().filter_map(|(kind, resources)| {
            let shown = resources.iter().filter_map(|(name, resource)| {
                let mut document = envoy_api::json::print(kind.type_url(), &resource.value).ok()?;
                if *kind == ResourceType::Secret && document.get("tlsCertificate").is_some() {
                    return None;
                }
                blank_certificates(&mut document);
                Some((name.to_string(), document))
            });
            let shown: Map<String, Value> = shown.collect();
            (!shown.is_empty()).then(|| (kind.type_url().to_owned(), Value::Object(shown)))
        });
        Value::Object(types.collect())
    }
}

/// Empties certificates that stand in a resource together with their keys, and the bundle beside them.
fn blank_certificates(document: &mut Value) {
    match document {
        Value::Array(items) => items.iter_mut().for_each(blank_certificates),
        Value::Object(fields) => {
            let inline = fields.contains_key("tlsCertificates");
            for (name, value) in fields {
                if inline && matches!(name.as_str(), "tlsCertificates" | "validationContext") {
                    blank_bytes(value);
                } else {
                    blank_certificates(value);
                }
            }
        }
        _ => {}
    }
}

fn blank_bytes(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(blank_bytes),
        Value::Object(fields) => {
            for (name, value) in fields {
                match name.as_str() {
                    "inlineBytes" | "inlineString" => *value = Value::String(String::new()),
                    _ => blank_bytes(value),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn types_have_one_url_each() {
        for kind in ResourceType::ALL {
            assert_eq!(ResourceType::from_type_url(kind.type_url()), Some(kind));
        }
        assert_eq!(ResourceType::from_type_url("type.googleapis.com/nope"), None);
    }

    #[test]
    fn bundles_are_shown_and_what_stands_beside_a_key_is_not() {
        let mut shown = json!({
            "commonTlsContext": {
                "tlsCertificates": [{"privateKey": {"inlineBytes": "a"}, "certificateChain": {"inlineString": "b"}}],
                "validationContext": {"trustedCa": {"inlineBytes": "c"}},
            },
            "validationContext": {"trustedCa": {"inlineBytes": "d"}},
        });
        blank_certificates(&mut shown);
        let expected = json!({
            "commonTlsContext": {
                "tlsCertificates": [{"privateKey": {"inlineBytes": ""}, "certificateChain": {"inlineString": ""}}],
                "validationContext": {"trustedCa": {"inlineBytes": ""}},
            },
            "validationContext": {"trustedCa": {"inlineBytes": "d"}},
        });
        assert_eq!(shown, expected);
    }
}
