//! A zone control plane.

use clap::Parser;
use zone_cp::{app, cli};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    runtime::tls::install_provider();
    match cli::Cli::parse().command {
        cli::Command::Run(args) => app::run(*args).await,
    }
}
