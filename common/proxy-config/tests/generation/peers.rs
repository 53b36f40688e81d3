//! Policies of incoming traffic that tell peers apart: limits, faults and permissions.

use kds_proto::mesh::dataplane::networking::listener::Type;
use model::{Kind, Resource};
use serde_json::{Value, json};

use crate::mesh::{
    PEM, external, external_spec, inbound, mesh_identity, policy, resource, service, shown, snapshot, trust,
    workload, zone_proxy,
};

fn base() -> Vec<Resource> {
    vec![
        mesh_identity(),
        trust("east", PEM),
        workload("web", "10.0.0.1", inbound(80, 8080, "http")),
        workload("db", "10.0.0.2", inbound(5432, 0, "tcp")),
        service("east", "web", "241.0.0.1", 80, "http"),
        zone_proxy("egress", Type::ZoneEgress, "10.0.0.4", 10002),
        external("shop", "242.0.0.1", &external_spec("203.0.113.1", "http")),
        external("bytes", "242.0.0.2", &external_spec("203.0.113.1", "tcp")),
    ]
}

/// The first chain of a listener of a proxy under a policy.
fn chain(kind: Kind, spec: &Value, proxy: &str, listener: &str) -> Value {
    let config = shown(&snapshot(base().into_iter().chain([policy(kind, "p", spec)])), proxy, true);
    resource(&config, "Listener", listener)["filterChains"][0].clone()
}

fn filter_names(chain: &Value) -> Vec<&str> {
    chain["filters"].as_array().into_iter().flatten().filter_map(|filter| filter["name"].as_str()).collect()
}

fn http_filters(manager: &Value) -> Vec<&Value> {
    manager["typedConfig"]["httpFilters"].as_array().into_iter().flatten().collect()
}

fn routes(manager: &Value) -> &Value {
    &manager["typedConfig"]["routeConfig"]["virtualHosts"][0]["routes"]
}

const LIMIT: &str = "envoy.filters.http.local_ratelimit";

#[test]
fn each_peer_has_its_own_limit_of_requests() {
    let limit = |num: u32| json!({"local": {"http": {"requestRate": {"num": num, "interval": "1m"}}}});
    let spec = json!({"rules": [
        {"default": limit(100)},
        {"matches": [{"spiffeID": {"type": "Exact", "value": "spiffe://d/a"}}], "default": limit(1)},
        {"matches": [{"spiffeID": {"type": "Prefix", "value": "spiffe://d/"}}], "default": {"local": {"http": {"disabled": true}}}},
    ]});
    let chain = chain(Kind::MESH_RATE_LIMIT, &spec, "web", "self_inbound_dp_80");
    assert_eq!(
        filter_names(&chain),
        ["envoy.filters.network.set_filter_state", "envoy.filters.network.http_connection_manager"]
    );
    let remembered = &chain["filters"][0]["typedConfig"]["onDownstreamTlsHandshake"];
    assert_eq!(remembered[0]["objectKey"], "kuma.mesh_rate_limit.match.spiffe_id");
    let manager = &chain["filters"][1];
    let names: Vec<_> = http_filters(manager).iter().map(|filter| filter["name"].as_str()).collect();
    assert_eq!(names, ["envoy.filters.http.rbac", LIMIT, "envoy.filters.http.router"].map(Some));
    let routes = routes(manager).as_array().cloned().unwrap_or_default();
    let limits: Vec<_> = routes
        .iter()
        .map(|route| {
            let peer = route["match"]["filterState"][0]["stringMatch"].clone();
            (peer, route["typedPerFilterConfig"][LIMIT]["tokenBucket"]["maxTokens"].as_u64())
        })
        .collect();
    let expected = [
        (json!({"exact": "spiffe://d/a"}), Some(1)),
        (json!({"prefix": "spiffe://d/"}), None),
        (Value::Null, Some(100)),
    ];
    assert_eq!(limits, expected);
    assert!(routes.iter().all(|route| route["route"]["timeout"] == "15s"), "later policies see all routes");
}

