//! The index: one task that follows the store's watch and publishes snapshots. It lists only at the start and
//! after a compaction, and then takes over only what differs.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures::StreamExt;
use model::Kind;
use tokio::sync::watch;

use crate::contract::{Revision, Store, StoreError, Stored};
use crate::snapshot::Snapshot;

/// Receives the newest snapshot.
pub type SnapshotReceiver = watch::Receiver<Arc<Snapshot>>;

/// Resources read at a time while listing.
const PAGE: usize = 1000;

/// Reads the whole store and returns the receiver of snapshots and the task that keeps them current. The task
/// ends when every receiver is gone; it survives a store that is away.
///
/// # Errors
/// When the store cannot be read.
pub async fn start(store: Store) -> Result<(SnapshotReceiver, impl Future<Output = ()> + Send), StoreError> {
    let mut snapshot = Snapshot::default();
    let revision = reload(&store, &mut snapshot).await?;
    let (tx, rx) = watch::channel(Arc::new(snapshot));
    Ok((rx, follow(store, tx, revision)))
}

async fn reload(store: &Store, snapshot: &mut Snapshot) -> Result<Revision, StoreError> {
    // Events between the first and the last list are applied twice, which changes nothing.
    let mut oldest: Option<Revision> = None;
    for kind in Kind::all() {
        let (live, revision) = list(store, kind).await?;
        oldest = Some(oldest.map_or(revision, |oldest| oldest.min(revision)));
        snapshot.reset(kind, live, revision);
    }
    Ok(oldest.unwrap_or_default())
}

async fn list(store: &Store, kind: Kind) -> Result<(Vec<Stored>, Revision), StoreError> {
    let mut live = Vec::new();
    let mut start = None;
    let mut first = None;
    loop {
        let page = store.list(kind, None, start.as_ref(), PAGE).await?;
        first.get_or_insert(page.revision);
        live.extend(page.items);
        start = page.next;
        if start.is_none() {
            return Ok((live, first.unwrap_or_default()));
        }
    }
}

async fn follow(store: Store, tx: watch::Sender<Arc<Snapshot>>, mut revision: Revision) {
    let backoff = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(5))
        .with_jitter()
        .without_max_times();
    let mut delays = backoff.build();
    loop {
        let ended = tokio::select! {
            () = tx.closed() => return,
            ended = drain(&store, &tx, &mut revision, || delays = backoff.build()) => ended,
        };
        match ended {
            StoreError::Compacted { .. } => {
                let mut snapshot = Snapshot::clone(&tx.borrow());
                match reload(&store, &mut snapshot).await {
                    Ok(listed) => {
                        revision = listed;
                        tx.send_replace(Arc::new(snapshot));
                        continue;
                    }
                    Err(error) => tracing::warn!(%error, "cannot list the store"),
                }
            }
            error => tracing::warn!(%error, "the watch of the store ended"),
        }
        tokio::time::sleep(delays.next().unwrap_or(Duration::from_secs(5))).await;
    }
}

async fn drain(
    store: &Store,
    tx: &watch::Sender<Arc<Snapshot>>,
    revision: &mut Revision,
    mut on_progress: impl FnMut(),
) -> StoreError {
    let mut events = match store.watch(*revision).await {
        Ok(events) => events,
        Err(error) => return error,
    };
    while let Some(batch) = events.next().await {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => return error,
        };
        on_progress();
        let mut snapshot = Snapshot::clone(&tx.borrow());
        for event in &batch {
            *revision = event.revision.max(*revision);
            // An event older than what a list already showed must not undo it.
            let held = snapshot.get(event.change.key()).map(|stored| stored.revision);
            if held.is_none_or(|held| held < event.revision) {
                snapshot.apply(event);
            }
        }
        tx.send_replace(Arc::new(snapshot));
    }
    StoreError::Unavailable { reason: "the watch ended".into() }
}
