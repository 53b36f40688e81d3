//! Controllers on small snapshots.

pub(crate) mod fixture;
mod identity;
mod order;
mod running;
mod service;
