//! `generate`: tokens that the control plane signs.

use clap::Subcommand;
use runtime::config::HumanDuration;
use serde_json::{Map, Value, json};

use crate::client::Client;
use crate::error::Error;
use crate::terminal::Terminal;

pub(crate) const EXAMPLES: &str = "Examples:

  meshctl generate user-token --name alice --group mesh-system:admin --valid-for 24h > alice.token
  meshctl generate zone-token --zone east --valid-for 720h > east.token
  meshctl generate dataplane-token --mesh demo --name backend-1 > backend-1.token

The token is all that is written to standard output. Only administrators may issue tokens.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A token for a person or a program that uses the API.
    #[command(
        name = "user-token",
        after_help = "Example:\n\n  meshctl generate user-token --name alice --group mesh-system:admin --valid-for 24h"
    )]
    User {
        /// Whom the token names.
        #[arg(long)]
        name: String,
        /// A group of theirs; may be repeated. `mesh-system:admin` may do everything.
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
        /// How long it is valid, for example 24h or 30d.
        #[arg(long, value_name = "DURATION")]
        valid_for: HumanDuration,
    },
    /// A token for mesh-dp, to prove which proxy it is.
    #[command(
        name = "dataplane-token",
        after_help = "Example:\n\n  meshctl generate dataplane-token --mesh demo --name backend-1 --valid-for 30d"
    )]
    Dataplane {
        /// Name of the only dataplane it is good for.
        #[arg(long)]
        name: Option<String>,
        /// Mesh of the dataplane.
        #[arg(long, short, default_value = "default")]
        mesh: String,
        /// A tag that the dataplane must have, as KEY=VALUE; may be repeated.
        #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
        tags: Vec<(String, String)>,
        /// The only workload it is good for.
        #[arg(long)]
        workload: Option<String>,
        /// How long it is valid; without it, the control plane decides (ten years).
        #[arg(long, value_name = "DURATION")]
        valid_for: Option<HumanDuration>,
    },
    /// A token for a zone control plane, to join the global.
    #[command(
        name = "zone-token",
        after_help = "Example:\n\n  meshctl generate zone-token --zone east --valid-for 30d"
    )]
    Zone {
        /// The zone that may join with it.
        #[arg(long)]
        zone: String,
        /// What it is good for; may be repeated. Without any, for joining.
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// How long it is valid; without it, the control plane decides (ten years).
        #[arg(long, value_name = "DURATION")]
        valid_for: Option<HumanDuration>,
    },
}

fn tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

pub(crate) async fn run(command: Command, client: &mut Client, terminal: &mut Terminal) -> Result<(), Error> {
    let (what, request) = request(&command);
    let answer = client.post(&format!("/tokens/{what}"), &request).await;
    let answer =
        answer.map_err(|source| Error::Failed { action: format!("issue a {what} token"), source })?;
    Ok(terminal.line(answer.text().trim())?)
}

/// The kind of token and the body that asks for it.
fn request(command: &Command) -> (&'static str, Value) {
    let mut body = Map::new();
    let what = match command {
        Command::User { name, groups, .. } => {
            body.insert("name".into(), json!(name));
            body.insert("groups".into(), json!(groups));
            "user"
        }
        Command::Dataplane { name, mesh, tags, workload, .. } => {
            body.insert("mesh".into(), json!(mesh));
            body.extend(name.iter().map(|name| ("name".into(), json!(name))));
            body.extend(workload.iter().map(|workload| ("workload".into(), json!(workload))));
            if !tags.is_empty() {
                body.insert("tags".into(), grouped(tags));
            }
            "dataplane"
        }
        Command::Zone { zone, scopes, .. } => {
            body.insert("zone".into(), json!(zone));
            if !scopes.is_empty() {
                body.insert("scope".into(), json!(scopes));
            }
            "zone"
        }
    };
    let valid_for = match command {
        Command::User { valid_for, .. } => Some(valid_for),
        Command::Dataplane { valid_for, .. } | Command::Zone { valid_for, .. } => valid_for.as_ref(),
    };
    // Days are a unit that control planes do not know.
    body.extend(valid_for.map(|valid| ("validFor".into(), json!(format!("{}s", valid.get().as_secs())))));
    (what, Value::Object(body))
}

/// Values by key.
fn grouped(tags: &[(String, String)]) -> Value {
    let mut values: Map<String, Value> = Map::new();
    for (key, value) in tags {
        if let Value::Array(list) = values.entry(key.as_str()).or_insert_with(|| json!([])) {
            list.push(json!(value));
        }
    }
    Value::Object(values)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: Command,
    }

    fn asked(line: &str) -> (&'static str, Value) {
        let words = ["generate"].into_iter().chain(line.split_whitespace());
        request(&Line::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).command)
    }

    #[test]
    fn requests_have_the_fields_of_the_api() {
        assert_eq!(
            asked("user-token --name a --group x --group y --valid-for 30d"),
            ("user", json!({"name": "a", "groups": ["x", "y"], "validFor": "2592000s"}))
        );
        assert_eq!(
            asked("dataplane-token --tag a=1 --tag a=2 --tag b=3 --workload w --name d"),
            (
                "dataplane",
                json!({"mesh": "default", "name": "d", "workload": "w", "tags": {"a": ["1", "2"], "b": ["3"]}})
            )
        );
        assert_eq!(asked("zone-token --zone east"), ("zone", json!({"zone": "east"})));
        assert_eq!(
            asked("zone-token --zone east --scope cp --valid-for 1h"),
            ("zone", json!({"zone": "east", "scope": ["cp"], "validFor": "3600s"}))
        );
    }
}
