//! What both control planes start with: common flags and configuration sections, the store with its index,
//! readiness and diagnostics, the TLS identity, and an orderly end.

mod args;
mod foundation;
mod settings;
mod start;

pub use args::CommonArgs;
pub use foundation::{Foundation, Parts, ServerTls};
pub use settings::{DiagnosticsConfig, EtcdSection, StoreBackend, StoreConfig, TlsSection};
pub use start::{configuration, stored_id};
