//! What a proxy probes, and what its findings say of its inbounds.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use envoy_api::envoy::config::core::v3::health_check::{HealthChecker, HttpHealthCheck, TcpHealthCheck};
use envoy_api::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_api::envoy::config::core::v3::{
    Address, BindConfig, HealthCheck, HealthStatus, Pipe, SocketAddress, address,
};
use envoy_api::envoy::config::endpoint::v3::Endpoint;
use envoy_api::envoy::service::health::v3::{
    ClusterHealthCheck, EndpointHealthResponse, HealthCheckSpecifier, LocalityEndpoints,
};
use kds_proto::mesh::dataplane::Networking;
use kds_proto::mesh::dataplane::networking::inbound::{Health, ServiceProbe, State};
use kds_proto::mesh::dataplane::networking::{Inbound, listener};
use model::spec::Dataplane;

use crate::dp_server::node::Peer;

/// Cluster that stands for Envoy itself.
const ENVOY: &str = "system_envoy_admin";
/// Defaults of a probe that does not set them.
const TIMEOUT: Duration = Duration::from_secs(2);
const INTERVAL: Duration = Duration::from_secs(1);
/// How often a proxy reports whose application is not ready.
const WAITING: Duration = Duration::from_secs(1);
/// Sources of connections that transparent redirection lets through.
const PASS_V4: &str = "127.0.0.6";
const PASS_V6: &str = "::6";

/// What a proxy is to probe, and how often it is to report.
pub(super) fn specifier(dataplane: &Dataplane, peer: &Peer, interval: Duration) -> HealthCheckSpecifier {
    let empty = Networking::default();
    let networking = dataplane.networking.as_ref().unwrap_or(&empty);
    let mut checks: BTreeMap<String, ClusterHealthCheck> = BTreeMap::new();
    for inbound in &networking.inbound {
        if let Some(probe) = &inbound.service_probe {
            let check = application(networking, inbound, probe);
            checks.entry(check.cluster_name.clone()).or_insert(check);
        }
    }
    // Traffic waits for an application that is not ready, and for nothing where all are.
    let waiting = networking
        .inbound
        .iter()
        .any(|inbound| inbound.service_probe.is_some() && inbound.state() == State::NotReady);
    let interval = if waiting { interval.min(WAITING) } else { interval };
    checks.extend(envoy(peer).map(|check| (ENVOY.to_owned(), check)));
    HealthCheckSpecifier {
        cluster_health_checks: checks.into_values().collect(),
        interval: duration(interval),
    }
}

/// Envoy answers for itself at its admin endpoint, until it drains.
fn envoy(peer: &Peer) -> Option<ClusterHealthCheck> {
    let address = match peer.text("dataplane.admin.socketPath") {
        Some(path) => address::Address::Pipe(Pipe { path: path.into(), ..Default::default() }),
        None => {
            socket(peer.text("dataplane.admin.address")?, peer.text("dataplane.admin.port")?.parse().ok()?)
        }
    };
    let http = HttpHealthCheck { path: "/ready".into(), ..Default::default() };
    let check = check(TIMEOUT, INTERVAL, HealthChecker::HttpHealthCheck(http));
    Some(cluster(ENVOY, check, address))
}

fn application(networking: &Networking, inbound: &Inbound, probe: &ServiceProbe) -> ClusterHealthCheck {
    let target = [&inbound.service_address, &inbound.address, &networking.address];
    let target = target.into_iter().find(|address| !address.is_empty()).map_or("127.0.0.1", String::as_str);
    let tcp = HealthChecker::TcpHealthCheck(TcpHealthCheck::default());
    let mut check = check(TIMEOUT, INTERVAL, tcp);
    check.timeout = probe.timeout.or(check.timeout);
    check.interval = probe.interval.or(check.interval);
    check.unhealthy_threshold = probe.unhealthy_threshold.or(check.unhealthy_threshold);
    check.healthy_threshold = probe.healthy_threshold.or(check.healthy_threshold);
    let name = application_name(inbound);
    let mut cluster = cluster(&name, check, socket(target, workload_port(inbound)));
    let redirected = networking.transparent_proxying.as_ref().is_some_and(|tp| tp.redirect_port_inbound > 0);
    let target: Option<IpAddr> = target.parse().ok();
    if let Some(target) = target.filter(|target| redirected && !target.is_loopback()) {
        let source = if target.is_ipv4() { PASS_V4 } else { PASS_V6 };
        let source_address = Some(socket_address(source, 0));
        cluster.upstream_bind_config = Some(BindConfig { source_address, ..Default::default() });
    }
    cluster
}

