//! What two control planes tell each other of themselves: the node of a request.

use std::collections::BTreeMap;

use kds_proto::core::Node;
use prost_types::{ListValue, Struct, Value, value::Kind as ValueKind};

/// Feature of our own peers: a first answer may be split over several responses, because nothing is deleted
/// by absence.
pub const FEATURE_PAGED: &str = "isthmus-paged";

/// Features that every one of our control planes has.
const FEATURES: [&str; 6] = [
    "zone-token",
    "hash-suffix",
    "hg-mz-selector",
    "producer-policy-flow",
    "optional-top-level-target-ref",
    FEATURE_PAGED,
];

/// What a peer says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Zone name.
    pub id: String,
    /// Version of its control plane.
    pub version: String,
    /// Instance id.
    pub instance: String,
    /// Its effective configuration, JSON, secrets masked.
    pub config: String,
    /// Its features.
    pub features: Vec<String>,
}

impl Peer {
    /// Reads the node of a first request.
    pub fn of(node: &Node) -> Self {
        let field = |name: &str| node.metadata.as_ref().and_then(|metadata| metadata.fields.get(name));
        let text = |value: Option<&Value>| match value.and_then(|value| value.kind.as_ref()) {
            Some(ValueKind::StringValue(text)) => text.clone(),
            _ => String::new(),
        };
        let list = |value: Option<&Value>| match value.and_then(|value| value.kind.as_ref()) {
            Some(ValueKind::ListValue(list)) => list.values.iter().map(|item| text(Some(item))).collect(),
            _ => Vec::new(),
        };
        let inner = |value: Option<&Value>, name: &str| match value.and_then(|value| value.kind.as_ref()) {
            Some(ValueKind::StructValue(fields)) => fields.fields.get(name).cloned(),
            _ => None,
        };
        let cp = inner(field("version"), "kumaCp");
        Self {
            id: node.id.clone(),
            version: text(inner(cp.as_ref(), "version").as_ref()),
            instance: text(field("control-plane-id")),
            config: text(field("config")),
            features: list(field("features")),
        }
    }

    /// Whether the peer has a feature.
    pub fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|has| has == feature)
    }
}

fn text(value: &str) -> Value {
    Value { kind: Some(ValueKind::StringValue(value.into())) }
}

fn fields<const N: usize>(entries: [(&str, Value); N]) -> Struct {
    Struct {
        fields: entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<BTreeMap<_, _>>(),
    }
}

fn object(fields: Struct) -> Value {
    Value { kind: Some(ValueKind::StructValue(fields)) }
}

/// Our own node for first requests: the zone's name, version, instance, masked configuration and features.
pub fn node(zone: &str, version: &str, instance: &str, config: &str) -> Node {
    let features = ListValue { values: FEATURES.iter().map(|feature| text(feature)).collect() };
    let version = fields([("kumaCp", object(fields([("version", text(version))])))]);
    let metadata = fields([
        ("version", object(version)),
        ("config", text(config)),
        ("control-plane-id", text(instance)),
        ("features", Value { kind: Some(ValueKind::ListValue(features)) }),
    ]);
    Node { id: zone.into(), metadata: Some(metadata), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_tells_what_its_peer_reads() {
        let peer = Peer::of(&node("east", "0.1.0", "host-1a2b", "{}"));
        assert_eq!((peer.id.as_str(), peer.version.as_str()), ("east", "0.1.0"));
        assert_eq!((peer.instance.as_str(), peer.config.as_str()), ("host-1a2b", "{}"));
        assert!(peer.has(FEATURE_PAGED) && !peer.has("other"));
    }
}
