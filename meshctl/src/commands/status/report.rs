//! Draws conclusions from what is observed of zones and proxies.

use std::collections::{BTreeMap, BTreeSet};

use model::Timestamp;
use serde::Serialize;

use crate::commands::removals::Waiting;
use crate::commands::version::Index;
use crate::overview::{Counts, DataplaneOverview, Insight, Presence, ZoneOverview};
use crate::when;

/// The state of everything that a control plane knows.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) address: String,
    pub(super) control_plane: Index,
    pub(super) zones: Vec<Zone>,
    pub(super) proxies: Vec<Group>,
    pub(super) not_in_sync: Vec<Finding>,
}

/// A zone.
#[derive(Debug, Serialize)]
pub(super) struct Zone {
    pub(super) name: String,
    pub(super) status: Presence,
    /// Since when it is connected, or no longer is.
    pub(super) since: Option<Timestamp>,
    pub(super) version: String,
    pub(super) updates: Counts,
}

/// Proxies of one mesh in one zone.
#[derive(Debug, Default, Serialize)]
pub(super) struct Group {
    pub(super) mesh: String,
    pub(super) zone: String,
    pub(super) online: usize,
    pub(super) total: usize,
    pub(super) agents: BTreeSet<String>,
    pub(super) envoys: BTreeSet<String>,
}

/// Something that is not in sync.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) what: String,
    pub(super) why: String,
}

/// Puts the observations together.
pub(super) fn of(
    address: String,
    control_plane: Index,
    zones: &[ZoneOverview],
    proxies: &[DataplaneOverview],
    now: Timestamp,
) -> Report {
    let mut not_in_sync: Vec<Finding> = zones.iter().flat_map(|zone| zone_findings(zone, now)).collect();
    // A zone that is away reports nothing: what is known of its proxies is old, and not their fault.
    let is_away =
        |name: &str| zones.iter().any(|zone| zone.name == name && zone.presence() == Presence::Offline);
    let present = proxies.iter().filter(|proxy| !is_away(proxy.zone()));
    not_in_sync.extend(present.flat_map(|proxy| proxy_findings(proxy, now)));
    let mut groups: BTreeMap<(&str, &str), Group> = BTreeMap::new();
    for proxy in proxies {
        let group = groups.entry((&proxy.mesh, proxy.zone())).or_default();
        (group.mesh, group.zone) = (proxy.mesh.clone(), proxy.zone().to_owned());
        group.total += 1;
        group.online += usize::from(proxy.presence() == Presence::Online);
        let (agent, envoy) = proxy.versions();
        group.agents.extend(Some(agent).filter(|version| !version.is_empty()));
        group.envoys.extend(Some(envoy).filter(|version| !version.is_empty()));
    }
    let zones = zones.iter().map(|zone| Zone {
        name: zone.name.clone(),
        status: zone.presence(),
        since: zone.insight.since(),
        version: zone.version(),
        updates: zone.insight.counts(),
    });
    Report {
        address,
        control_plane,
        zones: zones.collect(),
        proxies: groups.into_values().collect(),
        not_in_sync,
    }
}

/// Removals that wait.
pub(super) fn removals(waiting: &Waiting) -> Finding {
    let Waiting { peer, resources } = waiting;
    let what = if peer == "global" { peer.clone() } else { format!("zone {peer}") };
    let count = resources.len();
    Finding {
        what,
        why: format!(
            "{count} removals wait: see `meshctl removals list`, and confirm them or bring back what is gone"
        ),
    }
}

