//! Proxies beside applications.

use kds_proto::mesh::dataplane::Networking;
use kds_proto::mesh::dataplane::networking::inbound::State;
use kds_proto::mesh::dataplane::networking::outbound::BackendRef;
use kds_proto::mesh::dataplane::networking::transparent_proxying::{ReachableBackendRef, ReachableBackends};
use kds_proto::mesh::dataplane::networking::{Outbound, TransparentProxying};
use model::{Kind, Resource};
use serde_json::{Value, json};

use crate::mesh::{
    PEM, client, dataplane, inbound, mesh_identity, names, policy, redirected, resource, service, shown,
    snapshot, trust, workload,
};

const WEB: &str = "kri_msvc_default_east__web_80";

fn base() -> Vec<Resource> {
    vec![
        mesh_identity(),
        trust("east", PEM),
        workload("web", "10.0.0.1", inbound(80, 8080, "http")),
        workload("db", "10.0.0.2", inbound(5432, 0, "tcp")),
        service("east", "web", "241.0.0.1", 80, "http"),
        service("east", "db", "241.0.0.2", 5432, "tcp"),
        client("caller", &[("127.0.0.1", 10080, "web", 80)]),
    ]
}

fn chain<'a>(config: &'a Value, listener: &str, at: usize) -> &'a Value {
    &resource(config, "Listener", listener)["filterChains"][at]
}

#[test]
fn an_inbound_takes_only_peers_of_the_mesh_unless_a_policy_permits_more() {
    let strict = shown(&snapshot(base()), "web", true);
    let listener = resource(&strict, "Listener", "self_inbound_dp_80");
    assert_eq!(listener["filterChains"].as_array().map(Vec::len), Some(1));
    let tls = &listener["filterChains"][0]["transportSocket"]["typedConfig"];
    assert_eq!(tls["requireClientCertificate"], true);
    let names = &tls["commonTlsContext"]["combinedValidationContext"]["defaultValidationContext"];
    assert_eq!(
        names["matchTypedSubjectAltNames"][0]["matcher"]["prefix"],
        "spiffe://default.east.mesh.local/"
    );
    let permissive = json!({"rules": [{"default": {"mode": "Permissive"}}]});
    let with_policy = base().into_iter().chain([policy(Kind::MESH_TLS, "tls", &permissive)]);
    let config = shown(&snapshot(with_policy), "web", true);
    let chains = resource(&config, "Listener", "self_inbound_dp_80")["filterChains"].clone();
    let transports: Vec<_> = chains
        .as_array()
        .into_iter()
        .flatten()
        .map(|chain| {
            let matches = &chain["filterChainMatch"];
            let alpn = matches["applicationProtocols"][0].as_str();
            (matches["transportProtocol"].as_str(), alpn, chain.get("transportSocket").is_some())
        })
        .collect();
    let expected =
        [(Some("raw_buffer"), None, false), (Some("tls"), None, false), (Some("tls"), Some("kuma"), true)];
    assert_eq!(transports, expected);
    let passthrough = resource(&config, "Listener", "self_transparentproxy_passthrough_inbound_ipv4");
    assert_eq!(passthrough["filterChains"][0].get("filterChainMatch"), None);
}

#[test]
fn without_an_identity_connections_are_plain() {
    let config = shown(&snapshot(base()), "web", false);
    assert_eq!(chain(&config, "self_inbound_dp_80", 0).get("transportSocket"), None);
    assert_eq!(resource(&config, "Cluster", WEB).get("transportSocket"), None);
    assert_eq!(names(&config, "Secret"), Vec::<&str>::new());
}

#[test]
fn what_no_permission_allows_is_denied() {
    let rbac = |config: &Value| {
        let manager = chain(config, "self_inbound_dp_80", 0)["filters"][0]["typedConfig"].clone();
        manager["httpFilters"][0]["typedConfig"]["matcher"].clone()
    };
    let none = rbac(&shown(&snapshot(base()), "web", true));
    assert_eq!(none["onNoMatch"]["action"]["typedConfig"]["action"], "DENY");
    assert_eq!(none.get("matcherList"), None);
    let allow = json!({"rules": [{"default": {"allow": [{"spiffeID": {"type": "Exact", "value": "spiffe://d/a"}}]}}]});
    let deny = json!({"rules": [{"default": {"deny": [{"sni": {"type": "Exact", "value": "s"}}]}}]});
    let policies = [
        policy(Kind::MESH_TRAFFIC_PERMISSION, "allow", &allow),
        policy(Kind::MESH_TRAFFIC_PERMISSION, "deny", &deny),
    ];
    let config = shown(&snapshot(base().into_iter().chain(policies)), "web", true);
    let matchers = rbac(&config)["matcherList"]["matchers"].clone();
    let verdicts: Vec<_> = matchers
        .as_array()
        .into_iter()
        .flatten()
        .map(|matcher| {
            let action = &matcher["onMatch"]["action"]["typedConfig"];
            (action["name"].as_str(), action["action"].as_str())
        })
        .collect();
    let expected =
        [(Some("kri_mtp_default_east__deny_"), Some("DENY")), (Some("kri_mtp_default_east__allow_"), None)];
    assert_eq!(verdicts, expected);
    let inspected = &resource(&config, "Listener", "self_inbound_dp_80")["listenerFilters"][0]["name"];
    assert_eq!(inspected, "envoy.filters.listener.tls_inspector");
}

