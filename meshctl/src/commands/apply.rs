//! `apply`: writes the resources of manifests. One that is refused does not hold up the others.

use clap::ValueEnum;
use http::StatusCode;
use serde_json::Value;

use crate::client::{Client, ClientError};
use crate::document::{self, Format};
use crate::dry_run::{Outcome, Trials};
use crate::entries::{Entries, Entry, SourceArgs};
use crate::error::Error;
use crate::server::ServerArgs;
use crate::terminal::{Terminal, chain};

pub(crate) const EXAMPLES: &str = "Examples:

  meshctl apply -f mesh.yaml -f policies/
  meshctl get meshtimeouts -o yaml | meshctl apply -f -
  meshctl apply -f policies/ --recursive --dry-run
  meshctl apply -f policies/ --dry-run=client

Meshes are written first, the others in the order of the manifests. What is refused is told with its file, \
document and fields; the rest is written, and the exit status is 1.";

/// Who says what an apply would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DryRun {
    /// The control plane: every check of a write, with labels and defaults as they would be stored.
    Server,
    /// Meshctl itself: the rules that need nothing but the manifest. No control plane is asked.
    Client,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    source: SourceArgs,
    /// Check the manifests and print the resources as they would be stored, without writing them.
    #[arg(long, value_enum, value_name = "BY", num_args = 0..=1, require_equals = true, default_missing_value = "server")]
    dry_run: Option<DryRun>,
}

pub(crate) async fn run(args: Args, server: &ServerArgs, terminal: &mut Terminal) -> Result<(), Error> {
    let Entries { list, total } = args.source.read(terminal)?;
    let (passed, what) = match args.dry_run {
        None => (write(list, &mut server.client(terminal)?, terminal).await?, "are not applied"),
        Some(DryRun::Client) => (attempt(&list, Trials::new(None), terminal).await?, "would not be applied"),
        Some(DryRun::Server) => {
            let mut client = server.client(terminal)?;
            (attempt(&list, Trials::new(Some(&mut client)), terminal).await?, "would not be applied")
        }
    };
    if passed == total { Ok(()) } else { Err(Error::Incomplete { failed: total - passed, total, what }) }
}

/// Tries the writes and prints what would be stored; answers how many would be taken.
async fn attempt(entries: &[Entry], mut trials: Trials<'_>, terminal: &mut Terminal) -> Result<usize, Error> {
    let mut passed = 0;
    for entry in entries {
        let Entry { place, key, .. } = entry;
        let trial = match trials.make(entry).await {
            Ok(trial) => trial,
            Err(error) if error.is_fatal() => return Err(error.of(format!("try to apply {key} of {place}"))),
            Err(error) => {
                terminal.note(format_args!("error: {place}: {key}: {}", chain(&error)))?;
                continue;
            }
        };
        for warning in &trial.warnings {
            terminal.warning(format_args!("{place}: {key}: {warning}"))?;
        }
        if passed > 0 {
            terminal.line("---")?;
        }
        passed += 1;
        let brings = if trial.brings.is_empty() {
            String::new()
        } else {
            format!(", with {}", trial.brings.join(", "))
        };
        terminal.line(format_args!("# {key} would be {}{brings}", trial.outcome))?;
        document::write(terminal.out(), Format::Yaml, &trial.resource)?;
    }
    Ok(passed)
}

/// Sends the resources; answers how many were taken.
async fn write(entries: Vec<Entry>, client: &mut Client, terminal: &mut Terminal) -> Result<usize, Error> {
    let mut written = 0;
    for entry in entries {
        let Entry { place, key, document } = &entry;
        match put(client, &entry.path(), document).await {
            Ok((outcome, warnings)) => {
                written += 1;
                for warning in warnings {
                    terminal.warning(format_args!("{place}: {key}: {warning}"))?;
                }
                terminal.line(format_args!("{key} {outcome}"))?;
            }
            Err(source) if source.is_fatal() => {
                return Err(Error::Failed { action: format!("apply {key} of {place}"), source });
            }
            Err(error) => terminal.note(format_args!("error: {place}: {key}: {}", chain(&error)))?,
        }
    }
    Ok(written)
}

/// Writes a document. What the server stores, not what was sent, tells whether something changed: the server
/// fills in defaults and drops what it does not know.
pub(super) async fn put(
    client: &mut Client,
    path: &str,
    document: &Value,
) -> Result<(Outcome, Vec<String>), ClientError> {
    let before = match client.get_json(path).await {
        Ok(stored) => Some(stored),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error),
    };
    let answer = client.put(path, document).await?;
    let outcome = match before {
        None => Outcome::Created,
        Some(_) if answer.status == StatusCode::CREATED => Outcome::Created,
        Some(before) => match client.get_json(path).await {
            Ok(after) if same(&before, &after) => Outcome::Unchanged,
            _ => Outcome::Updated,
        },
    };
    Ok((outcome, answer.warnings))
}

/// Whether two documents differ in nothing that a user wrote.
fn same(before: &Value, after: &Value) -> bool {
    let (Some(before), Some(after)) = (before.as_object(), after.as_object()) else { return false };
    let written = |key: &&String| !matches!(key.as_str(), "modificationTime" | "status");
    let fields = |document| serde_json::Map::keys(document).filter(written);
    fields(before).eq(fields(after)) && fields(before).all(|key| before.get(key) == after.get(key))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_a_user_writes_counts_as_a_change() {
        let before = json!({"name": "a", "modificationTime": "1", "spec": {"x": 1}, "status": {}});
        assert!(same(
            &before,
            &json!({"name": "a", "modificationTime": "2", "spec": {"x": 1}, "status": {"y": 1}})
        ));
        assert!(!same(&before, &json!({"name": "a", "modificationTime": "1", "spec": {"x": 2}})));
        assert!(!same(&before, &json!({"name": "a", "labels": {"l": "1"}, "spec": {"x": 1}})));
    }
}