#[test]
fn connections_are_limited_before_anything_else_sees_them() {
    let spec = json!({"rules": [{"default": {"local": {"tcp": {"connectionRate": {"num": 3, "interval": "1.5s"}}}}}]});
    let chain = chain(Kind::MESH_RATE_LIMIT, &spec, "db", "self_inbound_dp_5432");
    assert_eq!(
        filter_names(&chain),
        [
            "envoy.filters.network.rbac",
            "envoy.filters.network.local_ratelimit",
            "envoy.filters.network.tcp_proxy"
        ]
    );
    let bucket = json!({"maxTokens": 3, "tokensPerFill": 3, "fillInterval": "1.500s"});
    assert_eq!(chain["filters"][1]["typedConfig"]["tokenBucket"], bucket);
}

#[test]
fn an_egress_limits_connections_by_the_server_they_ask_for() {
    let limit = |num: u32| json!({"local": {"tcp": {"connectionRate": {"num": num, "interval": "1s"}}}});
    let server = json!({"sni": {"type": "Exact", "value": "sni.extsvc.default.east.bytes.443"}});
    let spec = json!({"rules": [{"default": limit(9)}, {"matches": [server], "default": limit(2)}]});
    let resources = base().into_iter().chain([policy(Kind::MESH_RATE_LIMIT, "p", &spec)]);
    let config = shown(&snapshot(resources), "egress", true);
    let chains = &resource(&config, "Listener", "self_zoneegress_dp_main")["filterChains"];
    let limits: Vec<_> = chains
        .as_array()
        .into_iter()
        .flatten()
        .map(|chain| {
            let limit = chain["filters"].as_array().into_iter().flatten();
            let mut limit = limit.filter(|filter| filter["name"] == "envoy.filters.network.local_ratelimit");
            let tokens = limit.next().map(|limit| &limit["typedConfig"]["tokenBucket"]["maxTokens"]);
            (chain["name"].as_str(), tokens.and_then(Value::as_u64))
        })
        .collect();
    let expected = [
        (Some("kri_extsvc_default_east__bytes_443"), Some(2)),
        (Some("kri_extsvc_default_east__shop_443"), Some(9)),
    ];
    assert_eq!(limits, expected);
}

#[test]
fn a_limit_that_envoy_would_refuse_is_not_sent() {
    let spec = json!({"rules": [{"default": {"local": {
        "http": {"requestRate": {"num": 1, "interval": "10ms"}},
        "tcp": {"connectionRate": {"num": 0, "interval": "1s"}},
    }}}]});
    let chain = chain(Kind::MESH_RATE_LIMIT, &spec, "web", "self_inbound_dp_80");
    assert_eq!(filter_names(&chain), ["envoy.filters.network.http_connection_manager"]);
    assert_eq!(http_filters(&chain["filters"][0]).len(), 2);
}

#[test]
fn faults_come_in_their_order_and_only_to_the_peers_they_are_for() {
    let spec = json!({"rules": [
        {"default": {"http": [{"responseBandwidth": {"limit": "2Mbps", "percentage": 50}}]}},
        {
            "matches": [{"spiffeID": {"type": "Exact", "value": "spiffe://d/a"}, "sni": {"type": "Exact", "value": "s"}}],
            "default": {"http": [
                {"abort": {"httpStatus": 503, "percentage": "2.5"}},
                {"delay": {"value": "1s", "percentage": 5}},
                {"abort": {"httpStatus": 100, "percentage": 5}},
            ]},
        },
    ]});
    let chain = chain(Kind::MESH_FAULT_INJECTION, &spec, "web", "self_inbound_dp_80");
    let filters = http_filters(&chain["filters"][0]);
    let faults: Vec<_> =
        filters.iter().filter(|filter| filter["name"] == "kri_mfi_default_east__p_").collect();
    assert_eq!(faults.len(), 3, "Envoy answers with no status below 200");
    let own = &faults[0]["typedConfig"];
    let percentage = json!({"numerator": 250, "denominator": "TEN_THOUSAND"});
    assert_eq!(own["extensionConfig"]["typedConfig"]["abort"]["percentage"], percentage);
    let skipped = &own["xdsMatcher"]["matcherList"]["matchers"][0]["predicate"]["notMatcher"];
    assert_eq!(skipped["andMatcher"]["predicate"].as_array().map(Vec::len), Some(2));
    assert_eq!(faults[1]["typedConfig"]["extensionConfig"]["typedConfig"]["delay"]["fixedDelay"], "1s");
    let limit = &faults[2]["typedConfig"]["responseRateLimit"];
    assert_eq!(limit["fixedLimit"]["limitKbps"], "2000");
    assert_eq!(filters.last().map(|filter| &filter["name"]), Some(&json!("envoy.filters.http.router")));
}