#[test]
fn declared_outbounds_listen_where_they_say() {
    let config = shown(&snapshot(base()), "caller", true);
    let listener = resource(&config, "Listener", WEB);
    assert_eq!(listener["address"]["socketAddress"], json!({"address": "127.0.0.1", "portValue": 10080}));
    assert_eq!(listener.get("bindToPort"), None);
    let cluster = resource(&config, "Cluster", WEB);
    let tls = &cluster["transportSocket"]["typedConfig"];
    assert_eq!(tls["sni"], "sni.msvc.default.east.web.80");
    let names = &tls["commonTlsContext"]["combinedValidationContext"]["defaultValidationContext"];
    let expected = "spiffe://default.east.mesh.local/workload/web";
    assert_eq!(names["matchTypedSubjectAltNames"][0]["matcher"]["exact"], expected);
    let endpoints = resource(&config, "ClusterLoadAssignment", WEB);
    let address = &endpoints["endpoints"][0]["lbEndpoints"][0]["endpoint"]["address"]["socketAddress"];
    assert_eq!(address, &json!({"address": "10.0.0.1", "portValue": 80}));
}

#[test]
fn redirected_proxies_have_every_virtual_address_and_its_name() {
    let config = shown(&snapshot(base()), "db", true);
    let listener = resource(&config, "Listener", WEB);
    assert_eq!(listener["address"]["socketAddress"]["address"], "241.0.0.1");
    assert_eq!(listener["bindToPort"], false);
    let documents = chain(&config, "system_dynamicconfig", 0)["filters"][0]["typedConfig"].clone();
    let routes = &documents["routeConfig"]["virtualHosts"][0]["routes"];
    let body = routes[1]["directResponse"]["body"]["inlineString"].as_str().expect("a document");
    let names: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(
        names["records"][1],
        json!({"name": "web.svc.east.mesh.local", "ips": ["241.0.0.1", "::ffff:f100:1"]})
    );
    assert_eq!(routes[0]["directResponse"]["status"], 304);
    assert_eq!(
        routes[0]["match"]["headers"][0]["stringMatch"]["exact"],
        routes[1]["responseHeadersToAdd"][0]["header"]["value"]
    );
}

#[test]
fn one_destination_on_several_addresses_is_one_listener() {
    let proxy = client(
        "both",
        &[("127.0.0.1", 1, "web", 80), ("127.0.0.1", 2, "web", 80), ("127.0.0.1", 1, "db", 5432)],
    );
    let config = shown(&snapshot(base().into_iter().chain([proxy])), "both", true);
    let listener = resource(&config, "Listener", WEB);
    assert_eq!(listener["additionalAddresses"][0]["address"]["socketAddress"]["portValue"], 2);
    let taken = resource(&config, "Listener", "kri_msvc_default_east__db_5432");
    assert_eq!(taken, &Value::Null, "an address leads to one destination");
}

#[test]
fn inbounds_that_are_not_ready_are_no_endpoints() {
    let mut web = inbound(80, 0, "http");
    web.set_state(State::NotReady);
    let resources = base().into_iter().chain([workload("web", "10.0.0.1", web)]);
    let config = shown(&snapshot(resources), "caller", true);
    assert_eq!(resource(&config, "ClusterLoadAssignment", WEB).get("endpoints"), None);
}

#[test]
fn a_service_without_known_identities_is_not_trusted() {
    let mut spec = crate::mesh::service_spec("east", "web", 80, "http");
    spec.identities.clear();
    let service = service("east", "web", "241.0.0.1", 80, "http").to_builder().spec(&spec).build();
    let config = shown(&snapshot(base().into_iter().chain([service])), "caller", true);
    let tls = &resource(&config, "Cluster", WEB)["transportSocket"]["typedConfig"];
    let names = &tls["commonTlsContext"]["combinedValidationContext"]["defaultValidationContext"];
    assert_eq!(names["matchTypedSubjectAltNames"], json!([{"sanType": "URI", "matcher": {"exact": ""}}]));
}

