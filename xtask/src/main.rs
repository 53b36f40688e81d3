//! Developer commands: `cargo xtask check|tidy|test|conformance|demo|measure|bench`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tells people what it does")]

mod bench;
mod check;
mod conformance;
mod demo;
mod folder;
mod links;
mod measure;
mod rules;
mod shell;
mod signals;
mod stage;
mod test;
mod tidy;
mod tools;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use e2e::launch;

/// Developer commands of the workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Formatting, clippy without warnings, the house rules, links of the documents.
    Check,
    /// Format, remove left-over files, and tell what of the house rules is broken.
    Tidy,
    /// Install what tests need if it is missing, run every test and print the totals.
    Test {
        /// Passed on to `cargo test`, for example `-p store`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Replay recorded exchanges against the binaries and compare with the floors.
    ///
    /// FOLDER holds the runners (run_api.py, run_labels.py, run_envoyconfig.py), each beside its suite.
    Conformance {
        /// Where the runners and the cases are.
        folder: PathBuf,
    },
    /// Run a global, two zones and their Envoys on this machine, and send requests across them.
    ///
    /// Everything is on loopback and in the folder `.demo`; Ctrl-C stops it all.
    Demo(demo::Args),
    /// Measure what docs/performance.md tells: latency of a policy, idle CPU, memory, cost of a reconnect.
    Measure(measure::Args),
    /// Play many peers of a control plane and measure what changes cost: `cargo xtask bench zones --help`.
    ///
    /// Builds with --release first. Everything is on loopback and in `target/bench`.
    #[command(disable_help_flag = true)]
    Bench {
        /// Scenario and its flags, as `load --help` explains.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|first| first == launch::LAUNCH || first == launch::SERVE) {
        return launch::main(&arguments);
    }
    let done = match Cli::parse().command {
        Command::Check => check::run(),
        Command::Tidy => tidy::run(),
        Command::Test { args } => test::run(&args),
        Command::Conformance { folder } => conformance::run(&folder),
        Command::Demo(args) => demo::run(&args),
        Command::Measure(args) => measure::run(&args),
        Command::Bench { args } => bench::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
