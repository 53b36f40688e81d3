//! The REST API that both control planes serve, and what they put into an empty store.
//!
//! Last stop of the data flow on the users' side: reads come from the index's snapshots, writes go to the
//! store by compare-and-swap and are answered when the index shows them.

mod config;
pub mod defaults;
mod preload;
mod proxies;
mod server;

pub use config::{ApiConfig, HttpsConfig};
pub use preload::{PreloadError, preload};
pub use proxies::{AdminQuery, InspectError, NoProxies, ProxyInspector};
pub use server::{Api, ApiError, BuildInfo, Handle, spawn};