fn workload_port(inbound: &Inbound) -> u32 {
    if inbound.service_port > 0 { inbound.service_port } else { inbound.port }
}

fn application_name(inbound: &Inbound) -> String {
    format!("localhost:{}", workload_port(inbound))
}

fn check(timeout: Duration, interval: Duration, checker: HealthChecker) -> HealthCheck {
    HealthCheck {
        timeout: duration(timeout),
        interval: duration(interval),
        // Nothing is sent to a cluster that only exists to be probed.
        no_traffic_interval: duration(interval),
        unhealthy_threshold: Some(1),
        healthy_threshold: Some(1),
        health_checker: Some(checker),
        ..Default::default()
    }
}

fn cluster(name: &str, check: HealthCheck, address: address::Address) -> ClusterHealthCheck {
    let endpoint = Endpoint { address: Some(Address { address: Some(address) }), ..Default::default() };
    ClusterHealthCheck {
        cluster_name: name.into(),
        health_checks: vec![check],
        locality_endpoints: vec![LocalityEndpoints { endpoints: vec![endpoint], ..Default::default() }],
        ..Default::default()
    }
}

fn socket(address: &str, port: u32) -> address::Address {
    address::Address::SocketAddress(socket_address(address, port))
}

fn socket_address(address: &str, port: u32) -> SocketAddress {
    SocketAddress {
        address: address.into(),
        port_specifier: Some(PortSpecifier::PortValue(port)),
        ..Default::default()
    }
}

fn duration(duration: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(duration).ok()
}

/// What a proxy found, by cluster. What it did not probe it says nothing of.
pub(super) struct Report(BTreeMap<String, bool>);

impl Report {
    pub(super) fn of(response: &EndpointHealthResponse) -> Self {
        let clusters = response.cluster_endpoints_health.iter().map(|cluster| {
            let mut endpoints =
                cluster.locality_endpoints_health.iter().flat_map(|locality| &locality.endpoints_health);
            // Unknown: not probed yet.
            let good = [HealthStatus::Healthy as i32, HealthStatus::Unknown as i32];
            (cluster.cluster_name.clone(), endpoints.all(|endpoint| good.contains(&endpoint.health_status)))
        });
        Self(clusters.collect())
    }

