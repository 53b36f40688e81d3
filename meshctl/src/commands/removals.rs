//! `removals`: mass removals that wait for somebody to confirm them.

use clap::Subcommand;
use serde::Deserialize;
use serde_json::json;

use crate::client::{Client, ClientError};
use crate::error::Error;
use crate::table::Table;
use crate::terminal::Terminal;

pub(crate) const EXAMPLES: &str = "Examples:

  meshctl removals list
  meshctl removals confirm east

When a zone, or the global for a zone, removes most of what it has of a kind at once, the removals wait: a control plane \
that lost its store looks like one whose operator deleted everything. What comes back waits no more by itself.";

/// Where they are.
const PATH: &str = "/withheld-removals";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what waits, and whose it is.
    #[command(after_help = "Example:\n\n  meshctl removals list")]
    List,
    /// Carry out what waits of a peer. It cannot be taken back.
    #[command(after_help = "Example:\n\n  meshctl removals confirm east")]
    Confirm {
        /// The zone; `global` on a zone control plane.
        peer: String,
    },
}

/// What waits of one peer.
#[derive(Debug, Deserialize)]
pub(crate) struct Waiting {
    pub(crate) peer: String,
    pub(crate) resources: Vec<Resource>,
}

/// A resource that would be removed.
#[derive(Debug, Deserialize)]
pub(crate) struct Resource {
    r#type: String,
    #[serde(default)]
    mesh: String,
    name: String,
}

/// What waits; nothing on a control plane that has no such guard.
pub(crate) async fn waiting(client: &mut Client) -> Result<Vec<Waiting>, ClientError> {
    #[derive(Deserialize)]
    struct List {
        items: Vec<Waiting>,
    }
    match client.get(PATH).await {
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        answer => Ok(answer?.read::<List>(PATH)?.items),
    }
}

pub(crate) async fn run(command: Command, client: &mut Client, terminal: &mut Terminal) -> Result<(), Error> {
    match command {
        Command::List => {
            let waiting = waiting(client).await?;
            if waiting.is_empty() {
                return Ok(terminal.line("No removals wait")?);
            }
            let mut table = Table::new(["PEER", "TYPE", "MESH", "NAME"]);
            for Waiting { peer, resources } in waiting {
                for Resource { r#type, mesh, name } in resources {
                    table.row([peer.clone(), r#type, mesh, name]);
                }
            }
            Ok(table.write(terminal.out())?)
        }
        Command::Confirm { peer } => {
            let answer = client.post(&format!("{PATH}/{peer}/confirm"), &json!({})).await;
            let failed = |source| Error::Failed { action: format!("confirm the removals of {peer}"), source };
            let done: serde_json::Value = answer.and_then(|answer| answer.read(PATH)).map_err(failed)?;
            Ok(terminal.line(format_args!("{} resources of {peer} removed", done["removed"]))?)
        }
    }
}
