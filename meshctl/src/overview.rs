//! What is observed of zones and proxies: the `_overview` documents of the API.

use std::collections::BTreeMap;
use std::fmt;

use model::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::error::Error;

/// Whether a zone or a proxy is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) enum Presence {
    Online,
    Offline,
    /// Connected, but switched off by `enabled: false`.
    Disabled,
    /// Connected, but some inbounds are not ready.
    Degraded,
}

impl Presence {
    pub(crate) fn text(self) -> String {
        format!("{self:?}")
    }
}

/// Counts of configuration messages of one stream. Protobuf's JSON has them as strings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Counts {
    #[serde(deserialize_with = "count")]
    pub(crate) responses_sent: u64,
    #[serde(deserialize_with = "count")]
    pub(crate) responses_acknowledged: u64,
    #[serde(deserialize_with = "count")]
    pub(crate) responses_rejected: u64,
}

impl Counts {
    /// Sent, and neither accepted nor refused so far.
    pub(crate) fn unanswered(self) -> u64 {
        self.responses_sent
            .saturating_sub(self.responses_acknowledged)
            .saturating_sub(self.responses_rejected)
    }
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Number(number) => number.as_u64().ok_or_else(|| serde::de::Error::custom("not a count")),
        Value::String(text) => text.parse().map_err(serde::de::Error::custom),
        Value::Null => Ok(0),
        _ => Err(serde::de::Error::custom("not a count")),
    }
}

/// One stream of a zone or a proxy.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Subscription {
    pub(crate) connect_time: Option<Timestamp>,
    pub(crate) disconnect_time: Option<Timestamp>,
    /// Serves a zone's stream.
    pub(crate) global_instance_id: String,
    /// The zone's end of its stream.
    pub(crate) zone_instance_id: String,
    /// Serves a proxy's stream.
    pub(crate) control_plane_instance_id: String,
    pub(crate) status: SubscriptionStatus,
    pub(crate) version: Versions,
    /// Of a proxy: what it does not run although it should.
    pub(crate) problems: Vec<Problem>,
}

/// A resource that a proxy refused, or a part of a policy that could not take effect on it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Problem {
    /// Empty for a part of a policy.
    type_url: String,
    resource: String,
    reason: String,
    policies: Vec<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { type_url, resource, reason, policies } = self;
        let policies = policies.join(", ");
        match type_url.rsplit('.').next().unwrap_or_default() {
            "" => write!(f, "{resource} of {policies} has no effect: {reason}"),
            kind if policies.is_empty() => write!(f, "refused {kind} {resource}: {reason}"),
            kind => write!(f, "refused {kind} {resource}, made by {policies}: {reason}"),
        }
    }
}

/// What went over a stream.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SubscriptionStatus {
    pub(crate) last_update_time: Option<Timestamp>,
    pub(crate) total: Counts,
    /// Of a zone: by kind.
    pub(crate) stat: BTreeMap<String, Counts>,
    cds: Counts,
    eds: Counts,
    lds: Counts,
    rds: Counts,
}

impl SubscriptionStatus {
    /// Counts by kind of resource (zones) or by Envoy's type (proxies).
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&str, Counts)> {
        let envoy =
            [("clusters", self.cds), ("endpoints", self.eds), ("listeners", self.lds), ("routes", self.rds)];
        let used = envoy.into_iter().filter(|(_, counts)| *counts != Counts::default());
        self.stat.iter().map(|(kind, counts)| (kind.as_str(), *counts)).chain(used)
    }
}

/// What runs at the other end of a stream.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Versions {
    kuma_cp: Version,
    kuma_dp: Version,
    envoy: Version,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Version {
    version: String,
}

/// The streams of a zone or a proxy, oldest first.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Insight {
    pub(crate) subscriptions: Vec<Subscription>,
    #[serde(rename = "mTLS")]
    pub(crate) mtls: Option<Mtls>,
}

/// A proxy's certificate.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Mtls {
    pub(crate) certificate_expiration_time: Option<Timestamp>,
    #[serde(rename = "issuedBackend")]
    pub(crate) issued_backend: String,
}

impl Insight {
    fn is_connected(&self) -> bool {
        self.subscriptions.iter().any(|s| s.connect_time.is_some() && s.disconnect_time.is_none())
    }

    /// The open stream, or the last one that was.
    pub(crate) fn last(&self) -> Option<&Subscription> {
        let open = self.subscriptions.iter().rev().find(|s| s.disconnect_time.is_none());
        open.or(self.subscriptions.last())
    }

    /// Since when it is connected, or no longer is.
    pub(crate) fn since(&self) -> Option<Timestamp> {
        let last = self.last()?;
        last.disconnect_time.or(last.connect_time)
    }

    /// Counts of the last stream.
    pub(crate) fn counts(&self) -> Counts {
        self.last().map(|last| last.status.total).unwrap_or_default()
    }
}

/// A zone with what is observed of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ZoneOverview {
    pub(crate) name: String,
    pub(crate) creation_time: Option<Timestamp>,
    zone: ZoneSpec,
    #[serde(rename = "zoneInsight")]
    pub(crate) insight: Insight,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ZoneSpec {
    enabled: Option<bool>,
}

impl ZoneOverview {
    pub(crate) fn presence(&self) -> Presence {
        match (self.insight.is_connected(), self.zone.enabled.unwrap_or(true)) {
            (_, false) => Presence::Disabled,
            (true, true) => Presence::Online,
            (false, true) => Presence::Offline,
        }
    }

    pub(crate) fn version(&self) -> String {
        self.insight.last().map(|last| last.version.kuma_cp.version.clone()).unwrap_or_default()
    }
}

