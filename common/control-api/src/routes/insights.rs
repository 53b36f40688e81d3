//! Numbers over everything a control plane knows.

use std::collections::BTreeMap;

use axum::extract::State;
use model::labels::ZoneListeners;
use model::spec::{Dataplane, DataplaneInsight, MeshService, ServiceState};
use model::{Key, Kind, Resource, Scope};
use serde::Serialize;
use serde_json::{Value, json};
use store::Snapshot;

use super::call::{Answer, Call};
use super::overview::is_zone_online;
use crate::app::{App, Shared};
use crate::json;

/// How many of something are in which state.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct States {
    online: usize,
    offline: usize,
    partially_degraded: usize,
    total: usize,
}

#[derive(Clone, Copy)]
enum Condition {
    Online,
    Offline,
    Degraded,
}

impl States {
    fn count(&mut self, state: Condition) {
        self.total += 1;
        match state {
            Condition::Online => self.online += 1,
            Condition::Offline => self.offline += 1,
            Condition::Degraded => self.partially_degraded += 1,
        }
    }
}

/// GET of the numbers over all kinds.
pub(super) async fn global(State(app): State<Shared>, _call: Call) -> Answer {
    let snapshot = app.snapshot();
    let (mut standard, mut gateways) = (States::default(), States::default());
    let (mut ingresses, mut egresses) = (States::default(), States::default());
    for resource in snapshot.kind(Kind::DATAPLANE) {
        let Ok(spec) = resource.spec::<Dataplane>() else { continue };
        let state = state_of(&snapshot, resource, spec);
        let listeners = ZoneListeners::of(spec);
        let gateway = spec.networking.as_ref().is_some_and(|networking| networking.gateway.is_some());
        if gateway {
            gateways.count(state)
        } else {
            standard.count(state)
        }
        if listeners.ingress {
            ingresses.count(state);
        }
        if listeners.egress {
            egresses.count(state);
        }
    }
    let online = snapshot.kind(Kind::ZONE).filter(|zone| is_zone_online(&snapshot, zone.name())).count();
    let proxies = |states: States| json!({"online": states.online, "total": states.total});
    let totals = totals(&snapshot, |kind| !kind.read_only);
    let policies: usize =
        Kind::all().filter(|kind| kind.policy.is_some()).map(|kind| snapshot.count(kind)).sum();
    Ok(json::ok(&json!({
        "createdAt": App::now(),
        "dataplanes": {"standard": standard, "gatewayDelegated": gateways},
        "meshes": {"total": snapshot.count(Kind::MESH)},
        "policies": {"total": policies},
        "resources": totals,
        "services": {
            "internal": services(&snapshot),
            "external": {"total": snapshot.count(Kind::MESH_EXTERNAL_SERVICE)},
            "gatewayDelegated": States::default(),
        },
        "zones": {
            "controlPlanes": {"online": online, "total": snapshot.count(Kind::ZONE)},
            "zoneEgresses": proxies(egresses),
            "zoneIngresses": proxies(ingresses),
        },
    })))
}

/// GET of the older numbers: kinds of global scope only.
pub(super) async fn legacy(State(app): State<Shared>, _call: Call) -> Answer {
    let of_users = |kind: Kind| kind.scope == Scope::Global && !kind.read_only && kind.path.is_some();
    Ok(json::ok(&json!({
        "type": "GlobalInsights",
        "creationTime": App::now(),
        "resources": totals(&app.snapshot(), of_users),
    })))
}

fn totals(snapshot: &Snapshot, wanted: impl Fn(Kind) -> bool) -> BTreeMap<&'static str, Value> {
    let kinds = Kind::all().filter(|kind| kind.path.is_some() && wanted(*kind));
    kinds.map(|kind| (kind.info().name, json!({"total": snapshot.count(kind)}))).collect()
}

fn services(snapshot: &Snapshot) -> States {
    let mut states = States::default();
    for service in snapshot.kind(Kind::MESH_SERVICE) {
        let available = service.spec::<MeshService>().is_ok_and(|spec| spec.state == ServiceState::Available);
        states.count(if available { Condition::Online } else { Condition::Offline });
    }
    states
}

/// A proxy is online with an open configuration stream, and degraded when it serves only part of its inbounds.
fn state_of(snapshot: &Snapshot, resource: &Resource, spec: &Dataplane) -> Condition {
    let insight = snapshot.resource(&Key::new(Kind::DATAPLANE_INSIGHT, resource.mesh(), resource.name()));
    let connected = insight
        .and_then(|insight| insight.spec::<DataplaneInsight>().ok())
        .and_then(|insight| insight.subscriptions.last())
        .is_some_and(|last| last.connect_time.is_some() && last.disconnect_time.is_none());
    let inbounds =
        spec.networking.as_ref().map(|networking| networking.inbound.as_slice()).unwrap_or_default();
    let ready = inbounds.iter().filter(|inbound| inbound.state().as_str_name() == "Ready").count();
    match (connected, ready) {
        (false, _) => Condition::Offline,
        (true, ready) if ready == inbounds.len() => Condition::Online,
        (true, 0) => Condition::Offline,
        (true, _) => Condition::Degraded,
    }
}
