//! What a Dataplane must look like for a proxy to be configured from it.

use std::net::IpAddr;

use kds_proto::mesh::dataplane::Networking;
use kds_proto::mesh::dataplane::networking::inbound::ServiceProbe;
use kds_proto::mesh::dataplane::networking::transparent_proxying::ReachableBackendRef;
use kds_proto::mesh::dataplane::networking::{Gateway, Inbound, Listener, Outbound};

use super::{Violations, is_dns_name};
use crate::spec::{Dataplane, Protocol};

const PORT_RANGE: &str = "port must be in the range [1, 65535]";
const DESTINATIONS: [&str; 3] = ["MeshService", "MeshExternalService", "MeshMultiZoneService"];

pub(super) fn check(spec: &Dataplane, violations: &mut Violations) {
    let Some(networking) = &spec.networking else {
        violations.add("networking", "must be defined");
        return;
    };
    check_address("networking.address", &networking.address, violations);
    check_shape(networking, violations);
    for (at, inbound) in networking.inbound.iter().enumerate() {
        check_inbound(&format!("networking.inbound[{at}]"), inbound, networking, violations);
    }
    for (at, outbound) in networking.outbound.iter().enumerate() {
        check_outbound(&format!("networking.outbound[{at}]"), outbound, violations);
    }
    for (at, listener) in networking.listeners.iter().enumerate() {
        check_listener(&format!("networking.listeners[{at}]"), listener, violations);
    }
    check_listener_names(networking, violations);
    let reachable = networking.transparent_proxying.as_ref().and_then(|it| it.reachable_backends.as_ref());
    for (at, backend) in reachable.iter().flat_map(|reachable| &reachable.refs).enumerate() {
        // The peer spells the field so, and callers may look for it.
        let path = format!("networking.transparentProxing.reachableBackends.refs[{at}]");
        check_reachable(&path, backend, violations);
    }
}

fn check_address(field: &str, address: &str, violations: &mut Violations) {
    match address.parse::<IpAddr>() {
        _ if address.is_empty() => violations.add(field, "address can't be empty"),
        Ok(ip) if ip.is_unspecified() => violations.add(field, "must not be 0.0.0.0 or ::"),
        Err(_) if !is_dns_name(address) => {
            violations.add(field, "address has to be valid IP address or domain name")
        }
        _ => {}
    }
}

fn check_shape(networking: &Networking, violations: &mut Violations) {
    if let Some(gateway) = &networking.gateway {
        check_gateway(gateway, violations);
        if !networking.inbound.is_empty() {
            violations.add("networking.inbound", "inbound cannot be defined for delegated gateways");
        }
        if !networking.listeners.is_empty() {
            violations.add("networking.listeners", "listeners cannot be defined for delegated gateways");
        }
    }
    let admin = networking.admin.as_ref().map_or(0, |admin| admin.port);
    let taken = networking.inbound.iter().map(|inbound| inbound.port);
    if admin != 0
        && taken.chain(networking.outbound.iter().map(|outbound| outbound.port)).any(|port| port == admin)
    {
        violations.add("networking.admin.port", "must differ from inbound and outbound ports");
    }
}

/// A gateway without tags is fine; with tags, they say which service it is.
fn check_gateway(gateway: &Gateway, violations: &mut Violations) {
    const SERVICE: &str = "kuma.io/service";
    const PROTOCOL: &str = "kuma.io/protocol";
    let field = |tag: &str| format!("networking.gateway.tags[{tag:?}]");
    if !gateway.tags.is_empty() && gateway.tags.get(SERVICE).is_none_or(String::is_empty) {
        violations.add(field(SERVICE), "tag has to exist");
    }
    if gateway.tags.get(PROTOCOL).is_some_and(|protocol| !protocol.eq_ignore_ascii_case("tcp")) {
        violations.add(field(PROTOCOL), "other values than TCP are not allowed");
    }
}

