//! Who a proxy says it is: Envoy's node, and the metadata that its bootstrap put there.

use envoy_api::envoy::config::core::v3::Node;
use kds_proto::mesh::{EnvoyVersion, KumaDpVersion, Version};
use model::{Key, Kind};
use prost_types::{Struct, Value, value};
use store::Snapshot;

/// What Envoy calls itself.
const ENVOY: &str = "envoy";

/// A stream that does not say who it is for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NodeError {
    /// The first message has no node.
    #[error("the first request of a stream has to name its node")]
    Missing,
    /// The id is not `<mesh>.<name>`.
    #[error("node id {0:?} is not <mesh>.<dataplane>")]
    Id(String),
}

/// The proxy at the other end of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Key of its Dataplane.
    pub(crate) key: Key,
    /// As it came.
    pub(crate) metadata: Struct,
    /// Whether it is a real Envoy, which asks for listeners sooner or later.
    pub(crate) is_envoy: bool,
}

impl Peer {
    /// Reads the node of a first request. Names of meshes may have dots: of the ways to split an id, the first
    /// that gives a mesh that exists.
    pub(crate) fn of(node: Option<&Node>, snapshot: &Snapshot) -> Result<Self, NodeError> {
        let node = node.ok_or(NodeError::Missing)?;
        let splits = || node.id.match_indices('.').map(|(at, _)| (&node.id[..at], &node.id[at + 1..]));
        let exists = |(mesh, _): &(&str, &str)| snapshot.resource(&Key::global(Kind::MESH, mesh)).is_some();
        let split = splits().find(exists).or_else(|| splits().next());
        let split = split.filter(|(mesh, name)| !mesh.is_empty() && !name.is_empty());
        let (mesh, name) = split.ok_or_else(|| NodeError::Id(node.id.clone()))?;
        Ok(Self {
            key: Key::new(Kind::DATAPLANE, mesh, name),
            metadata: node.metadata.clone().unwrap_or_default(),
            is_envoy: node.user_agent_name == ENVOY,
        })
    }

    /// A text of the metadata.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        text(&self.metadata, key).filter(|text| !text.is_empty())
    }

    /// The Dataplane that the proxy brings along, as text.
    pub(crate) fn dataplane(&self) -> Option<&str> {
        self.text("dataplane.resource")
    }

    /// What runs at the other end.
    pub(crate) fn version(&self) -> Version {
        let version = field(&self.metadata, "version");
        let part = |key: &str| version.and_then(|version| field(version, key));
        let words = |part: Option<&Struct>, key: &str| {
            part.and_then(|part| text(part, key)).unwrap_or_default().to_owned()
        };
        let (agent, envoy) = (part("kumaDp"), part("envoy"));
        Version {
            kuma_dp: agent.map(|_| KumaDpVersion {
                version: words(agent, "version"),
                git_tag: words(agent, "gitTag"),
                git_commit: words(agent, "gitCommit"),
                build_date: words(agent, "buildDate"),
                kuma_cp_compatible: true,
            }),
            envoy: envoy.map(|part| EnvoyVersion {
                version: words(envoy, "version"),
                build: words(envoy, "build"),
                kuma_dp_compatible: matches!(
                    part.fields.get("kumaDpCompatible"),
                    Some(Value { kind: Some(value::Kind::BoolValue(true)) })
                ),
            }),
            dependencies: Default::default(),
        }
    }
}

fn text<'a>(fields: &'a Struct, key: &str) -> Option<&'a str> {
    match fields.fields.get(key)?.kind.as_ref()? {
        value::Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

fn field<'a>(fields: &'a Struct, key: &str) -> Option<&'a Struct> {
    match fields.fields.get(key)?.kind.as_ref()? {
        value::Kind::StructValue(inner) => Some(inner),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Resource;

    fn of(id: &str, snapshot: &Snapshot) -> Result<String, NodeError> {
        let node = Node { id: id.into(), ..Default::default() };
        Peer::of(Some(&node), snapshot).map(|peer| peer.key.to_string())
    }

    #[test]
    fn the_id_names_mesh_and_dataplane() {
        let empty = Snapshot::default();
        assert_eq!(of("default.web-1", &empty).unwrap(), "Dataplane default/web-1");
        assert_eq!(of("default.web.1", &empty).unwrap(), "Dataplane default/web.1");
        let dotted = empty.clone().with(Resource::builder(Key::global(Kind::MESH, "a.b")).build());
        assert_eq!(of("a.b.web", &dotted).unwrap(), "Dataplane a.b/web");
        for id in ["", "default", ".web", "default."] {
            assert_eq!(of(id, &empty), Err(NodeError::Id(id.into())));
        }
        assert_eq!(Peer::of(None, &empty).err(), Some(NodeError::Missing));
    }
}
