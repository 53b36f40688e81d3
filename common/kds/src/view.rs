//! What one control plane offers another: encoded once per change and shared by all streams.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use kds_proto::envelope::{Content, Envelope, wire_name};
use model::payload::SpecFormat;
use model::{Key, Kind, Payload, Resource};
use sha2::{Digest, Sha256};
use store::Snapshot;
use store::index::SnapshotReceiver;
use tokio::sync::watch;

use crate::outgoing::Outgoing;

/// The views of a control plane: their receiver, and the task that makes one of each snapshot in which something
/// that is offered, or who may see it, changed.
pub fn follow(
    mut snapshots: SnapshotReceiver,
    outgoing: Outgoing,
) -> (watch::Receiver<Arc<View>>, impl Future<Output = ()> + Send) {
    let first = View::default().advance(snapshots.borrow_and_update().clone(), &outgoing);
    let (tx, rx) = watch::channel(Arc::new(first));
    let kinds: Vec<Kind> = outgoing.kinds().into_iter().chain([Kind::ZONE, Kind::MESH]).collect();
    let task = async move {
        loop {
            tokio::select! {
                () = tx.closed() => return,
                changed = snapshots.changed() => if changed.is_err() { return },
            }
            let snapshot = snapshots.borrow_and_update().clone();
            let current = Arc::clone(&tx.borrow());
            if kinds.iter().any(|kind| snapshot.differs(current.snapshot(), *kind)) {
                tx.send_replace(Arc::new(current.advance(snapshot, &outgoing)));
            }
        }
    };
    (rx, task)
}

/// A resource as it goes over the wire, encoded once.
#[derive(Debug, PartialEq, Eq)]
pub struct WireResource {
    /// `<name>.<mesh>`.
    pub name: Arc<str>,
    /// Hash of the content, hex.
    pub version: Arc<str>,
    /// The encoded envelope.
    pub bytes: Bytes,
    /// The zone that authored it, for resources that cross zones: that zone itself is not sent it.
    pub from_zone: Option<Arc<str>>,
    /// Its mesh; empty for global scope.
    pub mesh: Arc<str>,
}

impl WireResource {
    /// Encodes an envelope.
    pub fn new(envelope: &Envelope, from_zone: Option<&str>) -> Self {
        let bytes = envelope.encode();
        Self {
            name: wire_name(&envelope.name, &envelope.mesh).into(),
            version: version_of(&bytes).into(),
            bytes: bytes.into(),
            from_zone: from_zone.map(Into::into),
            mesh: envelope.mesh.as_str().into(),
        }
    }
}

/// The version of an encoded envelope: lower-case hex SHA-256.
pub(crate) fn version_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn content(kind: Kind, payload: &Payload) -> Content {
    match kind.format {
        SpecFormat::Proto(codec) => {
            Content::Proto { message: codec.full_name(), bytes: payload.bytes().to_vec() }
        }
        SpecFormat::Json(_) => Content::Json(payload.bytes().to_vec()),
    }
}

/// The envelope of a resource as it is stored.
pub(crate) fn envelope(resource: &Resource) -> Envelope {
    Envelope {
        name: resource.name().into(),
        mesh: resource.mesh().into(),
        labels: resource.labels().clone(),
        spec: content(resource.kind(), resource.raw_spec()),
        // Every kind with a status writes it as JSON.
        status: resource.raw_status().map(|status| Content::Json(status.bytes().to_vec())),
    }
}

/// Wire resources of one kind by wire name.
pub type WireMap = OrdMap<Arc<str>, Arc<WireResource>>;

/// Everything a control plane offers at a revision.
#[derive(Clone, Debug, Default)]
pub struct View {
    kinds: BTreeMap<Kind, WireMap>,
    /// Wire names by store key, to find what a change touches.
    names: OrdMap<Key, Arc<str>>,
    snapshot: Arc<Snapshot>,
}

impl View {
    /// The wire resources of a kind.
    pub fn kind(&self, kind: Kind) -> Option<&WireMap> {
        self.kinds.get(&kind)
    }

    /// The snapshot it was made from.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// The view of a newer snapshot: only what changed is mapped and encoded again.
    pub fn advance(&self, snapshot: Arc<Snapshot>, outgoing: &Outgoing) -> Self {
        let mut next = Self { snapshot: Arc::clone(&snapshot), ..self.clone() };
        for kind in outgoing.kinds() {
            for key in snapshot.changed_keys(&self.snapshot, kind) {
                next.replace(&key, snapshot.resource(&key).and_then(|resource| outgoing.map(resource)));
            }
            next.kinds.entry(kind).or_default();
        }
        next
    }

    fn replace(&mut self, key: &Key, wire: Option<WireResource>) {
        let map = self.kinds.entry(key.kind).or_default();
        let old = self.names.get(key).cloned();
        match wire {
            Some(wire) => {
                if let Some(old) = old.filter(|old| *old != wire.name) {
                    map.remove(&old);
                }
                if let Some(other) = map.get(&wire.name)
                    && self.names.get(key) != Some(&wire.name)
                {
                    tracing::warn!(%key, name = %other.name, "two resources have one name on the wire");
                }
                self.names.insert(key.clone(), Arc::clone(&wire.name));
                if map.get(&wire.name).is_none_or(|held| **held != wire) {
                    map.insert(Arc::clone(&wire.name), Arc::new(wire));
                }
            }
            None => {
                if let Some(old) = old {
                    map.remove(&old);
                    self.names.remove(key);
                }
            }
        }
    }
}
