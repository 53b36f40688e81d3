//! The command line.

use clap::{Parser, Subcommand};

use crate::commands::{
    apply, completion, config, delete, diff, explain, export, generate, get, inspect, removals, status,
};
use crate::server::ServerArgs;

const EXAMPLES: &str = "Examples:

  meshctl status                                 is everything in sync?
  meshctl apply -f manifests/                    write resources
  meshctl get meshservices --all-meshes          read resources
  meshctl inspect dataplane backend-1            what one proxy has
  meshctl get meshtimeout slow -o yaml | meshctl apply -f - --dry-run

Without --address, the control plane is the current one of `meshctl config`, or http://127.0.0.1:5681.";

/// Reads and writes resources of the mesh, inspects proxies and zones, and tells what is not in sync.
#[derive(Debug, Parser)]
#[command(name = "meshctl", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// One module of `commands` each.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show resources of one kind.
    #[command(after_help = get::examples())]
    Get(get::Args),
    /// Create or update resources from files, folders or standard input.
    #[command(after_help = apply::EXAMPLES)]
    Apply(apply::Args),
    /// Show what an apply would change.
    #[command(after_help = diff::EXAMPLES)]
    Diff(diff::Args),
    /// Show what a kind and its fields mean.
    #[command(after_help = explain::EXAMPLES)]
    Explain(explain::Args),
    /// Print everything that users wrote on a control plane.
    #[command(after_help = export::EXPORT_EXAMPLES)]
    Export(export::ExportArgs),
    /// Write what was exported from another control plane.
    #[command(after_help = export::IMPORT_EXAMPLES)]
    Import(export::ImportArgs),
    /// Delete resources.
    #[command(after_help = delete::EXAMPLES)]
    Delete(delete::Args),
    /// Show what a proxy or a zone has and does.
    #[command(subcommand, after_help = inspect::EXAMPLES)]
    Inspect(inspect::Command),
    /// Show zones and proxies, and what is not in sync and why.
    #[command(after_help = status::EXAMPLES)]
    Status(status::Args),
    /// Show and confirm mass removals that wait.
    #[command(subcommand, after_help = removals::EXAMPLES)]
    Removals(removals::Command),
    /// Issue tokens.
    #[command(subcommand, after_help = generate::EXAMPLES)]
    Generate(generate::Command),
    /// Remember control planes, and which one is in use.
    #[command(subcommand, after_help = config::EXAMPLES)]
    Config(config::Command),
    /// Print a script that completes commands in a shell.
    #[command(after_help = completion::EXAMPLES)]
    Completion(completion::Args),
    /// Print the version of meshctl and of the control plane.
    #[command(after_help = "Example:\n\n  meshctl version")]
    Version,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_teaches_with_an_example() {
        for command in Cli::command().get_subcommands().filter(|command| command.get_name() != "help") {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("meshctl "), "{} has no example", command.get_name());
        }
    }
}
