//! A view that follows changes is the view that would be made anew, and a configuration whose inputs stand is the one
//! that would be generated.

use std::collections::BTreeMap;
use std::sync::Arc;

use kds_proto::mesh::dataplane::networking::listener::Type;
use model::{Key, Kind, Resource};
use proptest::prelude::*;
use proxy_config::{AdminTls, Inputs, MeshView, Proxy, ProxyConfig, Settings, generate};
use serde_json::{Value, json};
use store::Snapshot;

use crate::mesh::{
    MESH, PEM, ZONE, client, external, external_spec, identity, inbound, mesh_identity, metadata, multi_zone,
    policy, service, snapshot, trust, workload, zone_address, zone_proxy,
};

const PROXIES: [&str; 6] = ["web", "web-2", "db", "ingress", "egress", "caller"];

/// Resources that are there first.
fn resources() -> Vec<Resource> {
    vec![
        mesh_identity(),
        trust("east", PEM),
        workload("web", "10.0.0.1", inbound(80, 8080, "http")),
        workload("web-2", "10.0.0.5", inbound(80, 8080, "http")),
        workload("db", "10.0.0.2", inbound(5432, 0, "tcp")),
        client("caller", &[("127.0.0.1", 10080, "web", 80), ("127.0.0.1", 10081, "db", 5432)]),
        service("east", "web", "241.0.0.1", 80, "http"),
        service("east", "db", "241.0.0.3", 5432, "tcp"),
        multi_zone("web", "243.0.0.1", 80, "http"),
        zone_proxy("ingress", Type::ZoneIngress, "10.0.0.3", 10001),
        zone_proxy("egress", Type::ZoneEgress, "10.0.0.4", 10002),
        external("shop", "242.0.0.1", &external_spec("203.0.113.1", "http")),
        timeout("t1", "1s", &json!({"kind": "Mesh"})),
    ]
}

fn timeout(name: &str, idle: &str, target: &Value) -> Resource {
    let conf = json!({"idleTimeout": idle});
    let to = json!([{"targetRef": {"kind": "Mesh"}, "default": conf}]);
    policy(Kind::MESH_TIMEOUT, name, &json!({"targetRef": target, "rules": [{"default": conf}], "to": to}))
}

fn route() -> Resource {
    let backend = |zone: &str| json!({"kind": "MeshService", "labels": {"kuma.io/display-name": "web", "kuma.io/zone": zone}, "port": 80});
    let target = json!({"kind": "MeshService", "labels": {"kuma.io/display-name": "web"}});
    let default = json!({"backendRefs": [backend("west"), backend("east")]});
    let rules = json!([{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "default": default}]);
    policy(Kind::MESH_HTTP_ROUTE, "route", &json!({"to": [{"targetRef": target, "rules": rules}]}))
}

/// Something that is written, or written anew with other content; or taken away where it is there.
fn change() -> impl Strategy<Value = (Resource, bool)> {
    let labels = |labels: Value| json!({"kind": "Dataplane", "labels": labels});
    let resource = prop_oneof![
        (0..4u8).prop_map(|host| workload("web", &format!("10.0.0.{host}"), inbound(80, 8080, "http"))),
        (0..4u8).prop_map(|host| workload("web-2", &format!("10.0.1.{host}"), inbound(80, 8080, "http"))),
        (0..4u8).prop_map(|host| workload("web-3", &format!("10.0.2.{host}"), inbound(80, 8080, "grpc"))),
        Just(workload("db", "db.example", inbound(5432, 0, "tcp"))),
        (1..4u8).prop_map(|port| zone_proxy("egress", Type::ZoneEgress, "10.0.0.4", u32::from(port))),
        (1..4u8).prop_map(|host| zone_address("west", &format!("192.0.2.{host}"), 10001)),
        (1..4u8).prop_map(|vip| service("west", "web", &format!("241.0.1.{vip}"), 80, "http")),
        (1..3u8).prop_map(|vip| service("east", "web", &format!("241.0.0.{vip}"), 80, "http")),
        Just(service("east", "cache", "241.0.0.9", 80, "tcp")),
        (1..3u8).prop_map(|vip| multi_zone("web", &format!("243.0.0.{vip}"), 80, "http")),
        Just(external("shop", "242.0.0.2", &external_spec("203.0.113.2", "tcp"))),
        Just(trust("west", PEM)),
        Just(mesh_identity()),
        (1..4u8).prop_map(|idle| timeout("t1", &format!("{idle}s"), &json!({"kind": "Mesh"}))),
        (1..3u8).prop_map(move |idle| timeout("t2", &format!("{idle}s"), &labels(json!({"app": "db"})))),
        Just(route()),
        Just(policy(Kind::MESH_FAULT_INJECTION, "f", &json!({"rules": [{"default": {}}]}))),
    ];
    (resource, prop::bool::weighted(0.3))
}

