//! The embedded backend: resources in memory, every commit durable in one redb file before it is answered.
//! A process that is killed at any moment finds every acknowledged write again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use model::{Key, Kind};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::contract::{Backend, Op, Page, Revision, StoreError, Stored, WatchStream};
use crate::log::Log;
use crate::record;

/// Key text to revision and record.
const RESOURCES: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("resources");
/// `revision` to the newest one.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const REVISION: &str = "revision";

/// Keeps resources in one file.
pub struct EmbeddedStore {
    log: Arc<Log>,
    database: Arc<Database>,
}

impl EmbeddedStore {
    /// Opens or creates the file and reads it. Records that cannot be read are left in the file and reported
    /// through `on_corrupt`; the rest is served.
    ///
    /// # Errors
    /// When the file cannot be opened, is locked by another process, or is no store.
    pub fn open(path: &Path, mut on_corrupt: impl FnMut(StoreError)) -> Result<Self, StoreError> {
        let refused = |error: String| StoreError::Refused { reason: format!("{}: {error}", path.display()) };
        let database = Database::create(path).map_err(|error| refused(error.to_string()))?;
        let (resources, revision) =
            load(&database, &mut on_corrupt).map_err(|error| refused(error.to_string()))?;
        Ok(Self { log: Arc::new(Log::new(resources, revision)), database: Arc::new(database) })
    }
}

fn load(
    database: &Database,
    on_corrupt: &mut impl FnMut(StoreError),
) -> Result<(BTreeMap<Key, Stored>, Revision), redb::Error> {
    let begin = database.begin_write()?;
    begin.open_table(RESOURCES)?;
    begin.open_table(META)?;
    begin.commit()?;
    let read = database.begin_read()?;
    let revision = read.open_table(META)?.get(REVISION)?.map_or(0, |value| value.value());
    let mut resources = BTreeMap::new();
    for entry in read.open_table(RESOURCES)?.iter()? {
        let (key, value) = entry?;
        let (written, bytes) = value.value();
        let text = key.value();
        let corrupt = |reason: String| StoreError::Corrupt { key: text.into(), reason };
        let Some(key) = record::parse_key(text) else {
            on_corrupt(corrupt("no known kind".into()));
            continue;
        };
        match record::decode(key.clone(), bytes) {
            Ok(resource) => {
                let stored = Stored { resource: Arc::new(resource), revision: Revision(written) };
                resources.insert(key, stored);
            }
            Err(error) => on_corrupt(corrupt(error.to_string())),
        }
    }
    Ok((resources, Revision(revision)))
}

fn persist(database: &Database, revision: Revision, ops: &[Op]) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    {
        let mut resources = write.open_table(RESOURCES)?;
        for op in ops {
            match op {
                Op::Put(resource, _) => {
                    let bytes = record::encode(resource, "");
                    resources
                        .insert(record::key_text(resource.key()).as_str(), (revision.0, bytes.as_slice()))?;
                }
                Op::Delete(key, _) => {
                    resources.remove(record::key_text(key).as_str())?;
                }
            }
        }
        write.open_table(META)?.insert(REVISION, revision.0)?;
    }
    write.commit()?;
    Ok(())
}

fn classify(error: &redb::Error) -> StoreError {
    let reason = error.to_string();
    match error {
        redb::Error::Io(io)
            if matches!(
                io.kind(),
                std::io::ErrorKind::StorageFull
                    | std::io::ErrorKind::QuotaExceeded
                    | std::io::ErrorKind::FileTooLarge
            ) =>
        {
            StoreError::Full { reason }
        }
        redb::Error::Io(_) | redb::Error::PreviousIo => StoreError::Unavailable { reason },
        _ => StoreError::Refused { reason },
    }
}

#[async_trait]
impl Backend for EmbeddedStore {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, StoreError> {
        Ok(self.log.get(key))
    }

    async fn list(
        &self,
        kind: Kind,
        mesh: Option<&str>,
        start: Option<&Key>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        Ok(self.log.list(kind, mesh, start, limit))
    }

    async fn commit(&self, ops: Vec<Op>) -> Result<Revision, StoreError> {
        let (log, database) = (Arc::clone(&self.log), Arc::clone(&self.database));
        let work = move || {
            log.commit(ops, |revision, ops| {
                persist(&database, revision, ops).map_err(|error| classify(&error))
            })
        };
        tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|error| Err(StoreError::Unavailable { reason: error.to_string() }))
    }

    async fn watch(&self, after: Revision) -> Result<WatchStream, StoreError> {
        self.log.watch(after)
    }

    fn name(&self) -> &'static str {
        "embedded"
    }
}
