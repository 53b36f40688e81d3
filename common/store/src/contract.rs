//! What every backend offers: compare-and-swap writes of several keys at once, reads, and a watch from a
//! revision that says clearly when that revision is gone.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use futures::Stream;
use model::{Key, Kind, Resource};

/// Order of writes in one store; grows with every commit and never repeats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A resource with the revision that wrote it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The resource.
    pub resource: Arc<Resource>,
    /// The commit that wrote it.
    pub revision: Revision,
}

/// What must be true of a key for a commit to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Anything.
    Any,
    /// The key does not exist.
    Absent,
    /// The key was last written by this revision.
    At(Revision),
}

/// One write of a commit.
#[derive(Clone, Debug)]
pub enum Op {
    /// Creates or replaces a resource.
    Put(Arc<Resource>, Expect),
    /// Removes a resource; removing what is not there changes nothing.
    Delete(Key, Expect),
}

impl Op {
    /// Creates a resource that must not exist.
    pub fn create(resource: Resource) -> Self {
        Self::Put(Arc::new(resource), Expect::Absent)
    }

    /// Replaces what was read at a revision.
    pub fn update(resource: Resource, read: Revision) -> Self {
        Self::Put(Arc::new(resource), Expect::At(read))
    }

    /// The key it writes.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put(resource, _) => resource.key(),
            Self::Delete(key, _) => key,
        }
    }

    /// What must be true of the key.
    pub fn expect(&self) -> Expect {
        match self {
            Self::Put(_, expect) | Self::Delete(_, expect) => *expect,
        }
    }
}

/// What became of a key.
#[derive(Clone, Debug)]
pub enum Change {
    /// Written.
    Put(Arc<Resource>),
    /// Removed.
    Delete(Key),
}

impl Change {
    /// The key.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put(resource) => resource.key(),
            Self::Delete(key) => key,
        }
    }
}

/// One change, in the order of revisions.
#[derive(Clone, Debug)]
pub struct Event {
    /// The commit.
    pub revision: Revision,
    /// What it did.
    pub change: Change,
}

/// Resources of a list, ordered by mesh and name.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The resources.
    pub items: Vec<Stored>,
    /// The revision they were read at.
    pub revision: Revision,
    /// Where the next page starts; `None` at the end.
    pub next: Option<Key>,
}

/// Why a store did not do as asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// A key is not as the commit expects; nothing was written.
    #[error("{key} was changed by somebody else")]
    Conflict {
        /// The key.
        key: Key,
    },
    /// The revision to watch from is gone: list and watch from the list's revision.
    #[error("revision {from} is compacted")]
    Compacted {
        /// The revision asked for.
        from: Revision,
    },
    /// There is no room for the write; reads go on.
    #[error("the store has no room left: {reason}")]
    Full {
        /// What the disk or the server says.
        reason: String,
    },
    /// The backend cannot be reached or did not answer.
    #[error("the store is not available: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// The backend refused for good.
    #[error("the store refused: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// What is stored under a key is no resource.
    #[error("{key} cannot be read: {reason}")]
    Corrupt {
        /// The key as text.
        key: String,
        /// Why.
        reason: String,
    },
}

impl StoreError {
    /// Whether the same call may succeed later.
    pub fn retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Conflict { .. })
    }
}

/// Batches of events, each batch whole commits, in the order of revisions.
pub type WatchStream = Pin<Box<dyn Stream<Item = Result<Vec<Event>, StoreError>> + Send>>;

/// A backend of the store.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Reads one resource.
    async fn get(&self, key: &Key) -> Result<Option<Stored>, StoreError>;

    /// Reads resources of a kind, of one mesh or of all, `limit` at a time, from `start` on.
    async fn list(
        &self,
        kind: Kind,
        mesh: Option<&str>,
        start: Option<&Key>,
        limit: usize,
    ) -> Result<Page, StoreError>;

    /// Writes all or nothing and answers the commit's revision.
    async fn commit(&self, ops: Vec<Op>) -> Result<Revision, StoreError>;

    /// Events after a revision. The stream ends after its first error.
    async fn watch(&self, after: Revision) -> Result<WatchStream, StoreError>;

    /// Short name of the backend, for people.
    fn name(&self) -> &'static str;
}

/// A shared backend.
pub type Store = Arc<dyn Backend>;

/// How often a read-modify-write is tried again after a conflict: writers of one key are a handful of
/// controllers and users, each of which wins once.
const CONFLICT_RETRIES: usize = 16;

/// Reads a key, lets `change` make its next state (or `None` to leave it), and commits unless somebody was
/// faster, in which case it starts over. Answers whether something was written.
///
/// # Errors
/// The store's, and a conflict that outlasts the retries.
pub async fn retry_conflicts(
    store: &dyn Backend,
    key: &Key,
    mut change: impl FnMut(Option<&Stored>) -> Option<Resource> + Send,
) -> Result<bool, StoreError> {
    for _ in 0..CONFLICT_RETRIES {
        let current = store.get(key).await?;
        let Some(next) = change(current.as_ref()) else { return Ok(false) };
        let expect = current.as_ref().map_or(Expect::Absent, |stored| Expect::At(stored.revision));
        match store.commit(vec![Op::Put(Arc::new(next), expect)]).await {
            Err(StoreError::Conflict { .. }) => {}
            done => return done.map(|_| true),
        }
    }
    Err(StoreError::Conflict { key: key.clone() })
}