fn zone_findings(zone: &ZoneOverview, now: Timestamp) -> Vec<Finding> {
    let mut reasons = Vec::new();
    let last = zone.insight.since();
    match zone.presence() {
        Presence::Offline if last.is_none() => reasons.push("has never connected".to_owned()),
        Presence::Offline => reasons.push(format!(
            "offline since {}: it serves what it has, and what is known of its proxies is as old",
            when::since(last, now)
        )),
        Presence::Disabled => reasons.push("disabled: other zones do not reach its services".to_owned()),
        Presence::Online | Presence::Degraded => {}
    }
    reasons.extend(refusals(&zone.insight));
    if zone.presence() != Presence::Offline {
        reasons.extend(unanswered(&zone.insight, now));
    }
    reasons.into_iter().map(|why| Finding { what: format!("zone {}", zone.name), why }).collect()
}

fn proxy_findings(proxy: &DataplaneOverview, now: Timestamp) -> Vec<Finding> {
    let mut reasons = Vec::new();
    let last = proxy.insight.since();
    if !proxy.is_connected() {
        reasons.push(match last {
            None => "has never connected".to_owned(),
            last => format!("offline since {}", when::since(last, now)),
        });
    } else if proxy.presence() != Presence::Online {
        let waiting: Vec<_> = proxy.ports().into_iter().filter(|port| port.ends_with("NotReady")).collect();
        reasons.push(format!("its application is not ready: {}", waiting.join(", ")));
    }
    let problems = proxy.insight.last().map(|last| last.problems.as_slice()).unwrap_or_default();
    if problems.is_empty() {
        reasons.extend(refusals(&proxy.insight));
    }
    reasons.extend(problems.iter().map(ToString::to_string));
    if proxy.is_connected() {
        reasons.extend(unanswered(&proxy.insight, now));
    }
    let zone = match proxy.zone() {
        "" => String::new(),
        zone => format!(" in {zone}"),
    };
    let what = format!("proxy {}/{}{zone}", proxy.mesh, proxy.name);
    reasons.into_iter().map(|why| Finding { what: what.clone(), why }).collect()
}

/// What was refused over the last stream. Later updates may have mended it: the counters only grow.
fn refusals(insight: &Insight) -> Option<String> {
    let counts = insight.counts();
    (counts.responses_rejected > 0).then(|| {
        let parts = parts(insight, |counts| counts.responses_rejected);
        format!(
            "refused {} of {} updates{parts}; the reason is in its log",
            counts.responses_rejected, counts.responses_sent
        )
    })
}

fn unanswered(insight: &Insight, now: Timestamp) -> Option<String> {
    let waiting = insight.counts().unanswered();
    (waiting > 0).then(|| {
        let parts = parts(insight, Counts::unanswered);
        let last = insight.last().and_then(|last| last.status.last_update_time);
        let last = last.map(|last| format!("; the last is of {}", when::since(Some(last), now)));
        let updates = if waiting == 1 { "update" } else { "updates" };
        format!("has not answered {waiting} {updates}{parts}{}", last.unwrap_or_default())
    })
}

