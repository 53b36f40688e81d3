//! `meshctl` is the command line of the mesh: it reads and writes resources, inspects proxies and zones, issues
//! tokens and tells what is not in sync, all over the REST API of a control plane.

mod cli;
mod client;
mod commands;
mod config_file;
mod document;
mod dry_run;
mod entries;
mod error;
mod kinds;
mod overview;
mod server;
mod source;
mod table;
mod terminal;
mod when;

use std::process::ExitCode;

use clap::Parser;
use model::Timestamp;

use error::Error;
use terminal::Terminal;

fn main() -> ExitCode {
    runtime::tls::install_provider();
    let cli = cli::Cli::parse();
    let mut terminal = Terminal::standard();
    match run(cli, &mut terminal) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader, for example `head`, has what it wanted.
        Err(Error::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Error::Differs) => ExitCode::FAILURE,
        Err(error) => {
            // Nothing is left to tell it to when standard error is closed too.
            let _ = terminal.error(&error);
            // As diff(1) has it: 1 is for differences.
            if matches!(error, Error::Untold(_)) { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

fn run(cli: cli::Cli, terminal: &mut Terminal) -> Result<(), Error> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    let now = Timestamp::from_system(std::time::SystemTime::now());
    let done = runtime.block_on(commands::run(cli, terminal, now));
    terminal.flush()?;
    done
}
