//! `inspect`: what one proxy or one zone has and does.

mod rules;
mod summary;

use clap::{Subcommand, ValueEnum};
use model::{Kind, Timestamp};
use serde_json::Value;

use crate::client::Client;
use crate::document::{self, Format};
use crate::error::Error;
use crate::kinds;
use crate::overview;
use crate::terminal::Terminal;

pub(crate) const EXAMPLES: &str = "Examples:

  meshctl inspect dataplane backend-1 --mesh demo
  meshctl inspect dataplane backend-1 --type config-dump > dump.json
  meshctl inspect zone east -o yaml";

const DATAPLANE_EXAMPLES: &str = "Examples:

  meshctl inspect dataplane backend-1                    streams, versions, certificate, refusals
  meshctl inspect dataplane backend-1 --type policies    policies that apply to the proxy as a whole
  meshctl inspect dataplane backend-1 --type config      what the zone control plane generates for it
  meshctl inspect dataplane backend-1 --type config-dump what its Envoy holds, asked from Envoy itself
  meshctl inspect dataplane backend-1 --type stats | grep upstream_rq

config-dump, stats and clusters also work at the global, which asks through the zone.";

/// What can be inspected.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A proxy: its overview, policies, configuration, and what its Envoy says.
    #[command(visible_alias = "dp", after_help = DATAPLANE_EXAMPLES)]
    Dataplane {
        #[command(flatten)]
        proxy: Proxy,
        /// What to show.
        #[arg(long = "type", short, value_enum, default_value_t = Topic::Overview, value_name = "TOPIC")]
        topic: Topic,
        /// With `config`: as it would be if shadow policies were in force, and what would change.
        #[arg(long)]
        shadow: bool,
        /// With `config-dump`: endpoints too.
        #[arg(long)]
        include_eds: bool,
    },
    /// The policies that apply to a proxy as a whole; short for `dataplane NAME --type policies`.
    #[command(after_help = "Example:\n\n  meshctl inspect policies backend-1")]
    Policies(Proxy),
    /// Every rule that concerns a proxy, its inbounds and outbounds; short for `dataplane NAME --type rules`.
    #[command(after_help = "Example:\n\n  meshctl inspect rules backend-1 -o yaml")]
    Rules(Proxy),
    /// The ports of a proxy and their names in Envoy; short for `dataplane NAME --type layout`.
    #[command(after_help = "Example:\n\n  meshctl inspect layout backend-1")]
    Layout(Proxy),
    /// A zone: its stream, its version, and what it was sent and refused.
    #[command(after_help = "Example:\n\n  meshctl inspect zone east")]
    Zone {
        /// Name of the zone.
        name: String,
        /// How to print it.
        #[arg(long, short, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
}

/// Which proxy, and how to show it.
#[derive(Debug, clap::Args)]
pub(crate) struct Proxy {
    /// Name of the dataplane.
    name: String,
    /// Its mesh.
    #[arg(long, short, default_value = "default")]
    mesh: String,
    /// How to print it.
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// What to show of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Topic {
    /// Streams, versions, certificate, refusals.
    Overview,
    /// Policies that apply to the proxy as a whole.
    Policies,
    /// Rules of policies by inbound and outbound.
    Rules,
    /// Its inbounds and outbounds and the names of their configuration.
    Layout,
    /// Configuration as its control plane generates it.
    Config,
    /// Configuration as Envoy holds it.
    ConfigDump,
    /// Envoy's counters.
    Stats,
    /// Envoy's clusters and the health of their endpoints.
    Clusters,
}

pub(crate) async fn run(
    command: Command,
    client: &mut Client,
    terminal: &mut Terminal,
    now: Timestamp,
) -> Result<(), Error> {
    match command {
        Command::Zone { name, output } => {
            let path = kinds::item(Kind::ZONE, "", &name) + "/_overview";
            let found = fetch(client, &path, &format!("zone {name}")).await?;
            if output == Format::Table {
                return summary::zone(terminal.out(), &overview::read(&path, &found)?, now);
            }
            document::write(terminal.out(), output, &found)
        }
        Command::Policies(proxy) => {
            dataplane(&proxy, Topic::Policies, false, false, client, terminal, now).await
        }
        Command::Rules(proxy) => dataplane(&proxy, Topic::Rules, false, false, client, terminal, now).await,
        Command::Layout(proxy) => dataplane(&proxy, Topic::Layout, false, false, client, terminal, now).await,
        Command::Dataplane { proxy, topic, shadow, include_eds } => {
            dataplane(&proxy, topic, shadow, include_eds, client, terminal, now).await
        }
    }
}

async fn dataplane(
    proxy: &Proxy,
    topic: Topic,
    shadow: bool,
    include_eds: bool,
    client: &mut Client,
    terminal: &mut Terminal,
    now: Timestamp,
) -> Result<(), Error> {
    let Proxy { name, mesh, output } = proxy;
    let item = kinds::item(Kind::DATAPLANE, mesh, name);
    let path = format!("{item}/{}", suffix(topic, shadow, include_eds, *output));
    let what = format!("dataplane {mesh}/{name}");
    // Envoy's own text, or its JSON as it is: dumps are large and other tools read them.
    if matches!(topic, Topic::ConfigDump | Topic::Stats | Topic::Clusters) && *output != Format::Yaml {
        let answer = client.get(&path).await.map_err(failed(&what))?;
        return Ok(terminal.line(answer.text().trim_end_matches('\n'))?);
    }
    let found = fetch(client, &path, &what).await?;
    if *output != Format::Table {
        return document::write(terminal.out(), *output, &found);
    }
    let table = match topic {
        Topic::Overview => return summary::dataplane(terminal.out(), &overview::read(&path, &found)?, now),
        Topic::Policies => rules::policies(&found),
        Topic::Rules => rules::rules(&found),
        Topic::Layout => rules::layout(&found),
        Topic::Config | Topic::ConfigDump | Topic::Stats | Topic::Clusters => {
            return document::write(terminal.out(), Format::Json, &found);
        }
    };
    Ok(table.write(terminal.out())?)
}

fn suffix(topic: Topic, shadow: bool, include_eds: bool, output: Format) -> String {
    let json = if output == Format::Table { "" } else { "?format=json" };
    match topic {
        Topic::Overview => "_overview".to_owned(),
        Topic::Policies => "_policies".to_owned(),
        Topic::Rules => "_rules".to_owned(),
        Topic::Layout => "_layout".to_owned(),
        Topic::Config if shadow => "_config?shadow=true&include=diff".to_owned(),
        Topic::Config => "_config".to_owned(),
        Topic::ConfigDump if include_eds => "xds?include_eds=true".to_owned(),
        Topic::ConfigDump => "xds".to_owned(),
        Topic::Stats => format!("stats{json}"),
        Topic::Clusters => format!("clusters{json}"),
    }
}

async fn fetch(client: &mut Client, path: &str, what: &str) -> Result<Value, Error> {
    client.get_json(path).await.map_err(failed(what))
}

fn failed(what: &str) -> impl FnOnce(crate::client::ClientError) -> Error {
    let action = format!("inspect {what}");
    move |source| Error::Failed { action, source }
}
