//! The REST API that both control planes serve, and what they put into an empty store.
//!
//! Last stop of the data flow on the users' side: reads come from the index's snapshots, writes go to the
//! store by compare-and-swap and are answered when the index shows them.

mod advice;
mod app;
mod authn;
mod body;
mod checks;
mod config;
mod cors;
pub mod defaults;
mod diff;
mod document;
mod duration;
mod endpoint;
mod json;
mod metrics;
mod preload;
mod problem;
mod proxies;
mod query;
mod routes;
mod schema_check;
mod server;
mod stored;
mod syntax;
pub mod tally;

pub use config::{ApiConfig, HttpsConfig};
pub use cors::OriginPattern;
pub use metrics::Metrics;
pub use preload::{PreloadError, preload};
pub use proxies::{AdminQuery, InspectError, NoProxies, ProxyInspector};
pub use server::{Api, ApiError, BuildInfo, Handle, router, spawn};
pub use stored::StoredProxies;
