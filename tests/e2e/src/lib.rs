//! The mesh as a person runs it: real control planes, real Envoys and small services, started, watched and
//! stopped from outside. The tests beside it and `cargo xtask demo` stand on it.
//!
//! It uses nothing of the workspace's other crates, so that it speaks to the binaries as anyone would, and
//! builds in seconds.

pub mod api;
pub mod collector;
pub mod etcd;
pub mod http;
pub mod launch;
pub mod manifest;
pub mod patience;
pub mod plane;
pub mod ports;
pub mod process;
pub mod procfs;
pub mod proxy;
pub mod relay;
pub mod samples;
pub mod service;
pub mod topology;
