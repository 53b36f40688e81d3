//! `completion`: a script for a shell.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::error::Error;
use crate::terminal::Terminal;

pub(crate) const EXAMPLES: &str = "Examples:

  meshctl completion bash > ~/.local/share/bash-completion/completions/meshctl
  meshctl completion zsh > \"${fpath[1]}/_meshctl\"
  meshctl completion fish > ~/.config/fish/completions/meshctl.fish";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell that reads the script.
    shell: Shell,
}

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> Result<(), Error> {
    // The generator panics when it cannot write, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "meshctl", &mut script);
    Ok(terminal.out().write_all(&script)?)
}