/// A proxy with what is observed of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DataplaneOverview {
    pub(crate) mesh: String,
    pub(crate) name: String,
    pub(crate) creation_time: Option<Timestamp>,
    pub(crate) labels: BTreeMap<String, String>,
    dataplane: DataplaneSpec,
    #[serde(rename = "dataplaneInsight")]
    pub(crate) insight: Insight,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct DataplaneSpec {
    networking: Networking,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Networking {
    address: String,
    inbound: Vec<Port>,
    listeners: Vec<Port>,
}

/// An inbound or a listener of a zone proxy.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Port {
    port: u32,
    name: String,
    state: String,
    #[serde(rename = "type")]
    role: String,
}

impl Port {
    fn is_ready(&self) -> bool {
        !matches!(self.state.as_str(), "NotReady" | "Ignored")
    }
}

impl DataplaneOverview {
    /// Offline when nothing is connected or no inbound is ready.
    pub(crate) fn presence(&self) -> Presence {
        let ports = || self.dataplane.networking.inbound.iter().filter(|port| port.state != "Ignored");
        let ready = ports().filter(|port| port.is_ready()).count();
        match (self.insight.is_connected(), ready, ports().count()) {
            (false, ..) => Presence::Offline,
            (true, ready, all) if ready == all => Presence::Online,
            (true, 0, _) => Presence::Offline,
            (true, ..) => Presence::Degraded,
        }
    }

    /// Whether its stream is open, whatever its inbounds say.
    pub(crate) fn is_connected(&self) -> bool {
        self.insight.is_connected()
    }

    pub(crate) fn zone(&self) -> &str {
        self.labels.get(model::labels::ZONE).map(String::as_str).unwrap_or_default()
    }

    pub(crate) fn address(&self) -> &str {
        &self.dataplane.networking.address
    }

    /// Ports by which others reach it, for example `80/http NotReady`.
    pub(crate) fn ports(&self) -> Vec<String> {
        let networking = &self.dataplane.networking;
        let shown = networking.inbound.iter().chain(&networking.listeners).map(|port| {
            let label = [&port.role, &port.name].into_iter().filter(|text| !text.is_empty());
            let mut text = port.port.to_string();
            label.for_each(|label| text.push_str(&format!("/{label}")));
            if !port.is_ready() {
                text.push_str(&format!(" {}", port.state));
            }
            text
        });
        shown.collect()
    }

    /// Versions of the agent and of Envoy.
    pub(crate) fn versions(&self) -> (String, String) {
        let version = self.insight.last().map(|last| &last.version);
        let text = |part: Option<&Version>| part.map(|part| part.version.clone()).unwrap_or_default();
        (text(version.map(|v| &v.kuma_dp)), text(version.map(|v| &v.envoy)))
    }
}

/// Reads an overview document.
pub(crate) fn read<T: for<'de> Deserialize<'de>>(what: &str, document: &Value) -> Result<T, Error> {
    T::deserialize(document)
        .map_err(|error| Error::Answer { what: what.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_zone_is_online_while_a_stream_is_open() {
        let zone = |enabled: Value, subscriptions: Value| -> ZoneOverview {
            let document = json!({"type": "ZoneOverview", "name": "east", "zone": {"enabled": enabled},
                "zoneInsight": {"subscriptions": subscriptions}});
            read("", &document).unwrap()
        };
        let open = json!({"connectTime": "2026-01-02T00:00:00Z", "status": {"total": {"responsesSent": "7",
            "responsesAcknowledged": 5, "responsesRejected": "1"}, "stat": {"Mesh": {"responsesSent": "7"}}},
            "version": {"kumaCp": {"version": "1.2.3"}}});
        let ended = json!({"connectTime": "2026-01-01T00:00:00Z", "disconnectTime": "2026-01-01T01:00:00Z"});
        let online = zone(Value::Null, json!([ended, open]));
        assert_eq!((online.presence(), online.version().as_str()), (Presence::Online, "1.2.3"));
        assert_eq!(online.insight.counts().unanswered(), 1);
        assert_eq!(online.insight.last().unwrap().status.parts().count(), 1);
        let offline = zone(json!(true), json!([ended]));
        assert_eq!(offline.presence(), Presence::Offline);
        assert_eq!(offline.insight.since(), Timestamp::parse("2026-01-01T01:00:00Z"));
        assert_eq!(zone(json!(false), json!([open])).presence(), Presence::Disabled);
        assert_eq!(ZoneOverview::default().presence(), Presence::Offline);
    }

    #[test]
    fn a_proxy_is_as_present_as_its_inbounds() {
        let proxy = |states: &[&str]| -> DataplaneOverview {
            let inbound: Vec<_> = states.iter().map(|s| json!({"port": 80, "state": s})).collect();
            let document = json!({"mesh": "m", "name": "d", "dataplane": {"networking": {"inbound": inbound}},
                "dataplaneInsight": {"subscriptions": [{"connectTime": "2026-01-01T00:00:00Z"}]}});
            read("", &document).unwrap()
        };
        assert_eq!(proxy(&[]).presence(), Presence::Online, "a gateway has no inbounds");
        assert_eq!(proxy(&["Ready", "Ignored"]).presence(), Presence::Online);
        assert_eq!(proxy(&["Ready", "NotReady"]).presence(), Presence::Degraded);
        assert_eq!(proxy(&["NotReady"]).presence(), Presence::Offline);
        assert_eq!(proxy(&["NotReady"]).ports(), ["80 NotReady"]);
        assert_eq!(DataplaneOverview::default().presence(), Presence::Offline);
    }
}
