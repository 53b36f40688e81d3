//! The server for proxies over real TLS connections.

mod bootstrap;
mod health;
mod streams;
mod support;
