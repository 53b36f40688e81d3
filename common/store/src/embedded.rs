//! The embedded backend: resources in memory, every commit durable in one redb file before it is answered.
//! A process that is killed at any moment finds every acknowledged write again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

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

/// Opens the file; tests put a failing disk in its place.
type OpenDatabase = Box<dyn Fn() -> Result<Database, redb::DatabaseError> + Send + Sync>;

/// Keeps resources in one file.
pub struct EmbeddedStore {
    log: Arc<Log>,
    file: Arc<Mutex<DatabaseFile>>,
}

impl EmbeddedStore {
    /// Opens or creates the file and reads it. Records that cannot be read are left in the file and reported
    /// through `on_corrupt`; the rest is served.
    ///
    /// # Errors
    /// When the file cannot be opened, is locked by another process, or is no store.
    pub fn open(path: &Path, on_corrupt: impl FnMut(StoreError)) -> Result<Self, StoreError> {
        let file = path.to_owned();
        Self::open_with(path, Box::new(move || Database::create(&file)), on_corrupt)
    }

    fn open_with(
        path: &Path,
        open: OpenDatabase,
        mut on_corrupt: impl FnMut(StoreError),
    ) -> Result<Self, StoreError> {
        let refused = |error: String| StoreError::Refused { reason: format!("{}: {error}", path.display()) };
        let database = open().map_err(|error| refused(error.to_string()))?;
        let (resources, revision) =
            load(&database, &mut on_corrupt).map_err(|error| refused(error.to_string()))?;
        let file = DatabaseFile { open, database: Some(database), unsettled: Vec::new() };
        Ok(Self { log: Arc::new(Log::new(resources, revision)), file: Arc::new(Mutex::new(file)) })
    }
}

/// The file. After a failed write the engine wants it opened anew, and nobody knows whether the write is in it:
/// its keys are set to what readers saw before anything else is written.
struct DatabaseFile {
    open: OpenDatabase,
    database: Option<Database>,
    unsettled: Vec<Key>,
}

impl DatabaseFile {
    /// Opens the file again after a failure.
    fn ready(&mut self, log: &Log) -> Result<(), StoreError> {
        if self.database.is_some() {
            return Ok(());
        }
        let database = (self.open)().map_err(|error| classify(&error.into()))?;
        let settled = settle(&database, log, &self.unsettled);
        settled.map_err(|error| classify(&error))?;
        tracing::info!("the store's file takes writes again");
        self.unsettled.clear();
        self.database = Some(database);
        Ok(())
    }

    fn persist(&mut self, revision: Revision, ops: &[Op]) -> Result<(), StoreError> {
        let Some(database) = &self.database else {
            return Err(StoreError::Unavailable { reason: "the store's file is not open".into() });
        };
        persist(database, revision, ops).map_err(|error| {
            let error = classify(&error);
            tracing::error!(%error, "a write to the store's file failed; reads go on");
            self.unsettled = ops.iter().map(|op| op.key().clone()).collect();
            self.database = None;
            error
        })
    }
}

fn settle(database: &Database, log: &Log, keys: &[Key]) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    {
        let mut resources = write.open_table(RESOURCES)?;
        for key in keys {
            let text = record::key_text(key);
            match log.get(key) {
                Some(stored) => {
                    let bytes = record::encode(&stored.resource, "");
                    resources.insert(text.as_str(), (stored.revision.0, bytes.as_slice()))?;
                }
                None => {
                    resources.remove(text.as_str())?;
                }
            }
        }
        write.open_table(META)?.insert(REVISION, log.revision().0)?;
    }
    write.commit()?;
    Ok(())
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
        let (log, file) = (Arc::clone(&self.log), Arc::clone(&self.file));
        let work = move || {
            // Every change of the file's state is complete before anything can panic.
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            file.ready(&log)?;
            log.commit(ops, |revision, ops| file.persist(revision, ops))
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

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io;
    use std::sync::atomic::{AtomicBool, Ordering};

    use model::Resource;
    use redb::StorageBackend;
    use redb::backends::FileBackend;

    use super::*;

    /// A disk that can be full.
    #[derive(Debug)]
    struct Disk {
        file: FileBackend,
        full: Arc<AtomicBool>,
    }

    impl Disk {
        fn room(&self) -> Result<(), io::Error> {
            if self.full.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(())
        }
    }

    impl StorageBackend for Disk {
        fn len(&self) -> Result<u64, io::Error> {
            self.file.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
            self.file.read(offset, out)
        }
        fn set_len(&self, len: u64) -> Result<(), io::Error> {
            self.room()?;
            self.file.set_len(len)
        }
        fn sync_data(&self) -> Result<(), io::Error> {
            self.file.sync_data()
        }
        fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
            self.room()?;
            self.file.write(offset, data)
        }
        fn close(&self) -> Result<(), io::Error> {
            self.file.close()
        }
    }

    fn mesh(name: &str) -> Resource {
        Resource::builder(Key::global(Kind::MESH, name)).build()
    }

    #[tokio::test]
    async fn a_full_disk_refuses_writes_reads_go_on_and_it_recovers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.redb");
        let full = Arc::new(AtomicBool::new(false));
        let (at, switch) = (path.clone(), Arc::clone(&full));
        let open = move || {
            let file = File::options().read(true).write(true).create(true).truncate(false).open(&at);
            let file = FileBackend::new(file.expect("the folder exists")).expect("nobody else has it open");
            Database::builder().create_with_backend(Disk { file, full: Arc::clone(&switch) })
        };
        let store = EmbeddedStore::open_with(&path, Box::new(open), |error| panic!("{error}")).unwrap();
        let before = store.commit(vec![Op::create(mesh("before"))]).await.unwrap();

        full.store(true, Ordering::SeqCst);
        for _ in 0..2 {
            let refused = store.commit(vec![Op::create(mesh("refused"))]).await.unwrap_err();
            assert!(matches!(refused, StoreError::Full { .. }), "{refused}");
        }
        assert!(store.get(mesh("before").key()).await.unwrap().is_some());
        assert!(store.get(mesh("refused").key()).await.unwrap().is_none());

        full.store(false, Ordering::SeqCst);
        let after = store.commit(vec![Op::create(mesh("after"))]).await.unwrap();
        assert_eq!(after, Revision(before.0 + 1));
        drop(store);
        let again = EmbeddedStore::open(&path, |error| panic!("{error}")).unwrap();
        for (name, kept) in [("before", true), ("refused", false), ("after", true)] {
            assert_eq!(again.get(mesh(name).key()).await.unwrap().is_some(), kept, "{name}");
        }
    }
}
