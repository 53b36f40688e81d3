//! The commands, one module each.

pub(crate) mod apply;
pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod delete;
pub(crate) mod diff;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod generate;
pub(crate) mod get;
pub(crate) mod inspect;
pub(crate) mod removals;
pub(crate) mod status;
pub(crate) mod version;

use model::Timestamp;

use crate::cli::{Cli, Command};
use crate::error::Error;
use crate::terminal::Terminal;

/// Runs the command that was asked for. `now` is the time that ages are counted to.
pub(crate) async fn run(cli: Cli, terminal: &mut Terminal, now: Timestamp) -> Result<(), Error> {
    let server = cli.server;
    match cli.command {
        Command::Get(args) => get::run(args, &mut server.client(terminal)?, terminal, now).await,
        Command::Apply(args) => apply::run(args, &server, terminal).await,
        Command::Diff(args) => diff::run(&args, &server, terminal).await,
        Command::Export(args) => export::export(args, &mut server.client(terminal)?, terminal).await,
        Command::Import(args) => export::import(args, &mut server.client(terminal)?, terminal).await,
        Command::Explain(args) => explain::run(&args, terminal),
        Command::Delete(args) => delete::run(args, &mut server.client(terminal)?, terminal).await,
        Command::Inspect(command) => {
            inspect::run(command, &mut server.client(terminal)?, terminal, now).await
        }
        Command::Removals(command) => removals::run(command, &mut server.client(terminal)?, terminal).await,
        Command::Status(args) => status::run(args, &mut server.client(terminal)?, terminal, now).await,
        Command::Generate(command) => generate::run(command, &mut server.client(terminal)?, terminal).await,
        Command::Config(command) => config::run(command, &server, terminal).await,
        Command::Completion(args) => completion::run(&args, terminal),
        Command::Version => version::run(&server, terminal).await,
    }
}
