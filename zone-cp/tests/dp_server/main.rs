//! The server for proxies over real TLS connections.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod bootstrap;
mod envoy;
mod health;
mod streams;
mod support;
