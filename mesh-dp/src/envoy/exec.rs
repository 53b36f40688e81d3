//! The hidden subcommand between mesh-dp and Envoy.
//!
//! The kernel can end a child with its parent, but the child itself has to ask for it, after the fork
//! and before it becomes Envoy. Rust allows code there only in `unsafe`; a program of our own in
//! between needs none. Linux keeps the request across `execve` (prctl(2)).

use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt, parent_id};
use std::process::Command;

use nix::sys::prctl;
use nix::sys::signal::Signal;

use crate::cli::ExecArgs;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecError {
    #[error("cannot bind Envoy's life to mesh-dp's")]
    Bind(#[from] nix::Error),
    #[error("mesh-dp ended before Envoy started")]
    Orphaned,
    #[error("cannot run {}", command.display())]
    Exec { command: OsString, source: io::Error },
}

/// Becomes the given command. Returns only on failure.
pub(crate) fn replace_this_process(args: &ExecArgs) -> ExecError {
    if let Err(error) = prctl::set_pdeathsig(Signal::SIGKILL) {
        return error.into();
    }
    // A parent that died before the line above sends nothing any more.
    if i32::try_from(parent_id()) != Ok(args.parent) {
        return ExecError::Orphaned;
    }
    let Some((command, arguments)) = args.command.split_first() else { return ExecError::Orphaned };
    let source = Command::new(command).args(arguments).exec();
    ExecError::Exec { command: command.clone(), source }
}

/// The arguments that make this program replace itself by a command.
pub(super) fn arguments(parent: u32, command: &[OsString]) -> Vec<OsString> {
    let mut arguments: Vec<OsString> =
        vec!["exec-envoy".into(), "--parent".into(), parent.to_string().into(), "--".into()];
    arguments.extend_from_slice(command);
    arguments
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command as Sub};

    #[test]
    fn arguments_are_understood_by_this_program() {
        let command: Vec<OsString> = ["envoy", "--config-path", "x"].map(Into::into).to_vec();
        let line = std::iter::once("mesh-dp".into()).chain(arguments(7, &command));
        let Sub::ExecEnvoy(args) = Cli::parse_from(line).command else { panic!("not exec-envoy") };
        assert_eq!((args.parent, args.command), (7, command));
    }

    #[test]
    fn an_orphan_does_not_become_envoy() {
        let args = ExecArgs { parent: -1, command: vec!["true".into()] };
        assert!(matches!(replace_this_process(&args), ExecError::Orphaned));
        // The test process asked to die with its parent: take that back.
        prctl::set_pdeathsig(None).unwrap();
    }
}
