//! `status`: zones, proxies, and what is not in sync.

mod report;

use std::io::Write;

use model::Timestamp;

use super::removals;
use super::version::Index;
use crate::client::Client;
use crate::document::{self, Format};
use crate::error::Error;
use crate::overview::{self, DataplaneOverview, ZoneOverview};
use crate::table::Table;
use crate::terminal::Terminal;
use crate::when;
use report::Report;

pub(crate) const EXAMPLES: &str = "Examples:

  meshctl status
  meshctl status -o json | jq .notInSync

Not in sync is whatever does not run what its control plane wants it to: zones and proxies that are offline, \
that refused an update, or that have not answered one yet.";

/// Findings that the table lists; there is more in YAML and JSON.
const SHOWN: usize = 25;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How to print it.
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    output: Format,
}

pub(crate) async fn run(
    args: Args,
    client: &mut Client,
    terminal: &mut Terminal,
    now: Timestamp,
) -> Result<(), Error> {
    let report = collect(client, now).await?;
    match args.output {
        Format::Table => write(terminal.out(), &report, now),
        format => document::write(terminal.out(), format, &serde_json::to_value(&report)?),
    }
}

async fn collect(client: &mut Client, now: Timestamp) -> Result<Report, Error> {
    let index = Index::read(&client.get_json("/").await?);
    let zones = client.list("/zones/_overview", "").await?;
    let zones: Vec<ZoneOverview> =
        zones.iter().map(|zone| overview::read("zones/_overview", zone)).collect::<Result<_, _>>()?;
    let proxies = client.list("/dataplanes/_overview", "").await?;
    let proxies: Vec<DataplaneOverview> = proxies
        .iter()
        .map(|proxy| overview::read("dataplanes/_overview", proxy))
        .collect::<Result<_, _>>()?;
    let mut report = report::of(client.address().to_string(), index, &zones, &proxies, now);
    report.not_in_sync.extend(removals::waiting(client).await?.iter().map(report::removals));
    Ok(report)
}

fn write(out: &mut dyn Write, report: &Report, now: Timestamp) -> Result<(), Error> {
    let Report { address, control_plane, zones, proxies, not_in_sync } = report;
    writeln!(
        out,
        "Control plane {} version {} at {address}\n",
        control_plane.instance, control_plane.version
    )?;

    if zones.is_empty() {
        writeln!(out, "No zones\n")?;
    } else {
        let mut table = Table::new(["ZONE", "STATUS", "SINCE", "VERSION", "SENT", "ACKED", "REJECTED"]);
        for zone in zones {
            let counts = zone.updates;
            let counts = [counts.responses_sent, counts.responses_acknowledged, counts.responses_rejected];
            let since = zone.since.map(|since| when::ago(since, now)).unwrap_or_default();
            let facts = [zone.name.clone(), zone.status.text(), since, zone.version.clone()];
            table.row(facts.into_iter().chain(counts.map(|count| count.to_string())));
        }
        table.write(out)?;
        writeln!(out)?;
    }

    if proxies.is_empty() {
        writeln!(out, "No proxies\n")?;
    } else {
        let mut table = Table::new(["MESH", "ZONE", "ONLINE", "TOTAL", "AGENT", "ENVOY"]);
        for group in proxies {
            let versions = [&group.agents, &group.envoys].map(|versions| join(versions.iter()));
            let counts = [group.online.to_string(), group.total.to_string()];
            table.row([group.mesh.clone(), group.zone.clone()].into_iter().chain(counts).chain(versions));
        }
        table.write(out)?;
        writeln!(out)?;
    }

    if not_in_sync.is_empty() {
        writeln!(out, "Everything is in sync")?;
        return Ok(());
    }
    writeln!(out, "Not in sync:")?;
    for finding in not_in_sync.iter().take(SHOWN) {
        writeln!(out, "  {}: {}", finding.what, finding.why)?;
    }
    if let Some(more) = not_in_sync.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        writeln!(out, "  and {more} more: `meshctl status -o yaml` lists them all")?;
    }
    Ok(())
}

fn join<'a>(texts: impl Iterator<Item = &'a String>) -> String {
    texts.map(String::as_str).collect::<Vec<_>>().join(",")
}
