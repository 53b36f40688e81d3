//! The columns of each kind. They are an interface: programs cut them out of the output.

use model::{Kind, Timestamp, labels};
use serde_json::Value;

use crate::error::Error;
use crate::overview::{self, DataplaneOverview, ZoneOverview};
use crate::table::Table;
use crate::when;

/// A column between NAME and AGE.
type Column = (&'static str, fn(&Value) -> String);

/// The table of resources of one kind; overviews for zones and dataplanes.
pub(super) fn table(kind: Kind, documents: &[Value], now: Timestamp) -> Result<Table, Error> {
    if kind == Kind::ZONE {
        zones(documents, now)
    } else if kind == Kind::DATAPLANE {
        dataplanes(documents, now)
    } else {
        Ok(plain(kind, documents, now))
    }
}

fn zones(documents: &[Value], now: Timestamp) -> Result<Table, Error> {
    let mut table = Table::new(["NAME", "STATUS", "SINCE", "VERSION", "AGE"]);
    for document in documents {
        let zone: ZoneOverview = overview::read("zones/_overview", document)?;
        table.row([
            zone.name.clone(),
            zone.presence().text(),
            zone.insight.since().map(|since| when::ago(since, now)).unwrap_or_default(),
            zone.version(),
            age(zone.creation_time, now),
        ]);
    }
    Ok(table)
}

fn dataplanes(documents: &[Value], now: Timestamp) -> Result<Table, Error> {
    let mut table = Table::new(["MESH", "NAME", "ZONE", "STATUS", "ADDRESS", "PORTS", "AGE"]);
    for document in documents {
        let proxy: DataplaneOverview = overview::read("dataplanes/_overview", document)?;
        table.row([
            proxy.mesh.clone(),
            proxy.name.clone(),
            proxy.zone().to_owned(),
            proxy.presence().text(),
            proxy.address().to_owned(),
            proxy.ports().join(",").replace(' ', ":"),
            age(proxy.creation_time, now),
        ]);
    }
    Ok(table)
}

/// The table of events, with headings where it is the first; overviews are not watched.
pub(super) fn events(kind: Kind, events: &[(String, Value)], is_first: bool, now: Timestamp) -> Table {
    let columns = columns(kind);
    let titles = ["EVENT"].into_iter().chain(columns.iter().map(|(title, _)| *title)).chain(["AGE"]);
    let mut table = if is_first { Table::new(titles) } else { Table::bare() };
    for (event, document) in events {
        table.row(std::iter::once(event.clone()).chain(cells(&columns, document, now)));
    }
    table
}

fn plain(kind: Kind, documents: &[Value], now: Timestamp) -> Table {
    let columns = columns(kind);
    let mut table = Table::new(columns.iter().map(|(title, _)| *title).chain(["AGE"]));
    for document in documents {
        table.row(cells(&columns, document, now));
    }
    table
}

fn columns(kind: Kind) -> Vec<Column> {
    let mesh: &[Column] = if kind.is_mesh_scoped() { &[("MESH", |doc| text(doc, "/mesh"))] } else { &[] };
    let name: &[Column] = &[("NAME", |doc| text(doc, "/name"))];
    [mesh, name, particular(kind)].concat()
}

fn cells(columns: &[Column], document: &Value, now: Timestamp) -> impl Iterator<Item = String> {
    let created = Timestamp::parse(&text(document, "/creationTime"));
    columns.iter().map(|(_, value)| value(document)).chain([age(created, now)])
}

fn particular(kind: Kind) -> &'static [Column] {
    const SERVICE_ZONE: Column = ("ZONE", |doc| label(doc, labels::ZONE));
    const PORTS: Column = ("PORTS", |doc| each(doc, "/spec/ports", "port"));
    const TARGET: Column = ("TARGET", target);
    if kind == Kind::MESH_SERVICE {
        &[SERVICE_ZONE, PORTS, ("STATE", |doc| text(doc, "/spec/state"))]
    } else if kind == Kind::MESH_MULTI_ZONE_SERVICE {
        &[PORTS, ("ZONES", |doc| count(doc, "/status/meshServices"))]
    } else if kind == Kind::MESH_EXTERNAL_SERVICE {
        &[
            ("PORT", |doc| text(doc, "/spec/match/port")),
            ("PROTOCOL", |doc| text(doc, "/spec/match/protocol")),
        ]
    } else if kind == Kind::MESH_ZONE_ADDRESS {
        &[
            SERVICE_ZONE,
            ("ADDRESS", |doc| text(doc, "/spec/address")),
            ("PORT", |doc| text(doc, "/spec/port")),
        ]
    } else if kind == Kind::WORKLOAD {
        &[SERVICE_ZONE, ("PROXIES", |doc| text(doc, "/status/dataplaneProxies/total"))]
    } else if kind == Kind::MESH_TRUST || kind == Kind::MESH_IDENTITY {
        &[("TRUST-DOMAIN", |doc| {
            let of_trust = text(doc, "/spec/trustDomain");
            if of_trust.is_empty() { text(doc, "/spec/spiffeID/trustDomain") } else { of_trust }
        })]
    } else if kind == Kind::DATAPLANE {
        &[SERVICE_ZONE, ("ADDRESS", |doc| text(doc, "/networking/address"))]
    } else if kind.policy.is_some() {
        &[TARGET]
    } else {
        &[]
    }
}

