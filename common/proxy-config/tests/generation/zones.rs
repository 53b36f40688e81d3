//! Several zones and what is outside the mesh.

use std::collections::BTreeMap;
use std::sync::Arc;

use kds_proto::mesh::dataplane::networking::listener::Type;
use model::spec::{ExternalTls, ExternalVerification, MeshExternalService};
use model::{Key, Kind, Resource};
use proxy_config::{MeshView, Proxy, Settings, generate};
use serde_json::{Value, json};

use crate::mesh::{
    MESH, PEM, ZONE, external, external_spec, inbound, mesh_identity, metadata, multi_zone, names, resource,
    service, shown, snapshot, trust, workload, zone_address, zone_proxy,
};

const REMOTE: &str = "kri_msvc_default_west__web_80";
const EVERYWHERE: &str = "kri_mzsvc_default___web_80";
const SHOP: &str = "kri_extsvc_default_east__shop_443";

fn base() -> Vec<Resource> {
    vec![
        mesh_identity(),
        trust("east", PEM),
        trust("west", PEM),
        workload("web", "10.0.0.1", inbound(80, 8080, "http")),
        service("east", "web", "241.0.0.1", 80, "http"),
        service("west", "web", "241.0.0.2", 80, "http"),
        multi_zone("web", "243.0.0.1", 80, "http"),
        zone_address("west", "192.0.2.1", 10001),
        zone_address("east", "192.0.2.2", 10001),
        zone_proxy("ingress", Type::ZoneIngress, "10.0.0.3", 10001),
        zone_proxy("egress", Type::ZoneEgress, "10.0.0.4", 10002),
        external("shop", "242.0.0.1", &external_spec("203.0.113.1", "http")),
    ]
}

fn places(config: &Value, cluster: &str) -> Vec<(String, u64, u64)> {
    let assignment = resource(config, "ClusterLoadAssignment", cluster);
    let localities = assignment["endpoints"].as_array().cloned().unwrap_or_default();
    let places = localities.iter().flat_map(|locality| {
        let priority = locality["priority"].as_u64().unwrap_or(0);
        let endpoints = locality["lbEndpoints"].as_array().cloned().unwrap_or_default();
        endpoints.into_iter().map(move |endpoint| {
            let address = &endpoint["endpoint"]["address"]["socketAddress"];
            let host = address["address"].as_str().unwrap_or_default().to_owned();
            (host, address["portValue"].as_u64().unwrap_or(0), priority)
        })
    });
    places.collect()
}

#[test]
fn services_of_other_zones_are_reached_through_their_ingress() {
    let config = shown(&snapshot(base()), "web", true);
    assert_eq!(places(&config, REMOTE), [("192.0.2.1".to_owned(), 10001, 1)]);
    let cluster = resource(&config, "Cluster", REMOTE);
    let tls = &cluster["transportSocket"]["typedConfig"];
    assert_eq!(tls["sni"], "sni.msvc.default.west.web.80");
    let accepted = &tls["commonTlsContext"]["combinedValidationContext"]["defaultValidationContext"];
    let expected = "spiffe://default.west.mesh.local/workload/web";
    assert_eq!(accepted["matchTypedSubjectAltNames"][0]["matcher"]["exact"], expected);
    let bundle = resource(&config, "Secret", "system_trust_bundle");
    let domains = &bundle["validationContext"]["customValidatorConfig"]["typedConfig"]["trustDomains"];
    assert_eq!(domains[1]["name"], "default.west.mesh.local");
}

#[test]
fn without_identities_nothing_crosses_zones() {
    let without = base().into_iter().filter(|resource| resource.kind() != Kind::MESH_IDENTITY);
    let config = shown(&snapshot(without), "web", false);
    assert_eq!(places(&config, REMOTE), []);
}

#[test]
fn a_service_over_zones_prefers_the_own_one() {
    let config = shown(&snapshot(base()), "web", true);
    let expected = [("10.0.0.1".to_owned(), 80, 0), ("192.0.2.1".to_owned(), 10001, 1)];
    assert_eq!(places(&config, EVERYWHERE), expected);
    let tls = &resource(&config, "Cluster", EVERYWHERE)["transportSocket"]["typedConfig"];
    assert_eq!(tls["sni"], "sni.mzsvc.default.web.80");
    let accepted = &tls["commonTlsContext"]["combinedValidationContext"]["defaultValidationContext"];
    let names = accepted["matchTypedSubjectAltNames"].as_array().map(Vec::len);
    assert_eq!(names, Some(2), "each zone's service may answer");
}

