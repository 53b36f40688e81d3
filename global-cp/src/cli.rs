//! The command line of the global control plane.

use std::net::IpAddr;

use clap::{Args, Parser, Subcommand};
use control_plane::CommonArgs;
use serde_json::{Value, json};

use crate::kds::ZoneAuth;

/// Ends the help of `run`.
const EXAMPLE: &str = "Example:

  global-cp run --data-dir /var/lib/isthmus
  meshctl generate zone-token --zone east > east.token     # on the same host, for a zone to join";

/// The global control plane of an Isthmus mesh.
#[derive(Debug, Parser)]
#[command(name = "global-cp", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep policies, synchronise zones and serve the REST API until SIGTERM.
    ///
    /// Zones connect over TLS to --kds-port and present a zone token. The REST API listens on loopback, where
    /// callers are administrators; the admin token in the data folder is for callers elsewhere.
    #[command(after_long_help = EXAMPLE)]
    Run(Box<RunArgs>),
}

/// Flags of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Flags that both control planes have.
    #[command(flatten)]
    pub common: CommonArgs,

    /// Address on which zones connect.
    #[arg(long, value_name = "IP")]
    kds_address: Option<IpAddr>,

    /// Port on which zones connect; 0 for any free one.
    #[arg(long, value_name = "PORT")]
    kds_port: Option<u16>,

    /// How zones prove who they are. With `none`, whoever reaches the port can be any zone.
    #[arg(long, value_enum)]
    zone_auth: Option<ZoneAuth>,
}

impl RunArgs {
    /// The flags that were given, by configuration key.
    pub fn flags(&self) -> Vec<(String, Value)> {
        let mut flags = self.common.flags();
        flags.extend(self.kds_address.map(|address| ("kds.address".into(), json!(address))));
        flags.extend(self.kds_port.map(|port| ("kds.port".into(), json!(port))));
        flags.extend(self.zone_auth.map(|auth| ("kds.zoneAuth".into(), json!(auth))));
        flags
    }
}
