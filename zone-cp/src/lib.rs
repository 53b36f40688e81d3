//! The zone control plane: keeps one zone's dataplanes registered and configured, and in step with the global.

pub mod app;
pub mod cli;
pub mod config;
pub mod controllers;
pub mod dp_server;
pub mod identity;
pub mod kds;
pub mod proxies;
pub mod setup;