    /// The Dataplane with what was found; `None` where that is what it says already.
    pub(super) fn applied(&self, dataplane: &Dataplane) -> Option<Dataplane> {
        let envoy = self.0.get(ENVOY).copied();
        let mut next = dataplane.clone();
        let networking = next.networking.as_mut()?;
        for inbound in &mut networking.inbound {
            let probed = inbound.service_probe.is_some();
            let application = self.0.get(&application_name(inbound)).copied().filter(|_| probed);
            let ready = match (application, envoy) {
                (Some(application), envoy) => application && envoy.unwrap_or(true),
                (None, Some(false)) => false,
                (None, Some(true)) if !probed => true,
                (None, _) => continue,
            };
            let state = match (inbound.state(), ready) {
                (State::Ignored, _) => continue,
                (_, true) => State::Ready,
                (_, false) => State::NotReady,
            };
            if state != inbound.state() {
                inbound.set_state(state);
                inbound.health = Some(Health { ready });
            }
        }
        for listener in &mut networking.listeners {
            match envoy {
                Some(true) => listener.set_state(listener::State::Ready),
                Some(false) => listener.set_state(listener::State::NotReady),
                None => {}
            }
        }
        (next != *dataplane).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use envoy_api::envoy::service::health::v3::{
        ClusterEndpointsHealth, EndpointHealth, LocalityEndpointsHealth,
    };
    use model::{Kind, Payload};
    use serde_json::{Value, json};

    use super::*;

    fn dataplane(inbounds: Value) -> Dataplane {
        let document = json!({"networking": {"address": "10.0.0.1", "inbound": inbounds}});
        let payload = Payload::from_json(Kind::DATAPLANE.format, &document).unwrap();
        prost::Message::decode(payload.bytes().clone()).unwrap()
    }

    fn report(clusters: &[(&str, HealthStatus)]) -> Report {
        let cluster = |(name, status): &(&str, HealthStatus)| {
            let endpoint = EndpointHealth { health_status: *status as i32, ..Default::default() };
            let locality = LocalityEndpointsHealth { endpoints_health: vec![endpoint], ..Default::default() };
            ClusterEndpointsHealth { cluster_name: (*name).into(), locality_endpoints_health: vec![locality] }
        };
        let cluster_endpoints_health = clusters.iter().map(cluster).collect();
        Report::of(&EndpointHealthResponse { cluster_endpoints_health, ..Default::default() })
    }

    fn states(dataplane: &Dataplane) -> Vec<State> {
        dataplane.networking.as_ref().unwrap().inbound.iter().map(Inbound::state).collect()
    }

    fn peer(metadata: &[(&str, &str)]) -> Peer {
        let text = |text: &str| prost_types::Value {
            kind: Some(prost_types::value::Kind::StringValue(text.into())),
        };
        let fields = metadata.iter().map(|(key, value)| ((*key).to_owned(), text(value))).collect();
        let node = envoy_api::envoy::config::core::v3::Node {
            id: "default.web".into(),
            metadata: Some(prost_types::Struct { fields }),
            ..Default::default()
        };
        Peer::of(Some(&node), &store::Snapshot::default()).unwrap()
    }

    #[test]
    fn inbounds_with_a_probe_and_envoy_itself_are_probed() {
        let dataplane = dataplane(json!([
            {"port": 80, "servicePort": 8080, "serviceProbe": {"tcp": {}, "interval": "3s"}},
            {"port": 81, "servicePort": 8081},
            {"port": 82, "serviceAddress": "127.0.0.1", "serviceProbe": {"tcp": {}, "unhealthyThreshold": 4}},
        ]));
        let admin = [("dataplane.admin.socketPath", "/w/admin.sock")];
        let specifier = specifier(&dataplane, &peer(&admin), Duration::from_secs(5));
        let names: Vec<_> =
            specifier.cluster_health_checks.iter().map(|check| check.cluster_name.as_str()).collect();
        assert_eq!(names, ["localhost:8080", "localhost:82", ENVOY]);
        let first = &specifier.cluster_health_checks[0].health_checks[0];
        assert_eq!(first.interval.unwrap().seconds, 3);
        assert_eq!((first.timeout.unwrap().seconds, first.unhealthy_threshold), (2, Some(1)));
        assert_eq!(specifier.cluster_health_checks[1].health_checks[0].unhealthy_threshold, Some(4));
        assert_eq!(specifier.interval.unwrap().seconds, 5);
        let none = super::specifier(&dataplane, &peer(&[]), Duration::from_secs(5));
        assert_eq!(none.cluster_health_checks.len(), 2, "an admin endpoint nobody told of is not probed");
        let mut waiting = dataplane.clone();
        waiting.networking.as_mut().unwrap().inbound[0].set_state(State::NotReady);
        let waiting = super::specifier(&waiting, &peer(&[]), Duration::from_secs(5));
        assert_eq!(waiting.interval.unwrap().seconds, 1);
    }

    #[test]
    fn findings_become_states_and_the_same_findings_nothing() {
        let probed = dataplane(json!([
            {"port": 80, "servicePort": 8080, "serviceProbe": {"tcp": {}}, "state": "NotReady"},
            {"port": 81},
            {"port": 83, "state": "Ignored"},
        ]));
        let good = report(&[("localhost:8080", HealthStatus::Healthy), (ENVOY, HealthStatus::Healthy)]);
        let next = good.applied(&probed).unwrap();
        assert_eq!(states(&next), [State::Ready, State::Ready, State::Ignored]);
        assert_eq!(good.applied(&next), None);
        let bad = report(&[("localhost:8080", HealthStatus::Timeout), (ENVOY, HealthStatus::Healthy)]);
        assert_eq!(states(&bad.applied(&next).unwrap()), [State::NotReady, State::Ready, State::Ignored]);
        let draining = report(&[("localhost:8080", HealthStatus::Healthy), (ENVOY, HealthStatus::Unhealthy)]);
        let drained = draining.applied(&next).unwrap();
        assert_eq!(states(&drained), [State::NotReady, State::NotReady, State::Ignored]);
        assert_eq!(report(&[]).applied(&drained), None, "what is not told changes nothing");
    }
}