fn proxy(snapshot: &Snapshot, name: &str, admin: &Arc<AdminTls>) -> Option<Proxy> {
    let dataplane = snapshot.resource(&Key::new(Kind::DATAPLANE, MESH, name))?;
    Some(Proxy::new(Arc::clone(dataplane), metadata("/tmp")).with_admin_tls(Arc::clone(admin)))
}

fn make(view: &MeshView, proxy: &Proxy) -> ProxyConfig {
    let identity = identity(proxy.dataplane.name());
    generate(view, proxy, Some(&identity), &Settings::default())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_view_that_follows_is_a_new_one(changes in prop::collection::vec(change(), 1..24)) {
        let (settings, admin) = (Settings::default(), Arc::new(AdminTls::blank()));
        let mut seen = snapshot(resources());
        let mut view = MeshView::new(&seen, MESH, ZONE);
        let mut held: BTreeMap<&str, (Inputs, ProxyConfig)> = BTreeMap::new();
        for (resource, goes) in changes {
            let newer = if goes { seen.clone().without(resource.key()) } else { seen.clone().with(resource) };
            view = view.advance(&seen, &newer);
            let fresh = MeshView::new(&newer, MESH, ZONE);
            prop_assert_eq!(view.host_names(), fresh.host_names());
            for name in PROXIES {
                let Some(proxy) = proxy(&newer, name, &admin) else {
                    held.remove(name);
                    continue;
                };
                let config = make(&fresh, &proxy);
                prop_assert_eq!(&make(&view, &proxy), &config, "{}", name);
                if let Some((inputs, before)) = held.get_mut(name)
                    && inputs.stand(&view, &proxy, &settings)
                {
                    prop_assert_eq!(&*before, &config, "{}: the inputs stand", name);
                    continue;
                }
                match Inputs::of(&view, &proxy, &settings) {
                    Some(inputs) => held.insert(name, (inputs, config)),
                    None => held.remove(name),
                };
            }
            seen = newer;
        }
    }
}

#[test]
fn inputs_stand_while_nothing_that_concerns_a_proxy_changes() {
    let (settings, admin) = (Settings::default(), Arc::new(AdminTls::blank()));
    let before = snapshot(resources());
    let view = MeshView::new(&before, MESH, ZONE);
    let caller = proxy(&before, "caller", &admin).expect("it is there");
    let stands = |change: Resource| {
        let mut inputs = Inputs::of(&view, &caller, &settings).expect("it can be read");
        let after = before.clone().with(change);
        inputs.stand(&view.advance(&before, &after), &caller, &settings)
    };
    let of_others = json!({"kind": "Dataplane", "labels": {"app": "db"}});
    assert!(stands(timeout("t2", "9s", &of_others)), "a policy for others");
    assert!(
        stands(workload("batch", "10.0.3.1", inbound(80, 0, "http"))),
        "a proxy that serves nothing it calls"
    );
    assert!(stands(service("east", "cache", "241.0.0.9", 80, "tcp")), "a service that it does not call");
    assert!(!stands(timeout("t2", "9s", &json!({"kind": "Mesh"}))), "a policy for all");
    assert!(!stands(workload("db", "10.0.3.1", inbound(5432, 0, "tcp"))), "an endpoint of what it calls");
    assert!(!stands(trust("west", PEM)), "whom all trust");
}
