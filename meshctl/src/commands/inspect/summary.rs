//! An overview in words: one fact a line.

use std::io::{self, Write};

use model::Timestamp;

use crate::error::Error;
use crate::overview::{Counts, DataplaneOverview, Insight, Subscription, ZoneOverview};
use crate::when;

/// Width of the names of facts.
const NAME: usize = 13;

struct Facts<'a>(&'a mut dyn Write);

impl Facts<'_> {
    /// Writes a fact, unless nothing is known of it.
    fn fact(&mut self, name: &str, value: &str) -> io::Result<()> {
        if value.is_empty() {
            return Ok(());
        }
        let value: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        writeln!(self.0, "{:NAME$} {value}", format!("{name}:"))
    }

    fn counts(&mut self, name: &str, counts: Counts) -> io::Result<()> {
        let Counts { responses_sent, responses_acknowledged, responses_rejected } = counts;
        let text = format!(
            "{responses_sent} sent, {responses_acknowledged} acknowledged, {responses_rejected} rejected"
        );
        self.fact(name, &text)
    }

    fn stream(
        &mut self,
        insight: &Insight,
        served_by: impl Fn(&Subscription) -> &str,
        now: Timestamp,
    ) -> io::Result<()> {
        let Some(last) = insight.last() else { return self.fact("Stream", "has never connected") };
        self.fact("Connected", &when::since(last.connect_time, now))?;
        if last.disconnect_time.is_some() {
            self.fact("Ended", &when::since(last.disconnect_time, now))?;
        }
        self.fact("Served by", served_by(last))?;
        self.fact("Last update", &when::since(last.status.last_update_time, now))?;
        self.counts("Updates", last.status.total)?;
        for (part, counts) in last.status.parts() {
            self.counts(&format!("  {part}"), counts)?;
        }
        for problem in &last.problems {
            self.fact("Problem", &problem.to_string())?;
        }
        match insight.subscriptions.len() {
            0 | 1 => Ok(()),
            all => self.fact("Before", &format!("{} earlier streams are known", all - 1)),
        }
    }
}

pub(super) fn zone(out: &mut dyn Write, zone: &ZoneOverview, now: Timestamp) -> Result<(), Error> {
    let mut facts = Facts(out);
    facts.fact("Zone", &zone.name)?;
    facts.fact("Status", &zone.presence().text())?;
    facts.fact("Version", &zone.version())?;
    facts.fact(
        "Instance",
        zone.insight.last().map(|last| last.zone_instance_id.as_str()).unwrap_or_default(),
    )?;
    facts.fact("Created", &when::since(zone.creation_time, now))?;
    Ok(facts.stream(&zone.insight, |stream| &stream.global_instance_id, now)?)
}

pub(super) fn dataplane(out: &mut dyn Write, proxy: &DataplaneOverview, now: Timestamp) -> Result<(), Error> {
    let mut facts = Facts(out);
    facts.fact("Dataplane", &proxy.name)?;
    facts.fact("Mesh", &proxy.mesh)?;
    facts.fact("Zone", proxy.zone())?;
    facts.fact("Status", &proxy.presence().text())?;
    facts.fact("Address", proxy.address())?;
    facts.fact("Ports", &proxy.ports().join(", "))?;
    let (agent, envoy) = proxy.versions();
    facts.fact("Agent", &agent)?;
    facts.fact("Envoy", &envoy)?;
    if let Some(mtls) = &proxy.insight.mtls {
        facts.fact("Identity by", &mtls.issued_backend)?;
        let expires = mtls.certificate_expiration_time.map(|at| expiry(at, now));
        facts.fact("Certificate", &expires.unwrap_or_default())?;
    }
    facts.fact("Created", &when::since(proxy.creation_time, now))?;
    Ok(facts.stream(&proxy.insight, |stream| &stream.control_plane_instance_id, now)?)
}

fn expiry(at: Timestamp, now: Timestamp) -> String {
    let at = when::second(at);
    if at > now {
        format!("valid until {at} (for {})", when::ago(now, at))
    } else {
        format!("expired {} ago, at {at}", when::ago(at, now))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::overview;

    #[test]
    fn a_proxy_in_words() {
        let document = json!({"mesh": "m", "name": "d", "labels": {"kuma.io/zone": "east"},
            "dataplane": {"networking": {"address": "10.0.0.1", "inbound": [{"port": 80}]}},
            "dataplaneInsight": {"mTLS": {"issuedBackend": "id", "certificateExpirationTime": "2026-01-02T00:00:00Z"},
            "subscriptions": [{"connectTime": "2026-01-01T00:00:00Z", "controlPlaneInstanceId": "east-1",
                "status": {"total": {"responsesSent": "4", "responsesAcknowledged": "3", "responsesRejected": "1"},
                    "lds": {"responsesSent": "4", "responsesRejected": "1"}},
                "problems": [{"typeUrl": "t/a.Listener", "resource": "l", "reason": "no filter", "policies": ["kri_mpp_m___p_"]}],
                "version": {"envoy": {"version": "1.40.0"}, "kumaDp": {"version": "0.1.0"}}}]}});
        let now = Timestamp::parse("2026-01-01T00:10:00Z").unwrap();
        let mut out = Vec::new();
        dataplane(&mut out, &overview::read("", &document).unwrap(), now).unwrap();
        let text = String::from_utf8(out).unwrap();
        for line in [
            "Dataplane:    d",
            "Status:       Online",
            "Envoy:        1.40.0",
            "Certificate:  valid until 2026-01-02T00:00:00Z (for 23h)",
            "Connected:    2026-01-01T00:00:00Z (10m ago)",
            "Updates:      4 sent, 3 acknowledged, 1 rejected",
            "  listeners:  4 sent, 0 acknowledged, 1 rejected",
            "Problem:      refused Listener l, made by kri_mpp_m___p_: no filter",
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?} is not in\n{text}");
        }
    }

    #[test]
    fn a_zone_that_never_came_says_so() {
        let mut out = Vec::new();
        let east = overview::read("", &json!({"name": "east"})).unwrap();
        zone(&mut out, &east, Timestamp::EPOCH).unwrap();
        assert!(String::from_utf8(out).unwrap().contains("has never connected"));
    }
}
