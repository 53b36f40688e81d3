//! The in-memory core of the memory and embedded backends: current resources, the newest events, and a signal
//! that wakes watchers. Signals carry no data: a watcher reads what it has not seen.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::stream;
use model::{Key, Kind};
use tokio::sync::watch;

use crate::contract::{Change, Event, Expect, Op, Page, Revision, StoreError, Stored, WatchStream};

/// Events kept for watchers that are behind. A watcher reads whole batches, so this covers the largest burst
/// between two of its wakeups; one that is further behind lists again.
const LOG_CAPACITY: usize = 65_536;

struct State {
    resources: BTreeMap<Key, Stored>,
    revision: Revision,
    events: VecDeque<Event>,
    /// Events up to here are gone.
    compacted: Revision,
}

/// Current resources and newest events.
pub(crate) struct Log {
    state: Mutex<State>,
    /// Held by the one commit that is under way: readers go on while it is made durable.
    committing: Mutex<()>,
    changed: watch::Sender<Revision>,
}

impl Log {
    pub(crate) fn new(resources: BTreeMap<Key, Stored>, revision: Revision) -> Self {
        let state = State { resources, revision, events: VecDeque::new(), compacted: revision };
        let changed = watch::Sender::new(revision);
        Self { state: Mutex::new(state), committing: Mutex::new(()), changed }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state below is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Stored> {
        self.lock().resources.get(key).cloned()
    }

    pub(crate) fn revision(&self) -> Revision {
        self.lock().revision
    }

    pub(crate) fn list(&self, kind: Kind, mesh: Option<&str>, start: Option<&Key>, limit: usize) -> Page {
        let state = self.lock();
        let first = Key { kind, mesh: mesh.unwrap_or_default().into(), name: "".into() };
        let from = start.cloned().unwrap_or(first);
        let mut range = state
            .resources
            .range((Bound::Included(from), Bound::Unbounded))
            .take_while(|(key, _)| key.kind == kind && mesh.is_none_or(|mesh| *key.mesh == *mesh));
        let items = range.by_ref().take(limit).map(|(_, stored)| stored.clone()).collect();
        Page { items, revision: state.revision, next: range.next().map(|(key, _)| key.clone()) }
    }

    /// Checks what a commit expects, lets `persist` make it durable, and only then shows it to readers.
    pub(crate) fn commit(
        &self,
        ops: Vec<Op>,
        persist: impl FnOnce(Revision, &[Op]) -> Result<(), StoreError>,
    ) -> Result<Revision, StoreError> {
        let _committing = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        let (revision, ops) = {
            let state = self.lock();
            state.check(&ops)?;
            let ops: Vec<Op> = ops.into_iter().filter(|op| state.changes(op)).collect();
            if ops.is_empty() {
                return Ok(state.revision);
            }
            (Revision(state.revision.0 + 1), ops)
        };
        persist(revision, &ops)?;
        self.lock().apply(revision, ops);
        self.changed.send_replace(revision);
        Ok(revision)
    }

    pub(crate) fn watch(self: &Arc<Self>, after: Revision) -> Result<WatchStream, StoreError> {
        self.lock().after(after)?;
        let changed = self.changed.subscribe();
        let cursor = Some((Arc::clone(self), changed, after));
        Ok(Box::pin(stream::unfold(cursor, |cursor| async move {
            let (log, mut changed, after) = cursor?;
            loop {
                changed.borrow_and_update();
                let batch = log.lock().after(after);
                match batch {
                    Ok(events) if events.is_empty() => {
                        if changed.changed().await.is_err() {
                            return None;
                        }
                    }
                    Ok(events) => {
                        let last = events.last().map_or(after, |event| event.revision);
                        return Some((Ok(events), Some((log, changed, last))));
                    }
                    Err(error) => return Some((Err(error), None)),
                }
            }
        })))
    }

    /// Forgets events up to a revision.
    pub(crate) fn compact(&self, up_to: Revision) {
        let mut state = self.lock();
        while state.events.front().is_some_and(|event| event.revision <= up_to) {
            state.events.pop_front();
        }
        state.compacted = state.compacted.max(up_to.min(state.revision));
    }
}

impl State {
    /// Whether every key is as the commit expects.
    fn check(&self, ops: &[Op]) -> Result<(), StoreError> {
        for op in ops {
            let found = self.resources.get(op.key()).map(|stored| stored.revision);
            let holds = match op.expect() {
                Expect::Any => true,
                Expect::Absent => found.is_none(),
                Expect::At(revision) => found == Some(revision),
            };
            if !holds {
                return Err(StoreError::Conflict { key: op.key().clone() });
            }
        }
        Ok(())
    }

    /// Whether a write does anything: deleting what is not there does not.
    fn changes(&self, op: &Op) -> bool {
        matches!(op, Op::Put(..)) || self.resources.contains_key(op.key())
    }

    fn apply(&mut self, revision: Revision, ops: Vec<Op>) {
        for op in ops {
            let change = match op {
                Op::Put(resource, _) => {
                    let stored = Stored { resource: Arc::clone(&resource), revision };
                    self.resources.insert(resource.key().clone(), stored);
                    Change::Put(resource)
                }
                Op::Delete(key, _) => {
                    self.resources.remove(&key);
                    Change::Delete(key)
                }
            };
            self.events.push_back(Event { revision, change });
        }
        self.revision = revision;
        // Whole commits leave together, so that a watcher never sees half of one.
        while self.events.len() > LOG_CAPACITY {
            let Some(oldest) = self.events.front().map(|event| event.revision) else { break };
            while self.events.front().is_some_and(|event| event.revision == oldest) {
                self.events.pop_front();
            }
            self.compacted = oldest;
        }
    }

    fn after(&self, after: Revision) -> Result<Vec<Event>, StoreError> {
        if after < self.compacted {
            return Err(StoreError::Compacted { from: after });
        }
        let start = self.events.partition_point(|event| event.revision <= after);
        Ok(self.events.iter().skip(start).cloned().collect())
    }
}