/// The parts of a count, for example ` (Mesh 2, MeshTimeout 1)`.
fn parts(insight: &Insight, count: impl Fn(Counts) -> u64) -> String {
    let Some(last) = insight.last() else { return String::new() };
    let parts = last.status.parts().map(|(part, counts)| (part, count(counts)));
    let parts: Vec<_> = parts.filter(|(_, n)| *n > 0).map(|(part, n)| format!("{part} {n}")).collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::overview;

    fn zone(name: &str, subscription: Value) -> ZoneOverview {
        let document = json!({"name": name, "zoneInsight": {"subscriptions": [subscription]}});
        overview::read("", &document).unwrap()
    }

    fn proxy(name: &str, zone: &str, subscription: Value) -> DataplaneOverview {
        let document = json!({"mesh": "m", "name": name, "labels": {"kuma.io/zone": zone},
            "dataplaneInsight": {"subscriptions": [subscription]}});
        overview::read("", &document).unwrap()
    }

    fn findings(zones: &[ZoneOverview], proxies: &[DataplaneOverview]) -> Vec<String> {
        let now = Timestamp::parse("2026-01-01T01:00:00Z").unwrap();
        let index = Index::read(&json!({}));
        let report = of(String::new(), index, zones, proxies, now);
        report.not_in_sync.iter().map(|finding| format!("{}: {}", finding.what, finding.why)).collect()
    }

    #[test]
    fn what_is_not_in_sync_says_why() {
        let open = "2026-01-01T00:00:00Z";
        let fine = json!({"connectTime": open, "status": {"total": {"responsesSent": "3", "responsesAcknowledged": "3"}}});
        let refused = json!({"connectTime": open, "status": {"lastUpdateTime": "2026-01-01T00:59:50Z",
            "total": {"responsesSent": "9", "responsesAcknowledged": "6", "responsesRejected": "2"},
            "stat": {"Mesh": {"responsesSent": "4", "responsesAcknowledged": "3"},
                "MeshTimeout": {"responsesSent": "5", "responsesAcknowledged": "3", "responsesRejected": "2"}}}});
        let gone = json!({"connectTime": open, "disconnectTime": "2026-01-01T00:30:00Z"});
        let zones = [zone("east", fine.clone()), zone("north", refused), zone("west", gone.clone())];
        let nack = json!({"connectTime": open, "status": {"total": {"responsesSent": "1", "responsesRejected": "1"},
            "lds": {"responsesSent": "1", "responsesRejected": "1"}}});
        let proxies = [
            proxy("fine", "east", fine),
            proxy("nack", "east", nack),
            proxy("gone", "east", gone.clone()),
            proxy("far", "west", gone),
        ];
        assert_eq!(
            findings(&zones, &proxies),
            [
                "zone north: refused 2 of 9 updates (MeshTimeout 2); the reason is in its log",
                "zone north: has not answered 1 update (Mesh 1); the last is of 2026-01-01T00:59:50Z (10s ago)",
                "zone west: offline since 2026-01-01T00:30:00Z (30m ago): it serves what it has, and what is \
                 known of its proxies is as old",
                "proxy m/nack in east: refused 1 of 1 updates (listeners 1); the reason is in its log",
                "proxy m/gone in east: offline since 2026-01-01T00:30:00Z (30m ago)",
            ]
        );
    }

    #[test]
    fn problems_of_proxies_are_told_with_their_policies() {
        let listener = "type.googleapis.com/envoy.config.listener.v3.Listener";
        let stream = json!({
            "connectTime": "2026-01-01T00:00:00Z",
            "status": {"total": {"responsesSent": "1", "responsesRejected": "1"}},
            "problems": [
                {"typeUrl": listener, "resource": "a", "reason": "no filter", "policies": ["kri_mpp_m___p_"]},
                {"typeUrl": listener, "resource": "b", "reason": "cannot bind"},
                {"resource": "spec.default.appendModifications[0].cluster", "reason": "no path", "policies": ["kri_mpp_m___q_"]},
            ],
        });
        assert_eq!(
            findings(&[], &[proxy("nack", "east", stream)]),
            [
                "proxy m/nack in east: refused Listener a, made by kri_mpp_m___p_: no filter",
                "proxy m/nack in east: refused Listener b: cannot bind",
                "proxy m/nack in east: spec.default.appendModifications[0].cluster of kri_mpp_m___q_ has no effect: no path",
            ]
        );
    }

    #[test]
    fn proxies_are_counted_by_mesh_and_zone() {
        let open =
            json!({"connectTime": "2026-01-01T00:00:00Z", "version": {"envoy": {"version": "1.40.0"}}});
        let proxies =
            [proxy("a", "east", open.clone()), proxy("b", "east", json!({})), proxy("c", "west", open)];
        let report = of(String::new(), Index::read(&json!({})), &[], &proxies, Timestamp::EPOCH);
        let counts: Vec<_> =
            report.proxies.iter().map(|group| (group.zone.as_str(), group.online, group.total)).collect();
        assert_eq!(counts, [("east", 1, 2), ("west", 1, 1)]);
        assert!(report.proxies[0].envoys.contains("1.40.0"));
    }
}