#[test]
fn permissions_guard_requests_also_behind_other_filters_of_connections() {
    let peer = json!({"sni": {"type": "Exact", "value": "s"}});
    let limit = json!({"local": {"http": {"requestRate": {"num": 1, "interval": "1s"}}}});
    let spec = json!({"rules": [{"matches": [peer], "default": limit}]});
    let resources = base().into_iter().chain([policy(Kind::MESH_RATE_LIMIT, "p", &spec)]);
    let config = shown(&snapshot(resources), "web", true);
    let listener = resource(&config, "Listener", "self_inbound_dp_80");
    let manager = &listener["filterChains"][0]["filters"][1];
    assert_eq!(http_filters(manager)[0]["name"], "envoy.filters.http.rbac");
    assert_eq!(listener["listenerFilters"][0]["name"], "envoy.filters.listener.tls_inspector");
}

#[test]
fn each_peer_has_its_own_timeouts_of_requests() {
    let spec = json!({"rules": [
        {"default": {"http": {"requestTimeout": "30s", "streamIdleTimeout": "1m"}}},
        {"matches": [{"spiffeID": {"type": "Exact", "value": "spiffe://d/a"}}],
            "default": {"http": {"requestTimeout": "1s"}}},
        // What is said of connections cannot differ by peer.
        {"matches": [{"spiffeID": {"type": "Exact", "value": "spiffe://d/b"}}], "default": {"idleTimeout": "1s"}},
    ]});
    let chain = chain(Kind::MESH_TIMEOUT, &spec, "web", "self_inbound_dp_80");
    let remembered = &chain["filters"][0]["typedConfig"]["onDownstreamTlsHandshake"];
    assert_eq!(remembered[0]["objectKey"], "kuma.mesh_timeout.match.spiffe_id");
    let routes = routes(&chain["filters"][1]);
    let shown = routes.as_array().into_iter().flatten().map(|route| {
        let peer = &route["match"]["filterState"][0]["stringMatch"]["exact"];
        (peer.as_str(), route["route"]["timeout"].as_str(), route["route"]["idleTimeout"].as_str())
    });
    let expected = [(Some("spiffe://d/a"), Some("1s"), Some("60s")), (None, Some("30s"), Some("60s"))];
    assert_eq!(shown.collect::<Vec<_>>(), expected);
}

#[test]
fn timeouts_at_an_egress_are_of_the_server_and_of_peers() {
    let sni =
        |service: &str| json!({"type": "Exact", "value": format!("sni.extsvc.default.east.{service}.443")});
    let peer = json!({"type": "Exact", "value": "spiffe://d/a"});
    let request = |time: &str| json!({"http": {"requestTimeout": time}});
    let spec = json!({"rules": [
        {"default": request("30s")},
        {"matches": [{"sni": sni("shop")}], "default": request("20s")},
        {"matches": [{"sni": sni("other")}], "default": request("1s")},
        {"matches": [{"sni": sni("shop"), "spiffeID": peer}], "default": request("2s")},
        {"matches": [{"sni": sni("other"), "spiffeID": peer}], "default": request("3s")},
    ]});
    let config =
        shown(&snapshot(base().into_iter().chain([policy(Kind::MESH_TIMEOUT, "p", &spec)])), "egress", true);
    let chains = resource(&config, "Listener", "self_zoneegress_dp_main")["filterChains"].as_array().cloned();
    let shop =
        chains.into_iter().flatten().find(|chain| chain["name"] == "kri_extsvc_default_east__shop_443");
    let shop = shop.expect("a chain for the shop");
    let manager = shop["filters"].as_array().and_then(|filters| filters.last().cloned()).expect("a filter");
    let shown = routes(&manager).as_array().into_iter().flatten().map(|route| {
        let peer = &route["match"]["filterState"][0]["stringMatch"]["exact"];
        (peer.as_str(), route["route"]["timeout"].as_str())
    });
    assert_eq!(shown.collect::<Vec<_>>(), [(Some("spiffe://d/a"), Some("2s")), (None, Some("20s"))]);
}
