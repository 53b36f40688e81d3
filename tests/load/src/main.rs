//! `cargo xtask bench`: plays many peers of a control plane over the real wire and real TLS, measures it from
//! outside, and checks that every peer ends with what it must have. A run that fails the check has no result.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tells people what it does")]

mod board;
mod deck;
mod fleet;
mod meter;
mod proxy;
mod report;
mod rest;
mod scenario;
mod zone;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use e2e::launch;

use deck::{Deck, Setup};
use scenario::{inventory, proxies, zones};

/// Load scenarios: what a change costs, and how long it takes to reach everybody.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    scenario: Scenario,
    /// Folder of the binaries to measure; `cargo xtask bench` builds them and names it.
    #[arg(long, global = true, value_name = "FOLDER", default_value = "target/release")]
    binaries: PathBuf,
    /// Folder for data and logs; emptied first.
    #[arg(long, global = true, value_name = "FOLDER", default_value = "target/bench")]
    folder: PathBuf,
    /// What the global keeps its resources in.
    #[arg(long, global = true, value_enum, default_value_t = deck::StoreKind::Etcd)]
    store: deck::StoreKind,
    /// Also write the figures as JSON to this file.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Policies from the global to many zones: latency, bursts, idle, restart and reconnect of all.
    Zones(zones::Args),
    /// Proxies of one zone: policies, endpoints, many that connect at once, restart of the zone control plane.
    Proxies(proxies::Args),
    /// Dataplanes and insights from many zones to the global, churn, and walking them over REST.
    Inventory(inventory::Args),
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|first| first == launch::LAUNCH || first == launch::SERVE) {
        return launch::main(&arguments);
    }
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    runtime::tls::install_provider();
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if let Scenario::Proxies(args) = &cli.scenario {
        // Processes end with the thread that started them: it is this one, for the whole run.
        return show(cli, &tokio.block_on(proxies::run(args, &cli.binaries, &cli.folder))?);
    }
    let setup = Setup { binaries: &cli.binaries, folder: &cli.folder, store: cli.store };
    // Processes end with the thread that started them: it is this one, for the whole run.
    let mut deck = Deck::start(&setup)?;
    let report = tokio.block_on(async {
        match &cli.scenario {
            Scenario::Zones(args) => zones::run(args, &mut deck).await,
            Scenario::Inventory(args) => inventory::run(args, &mut deck).await,
            Scenario::Proxies(_) => unreachable!("it was run above"),
        }
    })?;
    deck.stop();
    show(cli, &report)
}

fn show(cli: &Cli, report: &report::Report) -> anyhow::Result<()> {
    println!("\n{}", report.markdown());
    if let Some(file) = &cli.json {
        std::fs::write(file, serde_json::to_vec_pretty(report)?)?;
    }
    Ok(())
}
