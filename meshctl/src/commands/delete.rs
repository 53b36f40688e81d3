//! `delete`: removes resources by name.

use crate::client::Client;
use crate::error::Error;
use crate::kinds;
use crate::terminal::{Terminal, chain};

pub(crate) const EXAMPLES: &str = "Examples:

  meshctl delete meshtimeout slow --mesh demo
  meshctl delete zone west east";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Kind of the resources, for example `meshtimeout`, `mesh-timeout` or `mt`.
    kind: String,
    /// Their names.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Their mesh; kinds without a mesh do not need it.
    #[arg(long, short, default_value = "default")]
    mesh: String,
}

pub(crate) async fn run(args: Args, client: &mut Client, terminal: &mut Terminal) -> Result<(), Error> {
    let kind = kinds::resolve(&args.kind)?;
    let mut failed = 0;
    for name in &args.names {
        let shown = kinds::shown(kind, &args.mesh, name);
        match client.delete(&kinds::item(kind, &args.mesh, name)).await {
            Ok(answer) => {
                for warning in &answer.warnings {
                    terminal.warning(format_args!("{shown}: {warning}"))?;
                }
                terminal.line(format_args!("{shown} deleted"))?;
            }
            Err(source) if source.is_fatal() || args.names.len() == 1 => {
                return Err(Error::Failed { action: format!("delete {shown}"), source });
            }
            Err(error) => {
                failed += 1;
                terminal.note(format_args!("error: cannot delete {shown}: {}", chain(&error)))?;
            }
        }
    }
    match failed {
        0 => Ok(()),
        failed => Err(Error::Incomplete { failed, total: args.names.len(), what: "are not deleted" }),
    }
}
