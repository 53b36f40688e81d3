//! Controllers on small snapshots.

pub(crate) mod fixture;
mod follow;
mod identity;
mod order;
mod running;
mod service;
