//! `diff`: what an apply would change.

use serde_json::Value;
use similar::TextDiff;

use crate::client::ClientError;
use crate::dry_run::{Outcome, Trials};
use crate::entries::{Entries, Entry, SourceArgs};
use crate::error::Error;
use crate::server::ServerArgs;
use crate::terminal::{Terminal, chain};

pub(crate) const EXAMPLES: &str = "Examples:

  meshctl diff -f policies/
  meshctl get meshtimeout slow -o yaml | sed s/5s/9s/ | meshctl diff -f -

Shows resources as they are and as they would be stored, with computed labels and defaults. The exit status is 0 \
when nothing would change, 1 when something would, 2 when that cannot be told.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    source: SourceArgs,
}

pub(crate) async fn run(args: &Args, server: &ServerArgs, terminal: &mut Terminal) -> Result<(), Error> {
    match differences(args, server, terminal).await {
        Ok(false) => Ok(()),
        Ok(true) => Err(Error::Differs),
        Err(error) => Err(Error::Untold(Box::new(error))),
    }
}

/// Prints what differs; answers whether anything does.
async fn differences(args: &Args, server: &ServerArgs, terminal: &mut Terminal) -> Result<bool, Error> {
    let Entries { list, total } = args.source.read(terminal)?;
    let mut client = server.client(terminal)?;
    let mut trials = Trials::new(Some(&mut client));
    let (mut told, mut differs) = (0, false);
    for entry in &list {
        let Entry { place, key, .. } = entry;
        let failed =
            |source: ClientError| Error::Failed { action: format!("compare {key} of {place}"), source };
        let trial = match trials.make(entry).await {
            Ok(trial) => trial,
            Err(error) if error.is_fatal() => return Err(error.of(format!("compare {key} of {place}"))),
            Err(error) => {
                terminal.note(format_args!("error: {place}: {key}: {}", chain(&error)))?;
                continue;
            }
        };
        told += 1;
        if trial.outcome == Outcome::Unchanged {
            continue;
        }
        differs = true;
        let stored = trials.stored(entry, &trial).await.map_err(failed)?;
        let before = stored.as_ref().map(written).transpose()?.unwrap_or_default();
        let after = written(&trial.resource)?;
        let diff = TextDiff::from_lines(&before, &after);
        let from = if stored.is_some() { format!("{key} (stored)") } else { "/dev/null".to_owned() };
        let to = format!("{key} ({place})");
        write!(terminal.out(), "{}", diff.unified_diff().header(&from, &to))?;
    }
    if told == total {
        Ok(differs)
    } else {
        Err(Error::Incomplete { failed: total - told, total, what: "cannot be compared" })
    }
}

/// A document as YAML, without what no user writes.
fn written(document: &Value) -> Result<String, Error> {
    let mut document = document.clone();
    if let Some(fields) = document.as_object_mut() {
        for observed in ["creationTime", "modificationTime", "status", "kri", "snis"] {
            fields.remove(observed);
        }
    }
    let mut text = Vec::new();
    crate::document::write(&mut text, crate::document::Format::Yaml, &document)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
