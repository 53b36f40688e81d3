//! Arrival order never changes a byte, and a resource that cannot be read takes only itself away.

use std::sync::Arc;

use kds_proto::mesh::dataplane::networking::listener::Type;
use model::{Key, Kind, Payload, Resource};
use proptest::prelude::*;
use proxy_config::{AdminTls, MeshView, Proxy, ProxyConfig, Settings, generate};
use serde_json::json;
use store::Snapshot;

use crate::mesh::{
    MESH, PEM, ZONE, external, external_spec, identity, inbound, mesh_identity, metadata, multi_zone, policy,
    service, snapshot, trust, workload, zone_address, zone_proxy,
};

const PROXIES: [&str; 4] = ["web", "db", "ingress", "egress"];

fn resources() -> Vec<Resource> {
    let timeout = |name: &str, idle: &str| {
        let spec = json!({"rules": [{"default": {"idleTimeout": idle}}], "to": [{"targetRef": {"kind": "Mesh"}, "default": {"idleTimeout": idle}}]});
        policy(Kind::MESH_TIMEOUT, name, &spec)
    };
    let allow =
        json!({"rules": [{"default": {"allow": [{"spiffeID": {"type": "Prefix", "value": "spiffe://"}}]}}]});
    vec![
        mesh_identity(),
        trust("east", PEM),
        trust("west", PEM),
        workload("web", "10.0.0.1", inbound(80, 8080, "http")),
        workload("web-2", "10.0.0.5", inbound(80, 8080, "http")),
        workload("db", "10.0.0.2", inbound(5432, 0, "tcp")),
        service("east", "web", "241.0.0.1", 80, "http"),
        service("west", "web", "241.0.0.2", 80, "http"),
        service("east", "db", "241.0.0.3", 5432, "tcp"),
        multi_zone("web", "243.0.0.1", 80, "http"),
        zone_address("west", "192.0.2.1", 10001),
        zone_proxy("ingress", Type::ZoneIngress, "10.0.0.3", 10001),
        zone_proxy("egress", Type::ZoneEgress, "10.0.0.4", 10002),
        external("shop", "242.0.0.1", &external_spec("203.0.113.1", "http")),
        timeout("t1", "1s"),
        timeout("t2", "2s"),
        policy(Kind::MESH_TRAFFIC_PERMISSION, "allow", &allow),
    ]
}

fn config(snapshot: &Snapshot, name: &str) -> ProxyConfig {
    let view = MeshView::new(snapshot, MESH, ZONE);
    let dataplane = snapshot.resource(&Key::new(Kind::DATAPLANE, MESH, name)).expect("the proxy is there");
    let proxy =
        Proxy::new(Arc::clone(dataplane), metadata("/tmp")).with_admin_tls(Arc::new(AdminTls::blank()));
    generate(&view, &proxy, Some(&identity(name)), &Settings::default())
}

/// The same resource with a spec that nothing can read.
fn malformed(resource: &Resource) -> Resource {
    let mut builder = resource.to_builder();
    builder.spec = Payload::from_bytes(vec![0xff, 0xff, 0xff]);
    builder.build()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn arrival_order_never_changes_a_byte(order in Just((0..resources().len()).collect::<Vec<_>>()).prop_shuffle()) {
        let resources = resources();
        let arrived = order.iter().filter_map(|at| resources.get(*at).cloned());
        let (shuffled, sorted) = (snapshot(arrived), snapshot(resources.clone()));
        for name in PROXIES {
            prop_assert_eq!(config(&shuffled, name), config(&sorted, name));
        }
    }

    #[test]
    fn a_malformed_resource_takes_only_itself_away(at in 0..resources().len()) {
        let resources = resources();
        let bad = malformed(&resources[at]);
        let with = snapshot(resources.iter().cloned().chain([bad.clone()]));
        let without = with.clone().without(bad.key());
        for name in PROXIES.iter().filter(|name| **name != bad.name()) {
            let (with, without) = (config(&with, name), config(&without, name));
            // Whether there are any identities is known without reading them.
            if bad.kind() != Kind::MESH_IDENTITY {
                prop_assert_eq!(with, without, "{} for {}", bad.key(), name);
            }
        }
    }
}

#[test]
fn versions_follow_the_content() {
    let resources = resources();
    let before = config(&snapshot(resources.clone()), "web");
    let changed = workload("db", "10.0.0.22", inbound(5432, 0, "tcp"));
    let after = config(&snapshot(resources.into_iter().chain([changed])), "web");
    let differing: Vec<_> = before
        .iter()
        .zip(after.iter())
        .filter(|(a, b)| a != b)
        .map(|((name, resource), _)| (name.to_string(), resource.kind))
        .collect();
    let expected = ("kri_msvc_default_east__db_5432".to_owned(), proxy_config::ResourceType::Endpoint);
    assert_eq!(differing, [expected]);
}

#[test]
fn of_a_dataplane_that_cannot_be_read_nothing_is_generated() {
    let resources = resources();
    let bad = malformed(&resources[3]);
    let name = bad.name().to_owned();
    let config = config(&snapshot(resources.into_iter().chain([bad])), &name);
    assert_eq!(config.iter().filter(|(name, _)| !name.starts_with("system_")).count(), 0);
}
