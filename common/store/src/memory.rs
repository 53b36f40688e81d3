//! The memory backend: for tests and for looking into a folder of resources. Nothing survives the process.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use model::{Key, Kind};

use crate::contract::{Backend, Op, Page, Revision, StoreError, Stored, WatchStream};
use crate::log::Log;

/// Keeps resources in memory.
pub struct MemoryStore(Arc<Log>);

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self(Arc::new(Log::new(BTreeMap::new(), Revision(0))))
    }

    /// Forgets events up to a revision, as a backend with little room would.
    pub fn compact(&self, up_to: Revision) {
        self.0.compact(up_to);
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Backend for MemoryStore {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, StoreError> {
        Ok(self.0.get(key))
    }

    async fn list(
        &self,
        kind: Kind,
        mesh: Option<&str>,
        start: Option<&Key>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        Ok(self.0.list(kind, mesh, start, limit))
    }

    async fn commit(&self, ops: Vec<Op>) -> Result<Revision, StoreError> {
        self.0.commit(ops, |_, _| Ok(()))
    }

    async fn watch(&self, after: Revision) -> Result<WatchStream, StoreError> {
        self.0.watch(after)
    }

    fn name(&self) -> &'static str {
        "memory"
    }
}