fn check_probe(path: &str, probe: &ServiceProbe, violations: &mut Violations) {
    for (field, said) in [("interval", &probe.interval), ("timeout", &probe.timeout)] {
        if said.is_some_and(|said| (said.seconds, said.nanos) <= (0, 0)) {
            violations.add(format!("{path}.{field}"), "must be greater than zero when defined");
        }
    }
    let thresholds =
        [("unhealthyThreshold", probe.unhealthy_threshold), ("healthyThreshold", probe.healthy_threshold)];
    for (field, said) in thresholds {
        if said == Some(0) {
            violations.add(format!("{path}.{field}"), "must be greater than zero when defined");
        }
    }
}

fn check_reachable(path: &str, backend: &ReachableBackendRef, violations: &mut Violations) {
    if !DESTINATIONS.contains(&backend.kind.as_str()) {
        violations.add(
            format!("{path}.kind"),
            format!("invalid value. Available values are: {}", DESTINATIONS.join(",")),
        );
    }
    match (backend.name.is_empty(), backend.labels.is_empty()) {
        (true, true) => {
            violations.add(format!("{path}.name"), "either 'name' or 'labels' should be specified");
        }
        (false, false) => {
            violations.add(format!("{path}.labels"), "labels cannot be defined when name is specified");
        }
        _ => {}
    }
    if let Some(port) = backend.port {
        check_port(format!("{path}.port"), port, violations);
    }
}

fn check_port(field: String, port: u32, violations: &mut Violations) {
    if !(1..=65535).contains(&port) {
        violations.add(field, PORT_RANGE);
    }
}

fn check_ip(field: String, address: &str, violations: &mut Violations) {
    if !address.is_empty() && address.parse::<IpAddr>().is_err() {
        violations.add(field, "address has to be valid IP address");
    }
}

fn check_inbound(path: &str, inbound: &Inbound, networking: &Networking, violations: &mut Violations) {
    check_port(format!("{path}.port"), inbound.port, violations);
    if inbound.service_port > 65535 {
        violations.add(format!("{path}.servicePort"), "port must be in the range [0, 65535]");
    }
    check_ip(format!("{path}.address"), &inbound.address, violations);
    check_ip(format!("{path}.serviceAddress"), &inbound.service_address, violations);
    let own = if inbound.address.is_empty() { &networking.address } else { &inbound.address };
    let service_port = if inbound.service_port == 0 { inbound.port } else { inbound.service_port };
    if !inbound.service_address.is_empty() && *own == inbound.service_address && service_port == inbound.port
    {
        violations.add(
            format!("{path}.serviceAddress"),
            "serviceAddress and servicePort has to differ from address and port",
        );
    }
    if let Some(probe) = &inbound.service_probe {
        check_probe(&format!("{path}.serviceProbe"), probe, violations);
    }
    if Protocol::parse(&inbound.protocol).is_none() {
        let protocol = &inbound.protocol;
        violations.add(
            format!("{path}.protocol"),
            format!("protocol {protocol:?} is invalid. Allowed values: grpc, http, http2, tcp"),
        );
    }
}

fn check_outbound(path: &str, outbound: &Outbound, violations: &mut Violations) {
    check_port(format!("{path}.port"), outbound.port, violations);
    check_ip(format!("{path}.address"), &outbound.address, violations);
    let Some(backend) = &outbound.backend_ref else {
        violations.add(format!("{path}.backendRef"), "must be defined");
        return;
    };
    if !DESTINATIONS.contains(&backend.kind.as_str()) {
        violations.add(
            format!("{path}.backendRef.kind"),
            format!("invalid value. Available values are: {}", DESTINATIONS.join(",")),
        );
    }
    if backend.name.is_empty() && backend.labels.is_empty() {
        violations.add(format!("{path}.backendRef.name"), "either 'name' or 'labels' should be specified");
    }
    if backend.kind != "MeshExternalService" {
        check_port(format!("{path}.backendRef.port"), backend.port, violations);
    }
}

fn check_listener(path: &str, listener: &Listener, violations: &mut Violations) {
    if listener.r#type == 0 {
        violations.add(format!("{path}.type"), "must be defined: ZoneIngress or ZoneEgress");
    }
    if listener.address.is_empty() {
        violations.add(format!("{path}.address"), "must not be empty");
    }
    check_ip(format!("{path}.address"), &listener.address, violations);
    check_port(format!("{path}.port"), listener.port, violations);
}

