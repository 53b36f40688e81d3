//! `config`: the control planes that meshctl remembers. Tokens go in and are never printed.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::Value;

use crate::config_file::{self, ConfigError, ControlPlane};
use crate::error::Error;
use crate::server::ServerArgs;
use crate::table::Table;
use crate::terminal::Terminal;

pub(crate) const EXAMPLES: &str = "Examples:

  meshctl config control-planes add --name prod --address https://cp.example:5682 --ca-file ca.pem --token-file admin.token
  meshctl config control-planes list
  meshctl config control-planes switch prod
  meshctl config view";

/// What a server of this API calls itself.
const PRODUCT: &str = "Kuma";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add, list, remove and switch control planes.
    #[command(subcommand, after_help = EXAMPLES)]
    ControlPlanes(ControlPlanes),
    /// Print the configuration, tokens masked.
    #[command(after_help = "Example:\n\n  meshctl config view")]
    View,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ControlPlanes {
    /// Remember a control plane, reached by --address and the other flags, and use it from now on.
    #[command(
        after_help = "Example:\n\n  meshctl config control-planes add --name prod --address https://cp.example:5682 --token-file admin.token"
    )]
    Add {
        /// What to call it.
        #[arg(long)]
        name: String,
        /// Replace the one that is called so already.
        #[arg(long)]
        overwrite: bool,
        /// Remember it even if it does not answer now.
        #[arg(long)]
        no_check: bool,
    },
    /// List control planes; the one in use has a star.
    #[command(after_help = "Example:\n\n  meshctl config control-planes list")]
    List,
    /// Forget a control plane.
    #[command(after_help = "Example:\n\n  meshctl config control-planes remove prod")]
    Remove {
        /// Its name.
        name: String,
    },
    /// Use another control plane.
    #[command(after_help = "Example:\n\n  meshctl config control-planes switch prod")]
    Switch {
        /// Its name.
        name: String,
    },
}

pub(crate) async fn run(command: Command, server: &ServerArgs, terminal: &mut Terminal) -> Result<(), Error> {
    let path = server.config_path()?;
    let mut config = config_file::load(&path)?;
    let done = match command {
        Command::View => {
            let text = serde_saphyr::to_string(&config.masked()).map_err(|e| Error::Yaml(e.to_string()))?;
            terminal.line(format_args!("# {}", path.display()))?;
            return Ok(write!(terminal.out(), "{text}")?);
        }
        Command::ControlPlanes(ControlPlanes::List) => {
            let mut table = Table::new(["CURRENT", "NAME", "ADDRESS", "TOKEN"]);
            for (name, known) in config.all() {
                let is_current = config.current.as_deref() == Some(name);
                let star = if is_current { "*" } else { "" };
                let token = if known.token.is_some() || known.token_file.is_some() { "yes" } else { "no" };
                table.row([star, name, &known.address, token].map(str::to_owned));
            }
            return Ok(table.write(terminal.out())?);
        }
        Command::ControlPlanes(ControlPlanes::Add { name, overwrite, no_check }) => {
            if config.find(&name).is_ok() && !overwrite {
                return Err(ConfigError::Taken(name).into());
            }
            let added = described(server)?;
            if no_check {
                // Its files and address must still be sound.
                added.client()?;
            } else {
                check(&added).await?;
            }
            config.put(&name, added);
            config.current = Some(name.clone());
            format!("control plane {name} added and in use")
        }
        Command::ControlPlanes(ControlPlanes::Remove { name }) => {
            config.remove(&name)?;
            format!("control plane {name} removed")
        }
        Command::ControlPlanes(ControlPlanes::Switch { name }) => {
            config.find(&name)?;
            config.current = Some(name.clone());
            format!("control plane {name} in use")
        }
    };
    config_file::save(&path, &config)?;
    Ok(terminal.line(done)?)
}

/// The control plane that the flags describe, its files by absolute paths: it is used from other folders.
fn described(server: &ServerArgs) -> Result<ControlPlane, Error> {
    if server.address.as_deref().unwrap_or_default().is_empty() {
        return Err(Error::Usage("say where the control plane is with --address".to_owned()));
    }
    let mut described = server.control_plane()?;
    described.token_file = described.token_file.as_deref().map(absolute).transpose()?;
    described.ca_file = described.ca_file.as_deref().map(absolute).transpose()?;
    Ok(described)
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    Ok(std::path::absolute(path).map_err(failed)?)
}

/// Finds out whether a control plane answers, and takes the token.
async fn check(control_plane: &ControlPlane) -> Result<(), Error> {
    let mut client = control_plane.client()?;
    let index = client.get_json("/").await?;
    if index.get("product").and_then(Value::as_str) != Some(PRODUCT) {
        return Err(Error::Answer {
            what: format!("{}/", client.address()),
            reason: "it is no control plane; --no-check adds it all the same".to_owned(),
        });
    }
    client.get("/who-am-i").await?;
    Ok(())
}
