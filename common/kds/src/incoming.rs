//! How what arrives is written: ownership is checked, labels that a peer must not choose are set, one bad
//! resource is left out with its reason, and everything else is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kds_proto::envelope::{Content, Envelope};
use model::kind::Flow;
use model::payload::SpecFormat;
use model::{Key, Kind, Labels, Payload, Resource, Timestamp, labels, validation};
use store::{Expect, Op, Store, StoreError, Stored};

use crate::client::Batch;
use crate::guard::{Guard, is_judged};
use crate::metrics::Metrics;

/// Which side receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// A zone, from the global.
    Zone,
    /// The global, from the zone whose connection was authenticated.
    Global {
        /// The zone's name.
        zone: String,
    },
}

impl Role {
    /// Name of the other side.
    pub fn peer(&self) -> &str {
        match self {
            Self::Zone => "global",
            Self::Global { zone } => zone,
        }
    }

    /// Whether a stored resource came from the peer of this stream.
    pub fn is_from_peer(&self, kind: Kind, of: &Labels) -> bool {
        match self {
            // What a zone may not write itself is the global's, whatever its labels say.
            Self::Zone => {
                !kind.flow.has(Flow::PROVIDED_BY_ZONE)
                    || of.get(labels::ORIGIN).is_some_and(|origin| origin == "global")
            }
            Self::Global { zone } => {
                of.get(labels::ORIGIN).is_some_and(|origin| origin == "zone")
                    && of.get(labels::ZONE) == Some(zone)
            }
        }
    }
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Written or removed.
    pub changed: usize,
    /// Left out, each with its name and reason.
    pub rejected: Vec<String>,
}

/// Writes what arrives.
#[derive(Clone)]
pub struct Receiver {
    store: Store,
    role: Role,
    metrics: Metrics,
    guard: Guard,
}

/// Writes in one commit: etcd's limit for one transaction.
const COMMIT: usize = 128;

impl Receiver {
    /// Writes into a store for one side.
    pub fn new(store: Store, role: Role, metrics: Metrics) -> Self {
        Self { store, role, metrics, guard: Guard::default() }
    }

    /// With a guard that others can look into.
    #[must_use]
    pub fn guarded(self, guard: Guard) -> Self {
        Self { guard, ..self }
    }

    /// A new stream of the peer begins.
    pub(crate) fn restart(&self) {
        self.guard.restart(&self.role);
    }