fn check_listener_names(networking: &Networking, violations: &mut Violations) {
    let inbounds = networking.inbound.iter().map(|inbound| (&inbound.name, &inbound.address, inbound.port));
    let mut names = std::collections::BTreeSet::new();
    let mut places = std::collections::BTreeSet::new();
    for (name, address, port) in inbounds {
        names.insert(name.as_str());
        let address = if address.is_empty() { &networking.address } else { address };
        places.insert((address.as_str(), port));
    }
    for (at, listener) in networking.listeners.iter().enumerate() {
        if !listener.name.is_empty() && !names.insert(&listener.name) {
            violations.add(
                format!("networking.listeners[{at}].name"),
                "must be unique among inbounds and listeners",
            );
        }
        if !places.insert((&listener.address, listener.port)) {
            violations.add(format!("networking.listeners[{at}]"), "address and port are already in use");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{Key, Kind, Payload, Resource};

    fn fields(spec: serde_json::Value) -> Vec<String> {
        let mut builder = Resource::builder(Key::new(Kind::DATAPLANE, "default", "dp"));
        builder.spec = Payload::from_json(Kind::DATAPLANE.format, &spec).expect("the test's own document");
        super::super::validate(&builder.build()).iter().map(|violation| violation.field.clone()).collect()
    }

    #[test]
    fn a_sound_dataplane_has_no_violation() {
        let spec = json!({"networking": {
            "address": "127.0.0.1",
            "inbound": [{"port": 80, "servicePort": 8080, "protocol": "http"}],
            "outbound": [{"port": 1000, "backendRef": {"kind": "MeshService", "name": "b", "port": 80}}],
            "listeners": [{"type": "ZoneIngress", "address": "127.0.0.1", "port": 10001}],
        }});
        assert!(fields(spec).is_empty());
    }

    #[test]
    fn every_violation_is_found_at_once() {
        let spec = json!({"networking": {
            "address": "0.0.0.0",
            "inbound": [{"port": 0, "protocol": "smtp"}],
            "outbound": [{"port": 70000}],
            "listeners": [{"address": "nowhere", "port": 1}],
        }});
        assert_eq!(
            fields(spec),
            [
                "networking.address",
                "networking.inbound[0].port",
                "networking.inbound[0].protocol",
                "networking.outbound[0].port",
                "networking.outbound[0].backendRef",
                "networking.listeners[0].type",
                "networking.listeners[0].address",
            ]
        );
    }

    #[test]
    fn probes_backends_and_gateways_are_checked() {
        let spec = json!({"networking": {
            "address": "127.0.0.1",
            "inbound": [{"port": 80, "serviceProbe": {
                "interval": "0s", "timeout": "-1s", "healthyThreshold": 0, "unhealthyThreshold": 1,
            }}],
            "transparentProxying": {"reachableBackends": {"refs": [
                {"kind": "MeshService", "name": "a", "port": 80},
                {"kind": "Service", "port": 0},
                {"kind": "MeshExternalService", "name": "a", "labels": {"a": "b"}},
            ]}},
        }});
        assert_eq!(
            fields(spec),
            [
                "networking.inbound[0].serviceProbe.interval",
                "networking.inbound[0].serviceProbe.timeout",
                "networking.inbound[0].serviceProbe.healthyThreshold",
                "networking.transparentProxing.reachableBackends.refs[1].kind",
                "networking.transparentProxing.reachableBackends.refs[1].name",
                "networking.transparentProxing.reachableBackends.refs[1].port",
                "networking.transparentProxing.reachableBackends.refs[2].labels",
            ]
        );
        let gateway = json!({"networking": {
            "address": "127.0.0.1",
            "gateway": {"tags": {"kuma.io/protocol": "http"}},
            "inbound": [{"port": 80}],
            "listeners": [{"type": "ZoneEgress", "address": "127.0.0.1", "port": 81}],
        }});
        assert_eq!(
            fields(gateway),
            [
                r#"networking.gateway.tags["kuma.io/service"]"#,
                r#"networking.gateway.tags["kuma.io/protocol"]"#,
                "networking.inbound",
                "networking.listeners",
            ]
        );
    }
}
