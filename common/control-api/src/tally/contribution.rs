//! What one resource adds to the counts: a function of the resource and of its insight.

use std::sync::Arc;

use model::labels::ZoneListeners;
use model::spec::{Dataplane, DataplaneInsight, MeshService, ServiceState};
use model::{Key, Kind, Resource};
use store::Snapshot;

use super::NO_MESH;
use crate::routes::is_zone_online;

/// Version of a program that does not say it.
const UNKNOWN: &str = "unknown";

/// What a proxy is for. One may have several roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Beside an application.
    Standard,
    /// Beside a gateway that is not ours.
    Gateway,
    /// Lets traffic of other zones in.
    Ingress,
    /// Lets traffic to the outside out.
    Egress,
}

/// How a proxy or service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// Connected, and ready at every inbound; or available.
    Online,
    /// Not connected, or ready nowhere.
    Offline,
    /// Ready at some of its inbounds.
    Degraded,
}

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counter {
    /// Resources of a kind.
    Resources(Kind),
    /// Proxies by role.
    Proxies(Role, Condition),
    /// Proxies by version of the agent.
    Agent(Arc<str>, Condition),
    /// Proxies by version of Envoy.
    Envoy(Arc<str>, Condition),
    /// Proxies by issuer of their certificate.
    IssuedBy(Arc<str>, Condition),
    /// Proxies by authority that they trust.
    Trusts(Arc<str>, Condition),
    /// Services.
    Services(Condition),
    /// Zones that are connected.
    OnlineZones,
}

/// What a key adds to the counts of a snapshot: nothing where it is not there.
pub(super) fn contributions(snapshot: &Snapshot, key: &Key) -> Vec<(Arc<str>, Counter)> {
    let Some(resource) = snapshot.resource(key) else { return Vec::new() };
    let mesh: Arc<str> = if key.kind.is_mesh_scoped() { Arc::clone(&key.mesh) } else { NO_MESH.into() };
    let mut counters = vec![Counter::Resources(key.kind)];
    if key.kind == Kind::DATAPLANE {
        proxy(snapshot, resource, &mut counters);
    } else if key.kind == Kind::MESH_SERVICE {
        let available =
            resource.spec::<MeshService>().is_ok_and(|spec| spec.state == ServiceState::Available);
        counters.push(Counter::Services(if available { Condition::Online } else { Condition::Offline }));
    } else if key.kind == Kind::ZONE && is_zone_online(snapshot, &key.name) {
        counters.push(Counter::OnlineZones);
    }
    counters.into_iter().map(|counter| (Arc::clone(&mesh), counter)).collect()
}

fn proxy(snapshot: &Snapshot, resource: &Resource, counters: &mut Vec<Counter>) {
    let Ok(spec) = resource.spec::<Dataplane>() else { return };
    let insight = snapshot.resource(&Key::new(Kind::DATAPLANE_INSIGHT, resource.mesh(), resource.name()));
    let insight = insight.and_then(|insight| insight.spec::<DataplaneInsight>().ok());
    let condition = condition(spec, insight);
    let is_gateway = spec.networking.as_ref().is_some_and(|networking| networking.gateway.is_some());
    let listeners = ZoneListeners::of(spec);
    let roles = [
        (Role::Standard, !is_gateway),
        (Role::Gateway, is_gateway),
        (Role::Ingress, listeners.ingress),
        (Role::Egress, listeners.egress),
    ];
    let roles = roles.into_iter().filter(|(_, has)| *has);
    counters.extend(roles.map(|(role, _)| Counter::Proxies(role, condition)));
    let version = insight.and_then(|insight| insight.subscriptions.last()?.version.as_ref());
    let agent = version.and_then(|version| version.kuma_dp.as_ref()).map(|agent| agent.version.as_str());
    let envoy = version.and_then(|version| version.envoy.as_ref()).map(|envoy| envoy.version.as_str());
    let known = |version: Option<&str>| version.filter(|text| !text.is_empty()).unwrap_or(UNKNOWN).into();
    counters.push(Counter::Agent(known(agent), condition));
    counters.push(Counter::Envoy(known(envoy), condition));
    if let Some(tls) = insight.and_then(|insight| insight.m_tls.as_ref()) {
        if !tls.issued_backend.is_empty() {
            counters.push(Counter::IssuedBy(tls.issued_backend.as_str().into(), condition));
        }
        let trusted = tls.supported_backends.iter();
        counters.extend(trusted.map(|backend| Counter::Trusts(backend.as_str().into(), condition)));
    }
}

/// A proxy is online with an open configuration stream, and degraded when it serves only part of its inbounds.
fn condition(spec: &Dataplane, insight: Option<&DataplaneInsight>) -> Condition {
    let last = insight.and_then(|insight| insight.subscriptions.last());
    let connected = last.is_some_and(|last| last.connect_time.is_some() && last.disconnect_time.is_none());
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
