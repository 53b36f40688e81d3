//! Resources from a file, straight into the store: for tests and for looking at a dump.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use model::rest::{self, ParseError};
use model::{Timestamp, yaml};
use store::{Expect, Op, Store, StoreError};

/// Why a file was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum PreloadError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no stream of YAML documents.
    #[error("{path} is not YAML: {reason}")]
    Yaml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// A document is no resource.
    #[error("document {number} of {path} is no resource")]
    Resource {
        /// The file.
        path: PathBuf,
        /// Which document, from 1.
        number: usize,
        /// Why.
        source: ParseError,
    },
    /// The store did not take it.
    #[error("cannot store a resource of {path}")]
    Store {
        /// The file.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
}

/// Puts every resource of a YAML stream into the store as it is: no label is computed, nothing is
/// defaulted or refused, insights and statuses included. Answers how many there were.
///
/// # Errors
/// When the file cannot be read, a document is no resource, or the store's.
pub async fn preload(store: &Store, file: &Path) -> Result<usize, PreloadError> {
    let path = || file.to_owned();
    let text = std::fs::read_to_string(file).map_err(|source| PreloadError::Read { path: path(), source })?;
    let documents =
        yaml::documents_last_wins(&text).map_err(|reason| PreloadError::Yaml { path: path(), reason })?;
    let now = Timestamp::from_system(SystemTime::now());
    for (at, document) in documents.iter().enumerate() {
        let parsed = rest::parse(document).map_err(|source| PreloadError::Resource {
            path: path(),
            number: at + 1,
            source,
        })?;
        let mut resource = parsed.resource;
        for time in [&mut resource.created, &mut resource.modified] {
            if *time == Timestamp::EPOCH {
                *time = now;
            }
        }
        // One commit each: a later document may replace an earlier one.
        let op = Op::Put(Arc::new(resource.build()), Expect::Any);
        store.commit(vec![op]).await.map_err(|source| PreloadError::Store { path: path(), source })?;
    }
    Ok(documents.len())
}

#[cfg(test)]
mod tests {
    use model::{Key, Kind};
    use store::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn documents_are_stored_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("resources.yaml");
        std::fs::write(
            &file,
            "# a comment\ntype: Mesh\nname: NotALabel\n---\ntype: MeshService\nname: a\nmesh: other\nstatus:\n  tls:\n    status: Ready\n",
        )
        .unwrap();
        let store: Store = Arc::new(MemoryStore::new());
        assert_eq!(preload(&store, &file).await.unwrap(), 2);
        let mesh = store.get(&Key::global(Kind::MESH, "NotALabel")).await.unwrap().unwrap();
        assert!(mesh.resource.labels().is_empty());
        let service = store.get(&Key::new(Kind::MESH_SERVICE, "other", "a")).await.unwrap().unwrap();
        let status = service.resource.raw_status().unwrap().bytes().clone();
        assert_eq!(status, r#"{"tls":{"status":"Ready"}}"#);
    }

    #[tokio::test]
    async fn a_bad_document_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("resources.yaml");
        std::fs::write(&file, "type: Mesh\nname: a\n---\ntype: Mash\nname: b\n").unwrap();
        let store: Store = Arc::new(MemoryStore::new());
        let error = preload(&store, &file).await.unwrap_err().to_string();
        assert!(error.starts_with("document 2 of "), "{error}");
    }
}
