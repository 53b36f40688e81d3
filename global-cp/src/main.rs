//! The global control plane.

use std::process::ExitCode;

use clap::Parser;
use global_cp::{app, cli};

#[tokio::main]
async fn main() -> ExitCode {
    runtime::tls::install_provider();
    let ended = match cli::Cli::parse().command {
        cli::Command::Run(args) => app::run(*args).await,
    };
    runtime::exit_code("global-cp", ended)
}
