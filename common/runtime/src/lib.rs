//! Process plumbing that every binary shares: configuration, telemetry, supervised tasks,
//! readiness, TLS and HTTP serving.
//!
//! Nothing here knows what the process is for. A binary loads a [`config`], starts [`telemetry`],
//! builds its parts with a [`tasks::Tasks`] and a [`readiness::Readiness`], serves routers with
//! [`serve`], and shuts down when [`shutdown_signal`] resolves.

pub mod config;
pub mod diagnostics;
mod process;
pub mod readiness;
pub mod serve;
pub mod tasks;
pub mod telemetry;
pub mod tls;

pub use process::{exit_code, instance_id, shutdown_signal};
pub use readiness::{Blocker, Readiness};
pub use tasks::{OnExit, Tasks};
