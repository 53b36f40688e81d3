//! Flags that both control planes have, as values of configuration keys.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::settings::StoreBackend;

/// Flags that both control planes have.
#[derive(Debug, Args)]
pub struct CommonArgs {
    /// YAML file with the configuration. Environment variables (ISTHMUS_...) and flags win over it.
    #[arg(long, short = 'c', value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Print every configuration key with its value and where it comes from, and leave.
    #[arg(long)]
    pub print_config: bool,

    /// Where resources are kept.
    #[arg(long, value_enum)]
    store: Option<StoreBackend>,

    /// Folder of the embedded store, the TLS identity and the admin token.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Address of the REST API. Off loopback, callers need a user token.
    #[arg(long, value_name = "IP")]
    api_address: Option<String>,

    /// Port of the REST API; 0 for any free one.
    #[arg(long, value_name = "PORT")]
    api_port: Option<u16>,

    /// Port of metrics, health and readiness; 0 for any free one.
    #[arg(long, value_name = "PORT")]
    diagnostics_port: Option<u16>,

    /// Level of the log (error, warn, info, debug, trace), or directives such as `info,store=debug`.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,

    /// YAML stream of resources to put into the store as they are before anything starts. For tests.
    #[arg(long, value_name = "FILE")]
    pub preload: Option<PathBuf>,

    /// Serve only the REST API: no default resources, no controllers, no synchronisation. For tests.
    #[arg(long)]
    pub api_only: bool,
}

impl CommonArgs {
    /// The flags that were given, by configuration key.
    pub fn flags(&self) -> Vec<(String, Value)> {
        let mut flags = Vec::new();
        let mut set = |key: &str, value: Option<Value>| {
            flags.extend(value.map(|value| (key.to_owned(), value)));
        };
        set("store.type", self.store.map(|store| json!(store)));
        set("dataDir", self.data_dir.as_ref().map(|dir| json!(dir)));
        set("api.address", self.api_address.as_ref().map(|address| json!(address)));
        set("api.port", self.api_port.map(|port| json!(port)));
        set("diagnostics.port", self.diagnostics_port.map(|port| json!(port)));
        set("telemetry.logLevel", self.log_level.as_ref().map(|level| json!(level)));
        flags
    }
}
