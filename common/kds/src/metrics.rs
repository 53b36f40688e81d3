//! Counts of what synchronisation sends and receives, by peer and kind.

use std::collections::BTreeMap;

use model::Kind;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::client::Batch;
use crate::incoming::Applied;
use crate::server::{Counters, ServerSession};

/// Labels of a count.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    peer: String,
    kind: String,
    result: &'static str,
}

/// Labels of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StreamLabels {
    peer: String,
    stream: &'static str,
}

/// Labels of what is known of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PeerLabels {
    peer: String,
}

/// The counts of a control plane. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    responses: Family<Labels, Counter>,
    resources: Family<Labels, Counter>,
    streams: Family<StreamLabels, Gauge>,
    revisions: Family<PeerLabels, Gauge>,
}

/// A stream is counted as open until this is dropped.
pub struct OpenStream(Gauge);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Counts that are exported through a registry.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "kds_responses",
            "KDS responses by what became of them: sent, acknowledged, rejected",
            metrics.responses.clone(),
        );
        registry.register(
            "kds_resources",
            "Resources received over KDS: changed or rejected",
            metrics.resources.clone(),
        );
        registry.register("kds_streams", "Open KDS streams", metrics.streams.clone());
        registry.register(
            "kds_peer_revision",
            "The peer's store revision that was received last: how far this side has followed",
            metrics.revisions.clone(),
        );
        metrics
    }

    /// Counts a stream as open.
    pub fn open(&self, peer: &str, stream: &'static str) -> OpenStream {
        let gauge = self.streams.get_or_create(&StreamLabels { peer: peer.into(), stream }).clone();
        gauge.inc();
        OpenStream(gauge)
    }

    /// Adds what a session counted since `seen`, which is brought up to date.
    pub fn served(&self, peer: &str, seen: &mut BTreeMap<Kind, Counters>, session: &ServerSession) {
        for (kind, now) in session.counters() {
            let before = seen.insert(*kind, *now).unwrap_or_default();
            for (result, count) in [
                ("sent", now.sent - before.sent),
                ("acknowledged", now.acknowledged - before.acknowledged),
                ("rejected", now.rejected - before.rejected),
            ] {
                add(&self.responses, peer, *kind, result, count);
            }
        }
    }

    /// Adds what became of a batch.
    pub(crate) fn received(&self, peer: &str, batch: &Batch, applied: &Applied) {
        let kind = batch.kind;
        if let Some(revision) = batch.revision.and_then(|revision| i64::try_from(revision).ok()) {
            self.revisions.get_or_create(&PeerLabels { peer: peer.into() }).set(revision);
        }
        add(&self.resources, peer, kind, "changed", applied.changed as u64);
        add(&self.resources, peer, kind, "rejected", applied.rejected.len() as u64);
    }
}

fn add(family: &Family<Labels, Counter>, peer: &str, kind: Kind, result: &'static str, count: u64) {
    if count > 0 {
        let labels = Labels { peer: peer.into(), kind: kind.name.into(), result };
        family.get_or_create(&labels).inc_by(count);
    }
}
