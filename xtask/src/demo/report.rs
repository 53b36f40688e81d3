//! The end of the demo: who is connected and has acknowledged what, and how to look around.

use std::path::Path;

use e2e::topology::{Topology, is_connected};
use serde_json::Value;

use super::screen;

/// Zones and proxies as the global sees them.
pub(super) fn table(topology: &Topology) -> anyhow::Result<()> {
    let api = topology.global.api();
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
    let newest = insight["subscriptions"].as_array().and_then(|all| all.last()).cloned().unwrap_or_default();
    let total = &newest["status"]["total"];
    let count = |key: &str| match &total[key] {
        Value::Null => "0".to_owned(),
        value => text(value),
    };
    let state = if is_connected(insight) { "online" } else { "offline" };
    let mut row = first.to_vec();
    row.push(state.to_owned());
    row.extend(["responsesSent", "responsesAcknowledged", "responsesRejected"].map(count));
    row
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
