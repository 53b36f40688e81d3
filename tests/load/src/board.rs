//! Where peers note how far they are, and where whoever measures waits for them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::bail;
use model::Kind;
use tokio::sync::watch;

/// Wire names and versions of one kind, as a peer holds them.
pub(crate) type Held = BTreeMap<Arc<str>, Arc<str>>;

/// How far one zone is.
#[derive(Default)]
pub(crate) struct Progress {
    /// What it holds, by kind.
    pub(crate) held: BTreeMap<Kind, Held>,
    /// Kinds that were answered since it connected.
    pub(crate) answered: usize,
    /// Newest marker of the probe it has acknowledged.
    pub(crate) marker: u64,
    /// Resources removed by name.
    pub(crate) removed: u64,
    /// Payload received, bytes, before compression.
    pub(crate) bytes: u64,
    /// Responses received.
    pub(crate) responses: u64,
    /// Whether the global has acknowledged all it was offered of a kind, and in how many responses.
    pub(crate) offered: BTreeMap<Kind, (bool, u64)>,
    /// Why its last stream ended.
    pub(crate) ended: Option<String>,
}

/// All zones of a run.
pub(crate) struct Board {
    zones: Vec<Mutex<Progress>>,
    steps: watch::Sender<u64>,
    connections: AtomicU64,
}

impl Board {
    pub(crate) fn new(zones: usize) -> Arc<Self> {
        let zones = (0..zones).map(|_| Mutex::default()).collect();
        Arc::new(Self { zones, steps: watch::Sender::new(0), connections: AtomicU64::new(0) })
    }

    /// The progress of a zone. What is changed through it shows after [`Board::step`].
    pub(crate) fn zone(&self, index: usize) -> MutexGuard<'_, Progress> {
        self.zones[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All zones.
    pub(crate) fn all(&self) -> impl Iterator<Item = MutexGuard<'_, Progress>> {
        (0..self.zones.len()).map(|index| self.zone(index))
    }

    /// Wakes whoever waits.
    pub(crate) fn step(&self) {
        self.steps.send_modify(|step| *step += 1);
    }

    /// Counts a connection that was made.
    pub(crate) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections made so far.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Waits until all zones are as wanted; answers when that was.
    pub(crate) async fn until(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Progress) -> bool,
    ) -> anyhow::Result<Instant> {
        let mut steps = self.steps.subscribe();
        let deadline = Instant::now() + limit;
        // Zones only go forward: one that was there needs no second look.
        let mut open: Vec<usize> = (0..self.zones.len()).collect();
        loop {
            steps.borrow_and_update();
            open.retain(|index| !wanted(&self.zone(*index)));
            if open.is_empty() {
                return Ok(Instant::now());
            }
            if tokio::time::timeout_at(deadline.into(), steps.changed()).await.is_err() {
                let (first, zone) = (open[0], self.zone(open[0]));
                bail!(
                    "{what}: {} of {} zones are not there after {limit:?}; zone {first} holds {:?}, its stream {}",
                    open.len(),
                    self.zones.len(),
                    zone.held.iter().map(|(kind, held)| (kind.name, held.len())).collect::<Vec<_>>(),
                    zone.ended.as_deref().unwrap_or("is open"),
                );
            }
        }
    }
}
