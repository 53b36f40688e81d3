//! The synchronisation engine that both control planes run: sans-io sessions of delta xDS, what flows where
//! and under which name, and how what arrives is written.
//!
//! The global serves [`View`]s to zones and consumes what zones send; a zone does the reverse. The
//! same [`ServerSession`] and [`ClientSession`] run on either side of either stream.

mod client;
mod guard;
mod incoming;
pub mod insight;
mod metrics;
mod outgoing;
mod peer;
mod scope;
mod server;
mod transport;
pub mod view;

pub use client::{Batch, ClientSession, Incoming};
pub use guard::{Guard, Limits, Waiting};
pub use incoming::{Applied, Receiver, Role};
pub use metrics::{Metrics, OpenStream};
pub use outgoing::{Outgoing, PublicKeyOf, held_versions};
pub use peer::{FEATURE_PAGED, Peer, node};
pub use scope::{Everything, TRUST_EXCHANGE, ZoneScope};
pub use server::{Counters, Scope, ServerSession};
pub use transport::{consume, serve};
pub use view::{View, WireResource};

/// Largest message either side accepts, bytes; the peer's limit.
pub const MAX_MESSAGE: usize = 10 * 1024 * 1024;
