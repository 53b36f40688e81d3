//! The one loop that runs all controllers: follows snapshots, plans each affected mesh, commits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::Timestamp;
use store::index::SnapshotReceiver;
use store::{Op, Snapshot, Store, StoreError};

use super::{Settings, affected, plan_mesh};
use crate::identity::Clock;

/// Writes in one commit: etcd takes 128 operations, and a compare for each counts too.
const OPS_PER_COMMIT: usize = 60;

/// Shortest and longest wait after a store that does not take writes.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// Longest sleep before the clock is read again: the host's clock may be set.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// The loop's state.
pub(super) struct Runner {
    store: Store,
    settings: Settings,
    clock: Clock,
    /// The newest snapshot whose changes were looked at.
    seen: Arc<Snapshot>,
    /// Meshes to plan at the next snapshot, because a commit met a conflict.
    stale: BTreeSet<String>,
    /// Meshes to plan again soon, because the store did not take their writes.
    failed: BTreeSet<String>,
    /// When to plan a mesh again, whatever changes until then.
    wakes: BTreeMap<String, Timestamp>,
    backoff: Duration,
}

impl Runner {
    pub(super) fn new(store: Store, settings: Settings, clock: Clock) -> Self {
        Self {
            store,
            settings,
            clock,
            seen: Arc::default(),
            stale: BTreeSet::new(),
            failed: BTreeSet::new(),
            wakes: BTreeMap::new(),
            backoff: BACKOFF.0,
        }
    }

    /// Runs until there are no more snapshots.
    pub(super) async fn run(mut self, mut snapshots: SnapshotReceiver) {
        loop {
            let snapshot = Arc::clone(&snapshots.borrow_and_update());
            self.pass(&snapshot).await;
            tokio::select! {
                changed = snapshots.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(self.until_next()) => {}
            }
        }
    }

    /// Plans and commits every mesh that needs it.
    async fn pass(&mut self, snapshot: &Arc<Snapshot>) {
        let mut meshes = affected::meshes(snapshot, &self.seen);
        if !Arc::ptr_eq(snapshot, &self.seen) {
            meshes.append(&mut self.stale);
        }
        meshes.append(&mut self.failed);
        let now = (self.clock)();
        meshes.extend(self.wakes.iter().filter(|(_, at)| **at <= now).map(|(mesh, _)| mesh.clone()));
        self.seen = Arc::clone(snapshot);
        for mesh in meshes {
            self.reconcile(snapshot, mesh).await;
        }
        if self.failed.is_empty() {
            self.backoff = BACKOFF.0;
        }
    }

    async fn reconcile(&mut self, snapshot: &Snapshot, mesh: String) {
        let (ops, wake) = plan_mesh(snapshot, &mesh, &self.settings, (self.clock)());
        match wake {
            Some(at) => self.wakes.insert(mesh.clone(), at),
            None => self.wakes.remove(&mesh),
        };
        match self.commit(ops).await {
            Ok(()) => {}
            // Somebody else was faster; what they wrote arrives as the next snapshot.
            Err(StoreError::Conflict { key }) => {
                tracing::debug!(%mesh, %key, "planning again after a conflict");
                self.stale.insert(mesh);
            }
            Err(error) => {
                tracing::warn!(%mesh, %error, "cannot write what follows from a change");
                self.failed.insert(mesh);
            }
        }
    }

    async fn commit(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        for part in ops.chunks(OPS_PER_COMMIT) {
            self.store.commit(part.to_vec()).await?;
        }
        Ok(())
    }

    fn until_next(&mut self) -> Duration {
        let now = (self.clock)();
        let wake = self.wakes.values().min().map_or(LONGEST_SLEEP, |at| at.since(now)).min(LONGEST_SLEEP);
        if self.failed.is_empty() {
            return wake;
        }
        let retry = self.backoff;
        self.backoff = (retry * 2).min(BACKOFF.1);
        wake.min(retry)
    }
}
