//! The command line of a zone control plane.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use control_plane::CommonArgs;
use serde_json::{Value, json};

/// Ends the help of `run`.
const EXAMPLE: &str = "Example:

  zone-cp run --zone east --global-address grpcs://global.example:5685 \\
      --global-ca-file global-ca.pem --zone-token-file east.token --data-dir /var/lib/isthmus

Without --global-address the zone stands alone: policies are written at its own REST API.";

/// The control plane of one zone of an Isthmus mesh.
#[derive(Debug, Parser)]
#[command(name = "zone-cp", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep the zone's proxies configured, in step with the global, until SIGTERM.
    ///
    /// Proxies connect over TLS to --dp-server-port and present a dataplane token. When the global is away the
    /// zone goes on with what it has.
    #[command(after_long_help = EXAMPLE)]
    Run(Box<RunArgs>),
}

/// Flags of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Flags that both control planes have.
    #[command(flatten)]
    pub common: CommonArgs,

    /// The zone's name.
    #[arg(long, value_name = "NAME")]
    zone: Option<String>,

    /// The global to join: grpcs://host:5685.
    #[arg(long, value_name = "URL")]
    global_address: Option<String>,

    /// PEM file of the authority of the global's certificate.
    #[arg(long, alias = "global-ca", value_name = "FILE")]
    global_ca_file: Option<PathBuf>,

    /// SHA-256 of that authority's certificate, as the global prints it on its first start.
    #[arg(long, value_name = "SHA256")]
    global_ca_fingerprint: Option<String>,

    /// Do not check the global's certificate. The token may then be sent to an impostor.
    #[arg(long)]
    global_skip_verify: bool,

    /// File with the zone token.
    #[arg(long, value_name = "FILE")]
    zone_token_file: Option<PathBuf>,

    /// Address on which proxies connect.
    #[arg(long, value_name = "IP")]
    dp_server_address: Option<IpAddr>,

    /// Port on which proxies connect; 0 for any free one.
    #[arg(long, value_name = "PORT")]
    dp_server_port: Option<u16>,
}

impl RunArgs {
    /// The flags that were given, by configuration key.
    pub fn flags(&self) -> Vec<(String, Value)> {
        let mut flags = self.common.flags();
        let mut set = |key: &str, value: Option<Value>| {
            flags.extend(value.map(|value| (key.to_owned(), value)));
        };
        set("zone.name", self.zone.as_ref().map(|name| json!(name)));
        set("zone.globalAddress", self.global_address.as_ref().map(|address| json!(address)));
        set("zone.globalCaFile", self.global_ca_file.as_ref().map(|file| json!(file)));
        set("zone.globalCaFingerprint", self.global_ca_fingerprint.as_ref().map(|pin| json!(pin)));
        set("zone.globalSkipVerify", self.global_skip_verify.then_some(json!(true)));
        set("zone.tokenFile", self.zone_token_file.as_ref().map(|file| json!(file)));
        set("dpServer.address", self.dp_server_address.map(|address| json!(address)));
        set("dpServer.port", self.dp_server_port.map(|port| json!(port)));
        flags
    }
}