#[test]
fn an_ingress_serves_its_own_zone_only() {
    let config = shown(&snapshot(base()), "ingress", true);
    let listener = resource(&config, "Listener", "self_zoneingress_dp_main");
    let chains = listener["filterChains"].as_array().cloned().unwrap_or_default();
    let served: Vec<_> =
        chains.iter().map(|chain| chain["filterChainMatch"]["serverNames"][0].as_str()).collect();
    assert_eq!(served, [Some("sni.msvc.default.east.web.80"), Some("sni.mzsvc.default.web.80")]);
    assert_eq!(places(&config, EVERYWHERE), [("10.0.0.1".to_owned(), 80, 0)]);
    assert_eq!(resource(&config, "Cluster", EVERYWHERE).get("transportSocket"), None);
}

#[test]
fn an_ingress_with_nothing_to_serve_does_not_listen() {
    let ingress = zone_proxy("ingress", Type::ZoneIngress, "10.0.0.3", 10001);
    let config = shown(&snapshot([mesh_identity(), trust("east", PEM), ingress]), "ingress", true);
    assert_eq!(names(&config, "Listener"), ["system_envoy_admin"]);
}

#[test]
fn what_is_outside_is_reached_through_the_egress() {
    let config = shown(&snapshot(base()), "web", true);
    assert_eq!(places(&config, SHOP), [("10.0.0.4".to_owned(), 10002, 0)]);
    let tls = &resource(&config, "Cluster", SHOP)["transportSocket"]["typedConfig"];
    let accepted = &tls["commonTlsContext"]["combinedValidationContext"]["defaultValidationContext"];
    let egress = "spiffe://default.east.mesh.local/workload/egress";
    assert_eq!(accepted["matchTypedSubjectAltNames"][0]["matcher"]["exact"], egress);

    let egress = shown(&snapshot(base()), "egress", true);
    let chain = &resource(&egress, "Listener", "self_zoneegress_dp_main")["filterChains"][0];
    assert_eq!(chain["name"], SHOP);
    assert_eq!(chain["transportSocket"]["typedConfig"]["requireClientCertificate"], true);
    assert_eq!(resource(&egress, "Cluster", SHOP)["type"], "STATIC");
    let plain = shown(&snapshot(base()), "egress", false);
    assert_eq!(names(&plain, "Listener"), ["system_envoy_admin"], "an egress proves who it is");
}

fn with_tls(verification: ExternalVerification) -> MeshExternalService {
    let tls = ExternalTls { enabled: true, verification: Some(verification), ..ExternalTls::default() };
    MeshExternalService { tls: Some(tls), ..external_spec("shop.example.com", "http") }
}

#[test]
fn tls_outside_the_mesh_is_verified_or_not_spoken_at_all() {
    let cluster = |spec: &MeshExternalService| {
        let resources = base().into_iter().chain([external("shop", "242.0.0.1", spec)]);
        resource(&shown(&snapshot(resources), "egress", true), "Cluster", SHOP).clone()
    };
    let secured = cluster(&with_tls(ExternalVerification::default()));
    assert_eq!(secured["type"], "STRICT_DNS");
    let tls = &secured["transportSocketMatches"][0]["transportSocket"]["typedConfig"];
    assert_eq!(tls["sni"], "shop.example.com");
    let context = &tls["commonTlsContext"]["validationContext"];
    assert_eq!(context["matchTypedSubjectAltNames"][0]["matcher"]["exact"], "shop.example.com");
    assert!(context["trustedCa"]["filename"].is_string());
    let missing = json!({"caCert": {"type": "Secret", "secretRef": {"kind": "Secret", "name": "nope"}}});
    let missing: ExternalVerification = serde_json::from_value(missing).expect("valid");
    assert_eq!(cluster(&with_tls(missing)), Value::Null);
}

#[test]
fn names_of_hosts_are_for_the_caller_to_resolve() {
    let resources = base().into_iter().chain([zone_address("west", "west.example.com", 10001)]);
    let snapshot = snapshot(resources);
    let view = MeshView::new(&snapshot, MESH, ZONE);
    assert_eq!(view.host_names().iter().collect::<Vec<_>>(), ["west.example.com"]);
    let known = BTreeMap::from([("west.example.com".to_owned(), [192, 0, 2, 7].into())]);
    let view = MeshView::with_names(&snapshot, MESH, ZONE, &known);
    let dataplane = snapshot.resource(&Key::new(Kind::DATAPLANE, MESH, "web")).expect("there");
    let proxy = Proxy::new(Arc::clone(dataplane), metadata("/tmp"));
    let config = generate(&view, &proxy, Some(&crate::mesh::identity("web")), &Settings::default()).to_json();
    assert_eq!(places(&config, REMOTE), [("192.0.2.7".to_owned(), 10001, 1)]);
}