fn age(created: Option<Timestamp>, now: Timestamp) -> String {
    created.map(|created| when::ago(created, now)).unwrap_or_default()
}

/// A scalar as text.
fn text(document: &Value, pointer: &str) -> String {
    match document.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
        _ => String::new(),
    }
}

fn label(document: &Value, key: &str) -> String {
    let label = document.get("labels").and_then(|labels| labels.get(key)).and_then(Value::as_str);
    label.unwrap_or_default().to_owned()
}

fn items<'a>(document: &'a Value, pointer: &str) -> &'a [Value] {
    document.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn each(document: &Value, pointer: &str, field: &str) -> String {
    items(document, pointer).iter().map(|item| text(item, &format!("/{field}"))).collect::<Vec<_>>().join(",")
}

fn count(document: &Value, pointer: &str) -> String {
    items(document, pointer).len().to_string()
}

/// Which proxies a policy is for.
fn target(document: &Value) -> String {
    let kind = text(document, "/spec/targetRef/kind");
    let name = text(document, "/spec/targetRef/name");
    match (kind.is_empty(), name.is_empty()) {
        (true, _) => "Mesh".to_owned(),
        (false, true) => kind,
        (false, false) => format!("{kind}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(kind: Kind, document: Value) -> Vec<String> {
        let now = Timestamp::parse("2026-01-01T00:10:00Z").unwrap();
        let mut out = Vec::new();
        table(kind, &[document], now).unwrap().write(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn each_kind_has_its_columns() {
        let created = "2026-01-01T00:00:00Z";
        for (kind, document, want) in [
            (Kind::MESH, json!({"name": "m", "creationTime": created}), ["NAME AGE", "m 10m"]),
            (
                Kind::MESH_TIMEOUT,
                json!({"mesh": "m", "name": "a", "creationTime": created, "spec": {}}),
                ["MESH NAME TARGET AGE", "m a Mesh 10m"],
            ),
            (
                Kind::MESH_SERVICE,
                json!({"mesh": "m", "name": "a", "labels": {"kuma.io/zone": "east"}, "creationTime": created,
                    "spec": {"ports": [{"port": 80}, {"port": 81}], "state": "Available"}}),
                ["MESH NAME ZONE PORTS STATE AGE", "m a east 80,81 Available 10m"],
            ),
            (
                Kind::ZONE,
                json!({"name": "east", "creationTime": created, "zone": {}, "zoneInsight": {"subscriptions": [
                    {"connectTime": "2026-01-01T00:09:00Z", "version": {"kumaCp": {"version": "1.0"}}}]}}),
                ["NAME STATUS SINCE VERSION AGE", "east Online 60s 1.0 10m"],
            ),
            (
                Kind::DATAPLANE,
                json!({"mesh": "m", "name": "d", "creationTime": created, "dataplane": {"networking":
                    {"address": "10.0.0.1", "inbound": [{"port": 80, "name": "http"}]}}}),
                ["MESH NAME ZONE STATUS ADDRESS PORTS AGE", "m d - Offline 10.0.0.1 80/http 10m"],
            ),
        ] {
            assert_eq!(lines(kind, document), want);
        }
    }
}
