//! The store: one contract, three backends, and the in-memory index that follows them.
//!
//! Second stop of the data flow: writers commit here, the [`index`] follows the watch and publishes immutable
//! [`Snapshot`]s from which views, streams and the API read.

mod contract;
mod embedded;
mod etcd;
pub mod index;
mod log;
mod memory;
mod record;
mod snapshot;

pub use contract::{
    Backend, Change, Event, Expect, Op, Page, Revision, Store, StoreError, Stored, WatchStream,
    retry_conflicts,
};
pub use embedded::EmbeddedStore;
pub use etcd::{EtcdConfig, EtcdStore};
pub use memory::MemoryStore;
pub use snapshot::Snapshot;
