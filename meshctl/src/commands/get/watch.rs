//! `get --watch`: what is there, then every change.

use model::{Kind, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use super::columns;
use crate::client::{Client, ClientError};
use crate::document::{self, Format};
use crate::error::Error;
use crate::terminal::Terminal;

/// A line of the stream.
#[derive(Deserialize)]
struct Event {
    r#type: String,
    #[serde(default)]
    object: Value,
}

pub(super) async fn run(
    kind: Kind,
    path: &str,
    output: Format,
    client: &mut Client,
    terminal: &mut Terminal,
    now: Timestamp,
) -> Result<(), Error> {
    let failed = |source| Error::Failed { action: format!("watch {}", kind.plural), source };
    let mut lines = match client.follow(path).await {
        Ok(lines) => lines,
        Err(ClientError::Problem(problem)) if problem.is_of_router() => {
            return Err(Error::Usage("this control plane cannot be watched".to_owned()));
        }
        Err(error) => return Err(failed(error)),
    };
    let mut held = Vec::new();
    let mut is_synced = false;
    while let Some(event) = lines.next::<Event>().await.map_err(failed)? {
        let is_mark = event.r#type == "SYNCED";
        is_synced |= is_mark;
        if output == Format::Table {
            if !is_mark {
                held.push((event.r#type, event.object));
            }
            if is_synced {
                columns::events(kind, &held, is_mark, now).write(terminal.out())?;
                held.clear();
            }
        } else if !is_mark {
            document::write_event(terminal.out(), output, &event.r#type, &event.object)?;
        }
        terminal.flush()?;
    }
    Err(Error::Usage("the control plane has ended the watch: it stops or restarts".to_owned()))
}
