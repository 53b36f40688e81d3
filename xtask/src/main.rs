//! Developer commands: `cargo xtask check|tidy|test|conformance|demo`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tells people what it does")]

mod check;
mod conformance;
mod links;
mod rules;
mod shell;
mod test;
mod tidy;
mod tools;
mod workspace;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

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
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Check => check::run(),
        Command::Tidy => tidy::run(),
        Command::Test { args } => test::run(&args),
        Command::Conformance { folder } => conformance::run(&folder),
    }
}