    /// Which side receives.
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// Writes a batch. A conflict with a local writer is tried once more with what is there then.
    ///
    /// # Errors
    /// When the store fails; nothing of the failed commit was written, and the batch may be applied again.
    #[tracing::instrument(
        name = "kds apply", skip_all,
        fields(peer = self.role.peer(), kind = %batch.kind, resources = batch.resources.len())
    )]
    pub async fn apply(&self, batch: &Batch, now: Timestamp) -> Result<Applied, StoreError> {
        let mut applied = Applied::default();
        let mut ops = Vec::new();
        for incoming in &batch.resources {
            let prepared = match &incoming.envelope {
                Ok(envelope) => self.prepare(batch.kind, envelope, now).await?,
                Err(reason) => Err(reason.clone()),
            };
            match prepared {
                Ok(op) => ops.extend(op),
                Err(reason) => applied.rejected.push(format!("{}: {reason}", incoming.wire_name)),
            }
        }
        self.returned(batch);
        let (removals, withheld) = self.removals(batch, now).await?;
        ops.extend(removals);
        applied.rejected.extend(withheld);
        applied.changed = ops.len();
        for ops in ops.chunks(COMMIT) {
            self.commit(ops.to_vec()).await?;
        }
        self.metrics.received(self.role.peer(), batch, &applied);
        Ok(applied)
    }

    async fn commit(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        match self.store.commit(ops.clone()).await {
            Err(StoreError::Conflict { .. }) => {}
            done => return done.map(drop),
        }
        // Somebody changed one of them since it was read: what arrived replaces its spec all the same, one by one.
        for op in ops {
            let current = self.store.get(op.key()).await?;
            let expect = current.as_ref().map_or(Expect::Absent, |stored| Expect::At(stored.revision));
            let op = match op {
                Op::Put(resource, _) => Op::Put(keep_status(&self.role, resource, current.as_ref()), expect),
                Op::Delete(key, _) => Op::Delete(key, expect),
            };
            self.store.commit(vec![op]).await?;
        }
        Ok(())
    }

    /// Removals that waited are off for what is there again.
    fn returned(&self, batch: &Batch) {
        let there = batch.resources.iter().filter_map(|incoming| incoming.envelope.as_ref().ok());
        let keys = there.map(|envelope| Key::new(batch.kind, &envelope.mesh, &envelope.name)).collect();
        self.guard.returned(&self.role, &keys);
    }

    /// The removals of a batch that may be carried out, and why others may not yet.
    async fn removals(&self, batch: &Batch, now: Timestamp) -> Result<(Vec<Op>, Option<String>), StoreError> {
        let (mut ops, mut judged) = (Vec::new(), BTreeMap::new());
        for (name, mesh) in &batch.removed {
            let key = Key::new(batch.kind, mesh, name);
            let Some(stored) = self.store.get(&key).await? else { continue };
            let op = Op::Delete(key.clone(), Expect::At(stored.revision));
            if is_judged(&self.role, &stored.resource) {
                judged.insert(key, op);
            } else if self.role.is_from_peer(batch.kind, stored.resource.labels()) {
                ops.push(op);
            }
        }
        let keys: BTreeSet<Key> = judged.keys().cloned().collect();
        match self.guard.admit((&self.store, &self.role), batch.kind, &keys, now).await? {
            Ok(()) => {
                ops.extend(judged.into_values());
                Ok((ops, None))
            }
            Err(reason) => Ok((ops, Some(reason))),
        }
    }

    async fn prepare(
        &self,
        kind: Kind,
        envelope: &Envelope,
        now: Timestamp,
    ) -> Result<Result<Option<Op>, String>, StoreError> {
        let mut builder = Resource::builder(Key::new(kind, &envelope.mesh, &envelope.name)).at(now);
        builder.labels = envelope.labels.clone();
        match (payload(kind.format, &envelope.spec), status(kind, envelope)) {
            (Ok(spec), Ok(status)) => (builder.spec, builder.status) = (spec, status),
            (Err(reason), _) | (_, Err(reason)) => return Ok(Err(reason)),
        }
        if let Role::Global { zone } = &self.role {
            builder.labels.insert(labels::ORIGIN.into(), "zone".into());
            builder.labels.insert(labels::ZONE.into(), zone.clone());
        }
        if !self.role.is_from_peer(kind, &builder.labels) {
            return Ok(Err("user error: the resource is not of the peer that sent it".into()));
        }
        let current = self.store.get(&builder.key).await?;
        if let Some(stored) = &current {
            if !self.role.is_from_peer(kind, stored.resource.labels()) {
                let owner = stored
                    .resource
                    .origin()
                    .map_or_else(|| "this control plane".into(), |origin| origin.to_string());
                return Ok(Err(format!("user error: a resource of this name belongs to {owner}")));
            }
            builder.created = stored.resource.created();
        }
        let resource = builder.build();
        if let Err(violations) = validation::validate(&resource).into_result() {
            return Ok(Err(violations.to_string()));
        }
        let resource = keep_status(&self.role, Arc::new(resource), current.as_ref());
        if current.as_ref().is_some_and(|stored| stored.resource.same_content(&resource)) {
            return Ok(Ok(None));
        }
        let expect = current.map_or(Expect::Absent, |stored| Expect::At(stored.revision));
        Ok(Ok(Some(Op::Put(resource, expect))))
    }
}

/// Removes those of the keys that are the peer's; answers how many.
pub(crate) async fn delete(
    store: &Store,
    role: &Role,
    keys: impl Iterator<Item = &Key> + Send,
) -> Result<usize, StoreError> {
    let mut removed = 0;
    for key in keys {
        let current = store.get(key).await?;
        let owned = current.filter(|stored| role.is_from_peer(key.kind, stored.resource.labels()));
        let Some(stored) = owned else { continue };
        match store.commit(vec![Op::Delete(key.clone(), Expect::At(stored.revision))]).await {
            // Somebody writes it: it is not what the peer removed any more.
            Err(StoreError::Conflict { .. }) => {}
            done => {
                done?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}

/// A zone observes status itself: what it has is kept. The global takes the zone's.
fn keep_status(role: &Role, resource: Arc<Resource>, current: Option<&Stored>) -> Arc<Resource> {
    match (role, current.and_then(|stored| stored.resource.raw_status())) {
        (Role::Zone, Some(status)) if resource.raw_status() != Some(status) => {
            let mut builder = resource.to_builder();
            builder.status = Some(status.clone());
            Arc::new(builder.build())
        }
        _ => resource,
    }
}

fn payload(format: SpecFormat, content: &Content) -> Result<Payload, String> {
    match (format, content) {
        (SpecFormat::Proto(codec), Content::Proto { message, bytes }) => {
            if *message != codec.full_name() {
                return Err(format!("expected a {}, got a {message}", codec.full_name()));
            }
            Ok(Payload::from_bytes(bytes.clone()))
        }
        (SpecFormat::Proto(codec), Content::Json(_)) => {
            Err(format!("expected a {}, got JSON", codec.full_name()))
        }
        (SpecFormat::Json(_), content) => json(content),
    }
}

fn json(content: &Content) -> Result<Payload, String> {
    match content {
        Content::Json(text) => Ok(Payload::from_bytes(text.clone())),
        Content::Proto { message, .. } => Err(format!("expected JSON, got a {message}")),
    }
}

fn status(kind: Kind, envelope: &Envelope) -> Result<Option<Payload>, String> {
    match (&envelope.status, kind.empty_status) {
        (Some(status), Some(_)) => json(status).map(Some),
        (None, Some(empty)) => Ok(Some(Payload::from_bytes(empty))),
        (_, None) => Ok(None),
    }
}
