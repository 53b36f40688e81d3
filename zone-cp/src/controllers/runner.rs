//! The one loop that runs all controllers: follows snapshots, plans each affected mesh, commits.

use std::sync::Arc;
use std::time::Duration;

use store::index::SnapshotReceiver;
use store::{Op, Revision, Snapshot, Store, StoreError};

use super::Settings;
use super::memory::Memory;
use super::scope::{Scope, Scopes};
use crate::identity::Clock;

/// Writes in one commit: etcd takes 128 operations, and a compare for each counts too.
const OPS_PER_COMMIT: usize = 60;

/// Shortest and longest wait after a store that does not take writes.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// Longest sleep before the clock is read again: the host's clock may be set.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// Longest wait for a snapshot to show what was committed.
const ECHO: Duration = Duration::from_secs(1);

/// The loop's state.
pub(super) struct Runner {
    store: Store,
    clock: Clock,
    memory: Memory,
    /// The newest snapshot that was planned.
    planned: Arc<Snapshot>,
    /// To plan at the next snapshot, because a commit met a conflict.
    stale: Scopes,
    /// To plan again soon, because the store did not take the writes.
    failed: Scopes,
    /// The newest commit.
    written: Revision,
    backoff: Duration,
}

impl Runner {
    pub(super) fn new(store: Store, settings: Settings, clock: Clock) -> Self {
        Self {
            store,
            clock,
            memory: Memory::new(settings),
            planned: Arc::default(),
            stale: Scopes::default(),
            failed: Scopes::default(),
            written: Revision::default(),
            backoff: BACKOFF.0,
        }
    }

    /// Runs until there are no more snapshots.
    pub(super) async fn run(mut self, mut snapshots: SnapshotReceiver) {
        loop {
            // Planned without what was just written, an address might be given twice.
            let echoed = snapshots.wait_for(|snapshot| snapshot.revision() >= self.written);
            if let Ok(Err(_)) = tokio::time::timeout(ECHO, echoed).await {
                return;
            }
            let snapshot = Arc::clone(&snapshots.borrow_and_update());
            self.pass(&snapshot).await;
            tokio::select! {
                changed = snapshots.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(self.until_next()) => {}
            }
        }
    }

    /// Plans and commits what needs it.
    async fn pass(&mut self, snapshot: &Arc<Snapshot>) {
        let mut scopes = self.memory.advance(snapshot);
        if !Arc::ptr_eq(snapshot, &self.planned) {
            scopes.merge(std::mem::take(&mut self.stale));
        }
        scopes.merge(std::mem::take(&mut self.failed));
        scopes.merge(self.memory.due((self.clock)()));
        self.planned = Arc::clone(snapshot);
        for (mesh, scope) in scopes {
            self.reconcile(&mesh, scope).await;
        }
        if self.failed.is_empty() {
            self.backoff = BACKOFF.0;
        }
    }

    async fn reconcile(&mut self, mesh: &str, scope: Scope) {
        let ops = self.memory.plan(mesh, &scope, (self.clock)());
        match self.commit(ops).await {
            Ok(()) => {}
            // Somebody else was faster; what they wrote arrives as the next snapshot.
            Err(StoreError::Conflict { key }) => {
                tracing::debug!(%mesh, %key, "planning again after a conflict");
                self.stale.add(mesh, scope);
            }
            Err(error) => {
                tracing::warn!(%mesh, %error, "cannot write what follows from a change");
                self.failed.add(mesh, scope);
            }
        }
    }

    async fn commit(&mut self, ops: Vec<Op>) -> Result<(), StoreError> {
        for part in ops.chunks(OPS_PER_COMMIT) {
            self.written = self.store.commit(part.to_vec()).await?;
        }
        Ok(())
    }

    fn until_next(&mut self) -> Duration {
        let now = (self.clock)();
        let wake = self.memory.next_due().map_or(LONGEST_SLEEP, |at| at.since(now)).min(LONGEST_SLEEP);
        if self.failed.is_empty() {
            return wake;
        }
        let retry = self.backoff;
        self.backoff = (retry * 2).min(BACKOFF.1);
        wake.min(retry)
    }
}
