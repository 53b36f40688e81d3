//! The end of the demo: who is connected and has acknowledged what, and how to look around.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use e2e::patience::Patience;
use e2e::topology::{Topology, is_connected};
use serde_json::Value;

use super::screen;

/// How long the last acknowledgements may take to be reported; the table is printed then in any case.
const REPORTED: Duration = Duration::from_secs(15);

/// Zones and proxies as the global sees them, once all that was sent is acknowledged.
pub(super) fn table(topology: &Topology, patience: &Patience) -> anyhow::Result<()> {
    let api = topology.global.api();
    let settled = || -> anyhow::Result<()> {
        let zones = api.list("/zones/_overview")?;
        let proxies = api.list("/meshes/default/dataplanes/_overview")?;
        let insights = zones.iter().map(|zone| &zone["zoneInsight"]);
        for insight in insights.chain(proxies.iter().map(|proxy| &proxy["dataplaneInsight"])) {
            let [sent, acknowledged, rejected] = counts(insight);
            ensure!(sent == acknowledged + rejected, "{sent} sent, {acknowledged} acknowledged");
        }
        Ok(())
    };
    if let Err(error) = patience.with_limit(REPORTED).until("acknowledgements", settled) {
        println!("\n   {error:#}");
    }
    let zones = api.list("/zones/_overview")?;
    let rows: Vec<_> = zones.iter().map(|zone| row(&zone["zoneInsight"], &[text(&zone["name"])])).collect();
    println!("\n{}", screen::table(&["ZONE", "STATE", "SENT", "ACKNOWLEDGED", "REJECTED"], &rows));
    let proxies = api.list("/meshes/default/dataplanes/_overview")?;
    let rows: Vec<_> = proxies
        .iter()
        .map(|proxy| {
            let label = |name: &str| text(&proxy["labels"][name]);
            row(&proxy["dataplaneInsight"], &[label("kuma.io/display-name"), label("kuma.io/zone")])
        })
        .collect();
    println!("{}", screen::table(&["PROXY", "ZONE", "STATE", "SENT", "ACKNOWLEDGED", "REJECTED"], &rows));
    Ok(())
}

fn row(insight: &Value, first: &[String]) -> Vec<String> {
    let state = if is_connected(insight) { "online" } else { "offline" };
    let mut row = first.to_vec();
    row.push(state.to_owned());
    row.extend(counts(insight).iter().map(u64::to_string));
    row
}

/// Responses sent, acknowledged and rejected on the newest stream.
fn counts(insight: &Value) -> [u64; 3] {
    let newest = insight["subscriptions"].as_array().and_then(|all| all.last()).unwrap_or(&Value::Null);
    ["responsesSent", "responsesAcknowledged", "responsesRejected"].map(|key| {
        // 64-bit numbers are text in the JSON form of protobuf.
        let count = &newest["status"]["total"][key];
        count.as_u64().or_else(|| count.as_str()?.parse().ok()).unwrap_or_default()
    })
}

/// A string without its quotes, anything else as JSON.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// How to look around while it stays up.
pub(super) fn hints(topology: &Topology, binaries: &Path) {
    let meshctl = binaries.join("meshctl");
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let global = url(topology.global.port("api"));
    println!("Look around:");
    println!("   {} --address {global} status", meshctl.display());
    println!("   {} --address {global} get dataplanes", meshctl.display());
    println!("   curl {global}/meshes/default/meshservices");
    for (name, zone) in &topology.zones {
        println!("   zone {name}: {}", url(zone.plane.port("api")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_may_be_text_or_numbers_or_missing() {
        let insight = serde_json::json!({"subscriptions": [
            {"connectTime": "2026-01-01T00:00:00Z", "disconnectTime": "2026-01-01T00:00:01Z"},
            {"connectTime": "2026-01-01T00:00:02Z", "status": {"total": {"responsesSent": "7", "responsesAcknowledged": 6}}},
        ]});
        let row = row(&insight, &["east".to_owned()]);
        assert_eq!(row, ["east", "online", "7", "6", "0"]);
    }
}
