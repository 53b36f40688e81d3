//! Changes that users write in Envoy's own terms.

use std::sync::Arc;

use kds_proto::mesh::dataplane::networking::listener::Type;
use model::{Key, Kind, Resource, Violations};
use proxy_config::{
    MeshView, Note, Proxy, ProxyConfig, ResourceType, Settings, check_spec, contributors, generate,
};
use serde_json::{Value, json};

use crate::mesh::{
    MESH, PEM, ZONE, external, external_spec, identity, inbound, mesh_identity, metadata, names, policy,
    resource, service, snapshot, trust, workload, zone_proxy,
};

const WEB: &str = "kri_msvc_default_east__web_80";
const INBOUND: &str = "self_inbound_dp_80";

fn base() -> Vec<Resource> {
    vec![
        mesh_identity(),
        trust("east", PEM),
        workload("web", "10.0.0.1", inbound(80, 8080, "http")),
        workload("db", "10.0.0.2", inbound(5432, 0, "tcp")),
        service("east", "web", "241.0.0.1", 80, "http"),
        zone_proxy("egress", Type::ZoneEgress, "10.0.0.4", 10002),
        external("shop", "242.0.0.1", &external_spec("203.0.113.1", "http")),
    ]
}

fn config(proxy: &str, policies: impl IntoIterator<Item = Resource>) -> ProxyConfig {
    let snapshot = snapshot(base().into_iter().chain(policies));
    let view = MeshView::new(&snapshot, MESH, ZONE);
    let dataplane = snapshot.resource(&Key::new(Kind::DATAPLANE, MESH, proxy)).expect("the proxy is there");
    let proxy_of = Proxy::new(Arc::clone(dataplane), metadata("/tmp"));
    generate(&view, &proxy_of, Some(&identity(proxy)), &Settings::default())
}

fn patch(modifications: &Value) -> Value {
    json!({"default": {"appendModifications": modifications}})
}

/// The configuration of a proxy after some modifications, and what could not be made.
fn patched(proxy: &str, modifications: &Value) -> (Value, Vec<Note>) {
    let config = config(proxy, [policy(Kind::MESH_PROXY_PATCH, "p", &patch(modifications))]);
    (config.to_json(), config.notes().to_vec())
}

fn listener<'a>(config: &'a Value, name: &str) -> &'a Value {
    resource(config, "Listener", name)
}

fn manager(config: &Value, name: &str) -> Value {
    let filters =
        listener(config, name)["filterChains"][0]["filters"].as_array().cloned().unwrap_or_default();
    let manager =
        filters.into_iter().find(|one| one["name"] == "envoy.filters.network.http_connection_manager");
    manager.map(|mut manager| manager["typedConfig"].take()).unwrap_or_default()
}

fn filter_names(filters: &Value) -> Vec<&str> {
    filters.as_array().into_iter().flatten().filter_map(|filter| filter["name"].as_str()).collect()
}

#[test]
fn clusters_are_added_removed_and_patched() {
    let (config, notes) = patched(
        "web",
        &json!([
            {"cluster": {"operation": "Add", "value": "name: own\nconnectTimeout: 7s\ntype: STATIC"}},
            {"cluster": {"operation": "Patch", "match": {"origin": "outbound"}, "value": "connect_timeout: 1.5s"}},
            {"cluster": {"operation": "Patch", "match": {"name": "own"}, "jsonPatches": [
                {"op": "replace", "path": "/connectTimeout", "value": "8s"},
            ]}},
            {"cluster": {"operation": "Remove", "match": {"name": "system_probe_readiness"}}},
            {"cluster": {"operation": "Remove", "match": {"name": INBOUND, "origin": "outbound"}}},
        ]),
    );
    assert_eq!(resource(&config, "Cluster", "own")["connectTimeout"], "8s");
    assert_eq!(resource(&config, "Cluster", WEB)["connectTimeout"], "1.500s");
    let held = names(&config, "Cluster");
    assert!(!held.contains(&"system_probe_readiness") && held.contains(&INBOUND), "{held:?}");
    let expected = ("spec.default.appendModifications[4].cluster".to_owned(), false);
    assert_eq!(notes.iter().map(|note| (note.path.clone(), note.failed)).collect::<Vec<_>>(), [expected]);
}

