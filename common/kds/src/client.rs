//! One delta stream, consuming side, without I/O: responses come in as batches to write, answers go out once
//! they are written. One bad resource refuses itself only.

use std::collections::BTreeMap;

use kds_proto::core::Node;
use kds_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use kds_proto::envelope::{Envelope, split_wire_name};
use kds_proto::rpc::Status;
use model::Kind;

/// A resource that arrived, or why it could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Name on the wire.
    pub wire_name: String,
    /// Its content.
    pub envelope: Result<Envelope, String>,
}

/// What one response asks to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The kind.
    pub kind: Kind,
    /// New and changed resources.
    pub resources: Vec<Incoming>,
    /// Names and meshes of resources that are gone.
    pub removed: Vec<(String, String)>,
    /// The peer's revision that this shows, if the peer is one of ours.
    pub revision: Option<u64>,
    nonce: String,
}

/// One consuming stream.
pub struct ClientSession {
    node: Node,
    /// The node without metadata, for later requests.
    short_node: Node,
}

impl ClientSession {
    /// A stream on which this control plane introduces itself as `node`.
    pub fn new(node: Node) -> Self {
        let short_node = Node { id: node.id.clone(), ..Default::default() };
        Self { node, short_node }
    }

    /// The first requests, one for each kind with the versions that are already held.
    pub fn subscribe(
        &self,
        held: impl IntoIterator<Item = (Kind, BTreeMap<String, String>)>,
    ) -> Vec<DeltaDiscoveryRequest> {
        held.into_iter()
            .map(|(kind, versions)| DeltaDiscoveryRequest {
                node: Some(self.node.clone()),
                type_url: kind.info().name.into(),
                resource_names_subscribe: vec!["*".into()],
                initial_resource_versions: versions,
                ..Default::default()
            })
            .collect()
    }

    /// Reads a response. A type that is not known is refused as a whole: the answer is returned.
    ///
    /// # Errors
    /// The refusal to send.
    pub fn response(&self, response: DeltaDiscoveryResponse) -> Result<Batch, Box<DeltaDiscoveryRequest>> {
        let Some(kind) = Kind::by_name(&response.type_url) else {
            let reason = format!("type {:?} is not known here", response.type_url);
            return Err(Box::new(self.answer_to(&response.type_url, response.nonce, &[reason])));
        };
        let resources = response.resources.iter().map(|resource| Incoming {
            wire_name: resource.name.clone(),
            envelope: Envelope::decode(resource.resource.as_ref()).map_err(|error| error.to_string()),
        });
        let removed = response.removed_resources.iter().filter_map(|wire| split_wire_name(wire));
        Ok(Batch {
            kind,
            revision: response.system_version_info.parse().ok(),
            resources: resources.collect(),
            removed: removed.map(|(name, mesh)| (name.to_owned(), mesh.to_owned())).collect(),
            nonce: response.nonce,
        })
    }

    /// The answer to a batch that was written, but for the rejected resources.
    pub fn answer(&self, batch: &Batch, rejected: &[String]) -> DeltaDiscoveryRequest {
        self.answer_to(batch.kind.info().name, batch.nonce.clone(), rejected)
    }

    fn answer_to(&self, type_url: &str, nonce: String, rejected: &[String]) -> DeltaDiscoveryRequest {
        let refused = !rejected.is_empty();
        DeltaDiscoveryRequest {
            node: Some(self.short_node.clone()),
            type_url: type_url.into(),
            response_nonce: nonce,
            resource_names_subscribe: if refused { vec!["*".into()] } else { Vec::new() },
            error_detail: refused.then(|| Status { message: rejected.join("\n"), ..Default::default() }),
            ..Default::default()
        }
    }
}