#[test]
fn timeouts_follow_the_policies_of_each_side() {
    let spec = json!({
        "rules": [{"default": {"connectionTimeout": "7s", "http": {"requestTimeout": "8s"}}}],
        "to": [{"targetRef": {"kind": "MeshService", "labels": {"service": "web"}}, "default": {"connectionTimeout": "9s", "http": {"maxStreamDuration": "10s"}}}]
    });
    let resources = base().into_iter().chain([policy(Kind::MESH_TIMEOUT, "t", &spec)]);
    let config = shown(&snapshot(resources), "web", true);
    assert_eq!(resource(&config, "Cluster", "self_inbound_dp_80")["connectTimeout"], "7s");
    let manager = &chain(&config, "self_inbound_dp_80", 0)["filters"][0]["typedConfig"];
    let route = &manager["routeConfig"]["virtualHosts"][0]["routes"][0]["route"];
    assert_eq!((&route["timeout"], &route["idleTimeout"]), (&json!("8s"), &json!("1800s")));
    let cluster = resource(&config, "Cluster", "kri_msvc_default_east__web_80");
    assert_eq!(cluster["connectTimeout"], "9s");
    let options = cluster["typedExtensionProtocolOptions"].as_object().expect("options").values().next();
    assert_eq!(
        options.map(|options| &options["commonHttpProtocolOptions"]["maxStreamDuration"]),
        Some(&json!("10s"))
    );
    let other = resource(&config, "Cluster", "kri_msvc_default_east__db_5432");
    assert_eq!(other["connectTimeout"], "5s");
}

#[test]
fn a_proxy_that_declares_what_it_calls_gets_only_that() {
    let wanted = ReachableBackendRef {
        kind: "MeshService".into(),
        labels: [("service".to_owned(), "web".to_owned())].into(),
        ..ReachableBackendRef::default()
    };
    let transparent = TransparentProxying {
        reachable_backends: Some(ReachableBackends { refs: vec![wanted] }),
        ..redirected().expect("redirected")
    };
    let networking = Networking {
        address: "10.0.0.7".into(),
        transparent_proxying: Some(transparent),
        ..Networking::default()
    };
    let proxy = dataplane("picky", networking).build();
    let config = shown(&snapshot(base().into_iter().chain([proxy])), "picky", true);
    assert_eq!(names(&config, "ClusterLoadAssignment"), [WEB]);
}

#[test]
fn names_of_before_services_were_resources_still_lead_to_them() {
    let backend = |name: &str, port| BackendRef {
        kind: "MeshService".into(),
        name: name.into(),
        port,
        ..BackendRef::default()
    };
    let outbound = |port, backend| Outbound { address: String::new(), port, backend_ref: Some(backend) };
    let networking = Networking {
        address: "10.0.0.7".into(),
        outbound: vec![outbound(1, backend("web", 80)), outbound(2, backend("db_prod_svc_5432", 0))],
        ..Networking::default()
    };
    let db =
        service("east", "db", "241.0.0.2", 5432, "tcp").to_builder().label("k8s.kuma.io/namespace", "prod");
    let resources = base().into_iter().chain([db.build(), dataplane("old", networking).build()]);
    let config = shown(&snapshot(resources), "old", true);
    let mine = names(&config, "ClusterLoadAssignment");
    assert_eq!(mine, ["kri_msvc_default_east__web_80", "kri_msvc_default_east_prod_db_5432"]);
    let address = &resource(&config, "Listener", WEB)["address"]["socketAddress"];
    assert_eq!(address, &json!({"address": "127.0.0.1", "portValue": 1}));
}

#[test]
fn proxies_are_called_directly_where_that_is_declared() {
    let transparent =
        TransparentProxying { direct_access_services: vec!["*".into()], ..redirected().expect("redirected") };
    let networking = Networking {
        address: "10.0.0.7".into(),
        transparent_proxying: Some(transparent),
        ..Networking::default()
    };
    let proxy = dataplane("direct", networking).build();
    let config = shown(&snapshot(base().into_iter().chain([proxy])), "direct", true);
    let listener = resource(&config, "Listener", "direct_access_10.0.0.1:80");
    assert_eq!(listener["statPrefix"], "direct_access_10_0_0_1_80");
    assert_eq!(resource(&config, "Cluster", "direct_access")["type"], "ORIGINAL_DST");
    let without_inbounds = &resource(&config, "Listener", "self_transparentproxy_passthrough_inbound_ipv4");
    assert_eq!(without_inbounds["filterChains"][0]["filterChainMatch"]["destinationPort"], 49151);
}
