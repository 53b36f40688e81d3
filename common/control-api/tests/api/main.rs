//! The API as its callers see it: requests in, answers out, over a store in memory.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

mod access;
mod errors;
mod harness;
mod hostile;
mod inspection;
mod lists;
mod metrics;
mod peer_client;
mod resources;
mod served;
mod watch;