#[test]
fn listeners_are_chosen_by_origin_name_and_tags() {
    let modify = |wanted: Value| {
        let change = json!([{"listener": {"operation": "Patch", "match": wanted, "value": "perConnectionBufferLimitBytes: 5"}}]);
        let (config, _) = patched("web", &change);
        let held = names(&config, "Listener");
        let changed =
            held.iter().filter(|name| listener(&config, name)["perConnectionBufferLimitBytes"] == 5);
        changed.map(|name| (*name).to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(modify(json!({"origin": "inbound"})), [INBOUND]);
    assert_eq!(modify(json!({"tags": {"kuma.io/workload": "web"}})), [INBOUND]);
    assert_eq!(modify(json!({"tags": {"kuma.io/workload": "db"}})), Vec::<String>::new());
    assert_eq!(modify(json!({"name": WEB})), [WEB]);
    assert_eq!(modify(json!({"origin": "transparent"})).len(), 4);
    assert_eq!(modify(json!({"origin": "dynamic-config"})), ["system_dynamicconfig"]);
    assert_eq!(modify(json!({"name": "kuma:envoy:admin"})), Vec::<String>::new());
}

const LUA: &str = "name: own\ntypedConfig:\n  '@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua\n  defaultSourceCode: {inlineString: x}";

#[test]
fn filters_of_requests_go_where_they_are_wanted() {
    let order = |operation: &str, name: Option<&str>| {
        let mut wanted = json!({"origin": "inbound"});
        if let Some(name) = name {
            wanted["name"] = json!(name);
        }
        let change = json!([{"httpFilter": {"operation": operation, "match": wanted, "value": LUA}}]);
        let (config, notes) = patched("web", &change);
        assert_eq!(notes, []);
        filter_names(&manager(&config, INBOUND)["httpFilters"]).join(" ").replace("envoy.filters.http.", "")
    };
    assert_eq!(order("AddFirst", None), "own rbac router");
    assert_eq!(order("AddLast", None), "rbac router own");
    assert_eq!(order("AddBefore", Some("envoy.filters.http.router")), "rbac own router");
    assert_eq!(order("AddAfter", Some("envoy.filters.http.rbac")), "rbac own router");
    let (config, _) = patched(
        "web",
        &json!([{"httpFilter": {"operation": "Remove", "match": {"name": "envoy.filters.http.rbac"}}}]),
    );
    assert_eq!(filter_names(&manager(&config, INBOUND)["httpFilters"]), ["envoy.filters.http.router"]);
}

#[test]
fn configuration_of_filters_is_merged_and_patched() {
    let router = "name: envoy.filters.http.router\ntypedConfig:\n  '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\n  dynamicStats: false";
    let hcm = "name: envoy.filters.network.http_connection_manager\ntypedConfig:\n  '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n  streamIdleTimeout: 5s";
    let (config, notes) = patched(
        "web",
        &json!([
            {"httpFilter": {"operation": "Patch", "match": {"name": "envoy.filters.http.router", "origin": "inbound"}, "value": router}},
            {"httpFilter": {"operation": "Patch", "match": {"name": "envoy.filters.http.router", "listenerName": INBOUND},
                "jsonPatches": [{"op": "add", "path": "/suppressEnvoyHeaders", "value": true}]}},
            {"networkFilter": {"operation": "Patch", "match": {"name": "envoy.filters.network.http_connection_manager", "listenerTags": {"kuma.io/workload": "web"}}, "value": hcm}},
            {"networkFilter": {"operation": "Patch", "match": {"name": "envoy.filters.network.tcp_proxy", "listenerName": "outbound:passthrough:ipv4"},
                "jsonPatches": [{"op": "add", "path": "/idleTimeout", "value": "10s"}]}},
        ]),
    );
    assert_eq!(notes, []);
    let inbound = manager(&config, INBOUND);
    assert_eq!(inbound["streamIdleTimeout"], "5s");
    let router = &inbound["httpFilters"][1]["typedConfig"];
    assert_eq!((&router["dynamicStats"], &router["suppressEnvoyHeaders"]), (&json!(false), &json!(true)));
    let chain = &listener(&config, "self_transparentproxy_passthrough_outbound_ipv4")["filterChains"][0];
    assert_eq!(chain["filters"][0]["typedConfig"]["idleTimeout"], "10s");
    assert_eq!(manager(&config, WEB).get("streamIdleTimeout"), None, "another listener");
}

#[test]
fn virtual_hosts_are_added_removed_and_patched() {
    let (config, notes) = patched(
        "egress",
        &json!([
            {"virtualHost": {"operation": "Add", "match": {"origin": "egress"}, "value": "name: own\ndomains: [own]"}},
            {"virtualHost": {"operation": "Patch", "match": {"name": "own"}, "value": "retryPolicy: {retryOn: 5xx, numRetries: 3}"}},
            {"virtualHost": {"operation": "Patch", "match": {"routeConfigurationName": "kri_extsvc_default_east__shop_443"},
                "jsonPatches": [{"op": "add", "path": "/includeRequestAttemptCount", "value": true}]}},
            {"virtualHost": {"operation": "Remove", "match": {"name": "kri_extsvc_default_east__shop_443"}}},
        ]),
    );
    assert_eq!(notes, []);
    let hosts = manager(&config, "self_zoneegress_dp_main")["routeConfig"]["virtualHosts"].clone();
    assert_eq!(
        hosts,
        json!([{
            "name": "own",
            "domains": ["own"],
            "retryPolicy": {"retryOn": "5xx", "numRetries": 3},
            "includeRequestAttemptCount": true,
        }])
    );
}

#[test]
fn what_cannot_be_made_is_noted_and_the_rest_is_made() {
    let modifications = json!([
        {"cluster": {"operation": "Patch", "match": {"name": WEB}, "jsonPatches": [{"op": "remove", "path": "/nothing"}]}},
        {"cluster": {"operation": "Patch", "match": {"name": WEB}, "value": "name: other"}},
        {"cluster": {"operation": "Patch", "match": {"name": WEB}, "value": "conectTimeout: 1s"}},
        {"cluster": {"operation": "Dance"}},
        {"httpFilter": {"operation": "Patch", "match": {"name": "envoy.filters.http.router", "origin": "inbound"}, "value": LUA}},
        {"cluster": {"operation": "Patch", "match": {"name": WEB}, "value": "connectTimeout: 9s"}},
    ]);
    let (config, notes) = patched("web", &modifications);
    let culprits = ["/nothing", "other", "conectTimeout", "Dance", "lua.v3.Lua"];
    assert_eq!(notes.len(), culprits.len(), "{notes:?}");
    for (at, (note, culprit)) in notes.iter().zip(culprits).enumerate() {
        let path = format!("spec.default.appendModifications[{at}]");
        assert!(note.path.starts_with(&path) && note.failed, "{note:?}");
        assert!(note.reason.contains(culprit), "{culprit} is not named in: {}", note.reason);
        assert_eq!(note.policy.to_string(), "kri_mpp_default_east__p_");
    }
    let cluster = resource(&config, "Cluster", WEB);
    assert_eq!((&cluster["name"], &cluster["connectTimeout"]), (&json!(WEB), &json!("9s")));
}

#[test]
fn a_default_that_merging_cannot_set_is_noted() {
    let modifications = json!([
        {"listener": {"operation": "Patch", "match": {"name": INBOUND}, "value": "statPrefix: \"\"\nbindToPort: false"}},
    ]);
    let (config, notes) = patched("web", &modifications);
    let reasons: Vec<_> = notes.iter().map(|note| (note.failed, note.reason.as_str())).collect();
    let reason = "self_inbound_dp_80: merging cannot set statPrefix to its default, a JSON patch can";
    assert_eq!(reasons, [(true, reason)]);
    assert_eq!(listener(&config, INBOUND)["bindToPort"], false);
}

#[test]
fn modifications_of_several_policies_add_up_in_their_order() {
    let named = |name: &str, timeout: &str| {
        let value = format!("connectTimeout: {timeout}");
        let change = json!([{"cluster": {"operation": "Patch", "match": {"name": WEB}, "value": value}}]);
        policy(Kind::MESH_PROXY_PATCH, name, &patch(&change))
    };
    let config = config("web", [named("a", "1s"), named("b", "2s")]).to_json();
    assert_eq!(resource(&config, "Cluster", WEB)["connectTimeout"], "1s", "the smallest name wins");
}

#[test]
fn values_are_checked_against_their_messages() {
    let spec = patch(&json!([
        {"cluster": {"operation": "Add", "value": "connectTimeout: 1s"}},
        {"listener": {"operation": "Patch", "value": "nme: a"}},
        {"httpFilter": {"operation": "AddFirst", "value": LUA}},
        {"networkFilter": {"operation": "AddLast", "value": "name: a\ntypedConfig: {'@type': type.googleapis.com/nope.X}"}},
        {"virtualHost": {"operation": "Patch", "match": {}, "value": "domains: x"}},
    ]));
    let mut violations = Violations::default();
    check_spec(Kind::MESH_PROXY_PATCH, &spec, &mut violations);
    let found: Vec<_> = violations.iter().map(|one| (one.field.as_str(), one.message.as_str())).collect();
    let expected = [
        ("[0].cluster", "name"),
        ("[1].listener", "nme"),
        ("[3].networkFilter", "nope.X"),
        ("[4].virtualHost", ""),
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for ((field, message), (place, culprit)) in found.iter().zip(expected) {
        assert_eq!(*field, format!("spec.default.appendModifications{place}.value"));
        assert!(
            message.starts_with("native Envoy resource is not valid: ") && message.contains(culprit),
            "{message}"
        );
    }
}

#[test]
fn the_policies_behind_a_resource_are_those_without_which_it_would_be_another() {
    let timed = |kind: Kind, name: &str, spec: &Value, seconds: i64| {
        let mut builder = policy(kind, name, spec).to_builder();
        builder.modified = model::Timestamp::from_unix(1_800_000_000 + seconds, 0);
        builder.build()
    };
    let value = json!([{"cluster": {"operation": "Patch", "match": {"origin": "inbound"}, "value": "connectTimeout: 9s"}}]);
    let limit =
        json!({"rules": [{"default": {"local": {"http": {"requestRate": {"num": 1, "interval": "1s"}}}}}]});
    let fault = json!({"rules": [{"default": {"http": [{"abort": {"httpStatus": 503, "percentage": 1}}]}}]});
    let timeout =
        json!({"rules": [{"default": {"connectionTimeout": "1s", "http": {"requestTimeout": "1s"}}}]});
    let policies = [
        timed(Kind::MESH_PROXY_PATCH, "patch", &patch(&value), 0),
        timed(Kind::MESH_RATE_LIMIT, "limit", &limit, 10),
        timed(Kind::MESH_FAULT_INJECTION, "fault", &fault, 20),
        timed(Kind::MESH_TIMEOUT, "timeout", &timeout, 5),
    ];
    let snapshot = snapshot(base().into_iter().chain(policies));
    let view = MeshView::new(&snapshot, MESH, ZONE);
    let dataplane = snapshot.resource(&Key::new(Kind::DATAPLANE, MESH, "web")).expect("there");
    let proxy = Proxy::new(Arc::clone(dataplane), metadata("/tmp"));
    let of = |kind: ResourceType, name: &str| -> Vec<String> {
        let found = contributors(&view, &proxy, Some(&identity("web")), &Settings::default(), (kind, name));
        found.iter().map(ToString::to_string).collect()
    };
    let listener =
        ["kri_mfi_default_east__fault_", "kri_mrl_default_east__limit_", "kri_mt_default_east__timeout_"];
    assert_eq!(of(ResourceType::Listener, INBOUND), listener, "the most recently changed first");
    assert_eq!(
        of(ResourceType::Cluster, INBOUND),
        ["kri_mpp_default_east__patch_"],
        "what it says is overridden"
    );
    assert_eq!(of(ResourceType::Cluster, WEB), Vec::<String>::new());
}
