//! The server for proxies over real TLS connections.

mod bootstrap;
mod envoy;
mod health;
mod streams;
mod support;
