//! Routes, and the policies that name them.

use kds_proto::mesh::dataplane::networking::listener::Type;
use model::{Kind, Resource};
use serde_json::{Value, json};

use crate::mesh::{
    PEM, client, external, external_spec, inbound, mesh_identity, multi_zone, names, policy, resource,
    service, shown, snapshot, trust, workload, zone_address, zone_proxy,
};

const WEB: &str = "kri_msvc_default_east__web_80";
const CATCH_ALL: &str = "9Zuf5Tg79OuZcQITwBbQykxAk2u4fRKrwYn3//AL4Yo=";

fn base() -> Vec<Resource> {
    vec![
        mesh_identity(),
        trust("east", PEM),
        workload("web", "10.0.0.1", inbound(80, 8080, "http")),
        workload("next", "10.0.0.5", inbound(80, 8080, "http")),
        workload("db", "10.0.0.2", inbound(5432, 0, "tcp")),
        service("east", "web", "241.0.0.1", 80, "http"),
        service("east", "next", "241.0.0.5", 80, "http"),
        service("west", "web", "241.0.0.7", 80, "http"),
        service("west", "next", "241.0.0.8", 80, "http"),
        service("east", "db", "241.0.0.2", 5432, "tcp"),
        multi_zone("web", "243.0.0.1", 80, "http"),
        zone_address("west", "192.0.2.1", 10001),
        zone_proxy("egress", Type::ZoneEgress, "10.0.0.4", 10002),
        external("shop", "242.0.0.1", &external_spec("shop.example.com", "http")),
        client("caller", &[("127.0.0.1", 10080, "web", 80), ("127.0.0.1", 10032, "db", 5432)]),
    ]
}

fn to(service: &str) -> Value {
    json!({"kind": "MeshService", "labels": {"kuma.io/display-name": service}})
}

fn backend(kind: &str, service: &str, port: u32, weight: u32) -> Value {
    json!({"kind": kind, "labels": {"kuma.io/display-name": service}, "port": port, "weight": weight})
}

fn http_route(name: &str, rules: &Value) -> Resource {
    policy(Kind::MESH_HTTP_ROUTE, name, &json!({"to": [{"targetRef": to("web"), "rules": rules}]}))
}

fn tcp_route(service: &str, backends: &Value) -> Resource {
    let rules = json!([{"default": {"backendRefs": backends}}]);
    policy(Kind::MESH_TCP_ROUTE, "tcp", &json!({"to": [{"targetRef": to(service), "rules": rules}]}))
}

fn prefix(path: &str) -> Value {
    json!([{"path": {"type": "PathPrefix", "value": path}}])
}

/// The configuration of the caller under policies. Whatever its listeners name is there.
fn with(policies: impl IntoIterator<Item = Resource>) -> Value {
    let config = shown(&snapshot(base().into_iter().chain(policies)), "caller", true);
    let clusters = names(&config, "Cluster");
    for listener in names(&config, "Listener") {
        let mut named = Vec::new();
        clusters_of(resource(&config, "Listener", listener), &mut named);
        assert!(named.iter().all(|name| clusters.contains(name)), "{listener}: {named:?} of {clusters:?}");
    }
    config
}

/// Clusters that a part of a listener names.
fn clusters_of<'a>(part: &'a Value, found: &mut Vec<&'a str>) {
    match part {
        Value::Array(items) => items.iter().for_each(|item| clusters_of(item, found)),
        Value::Object(fields) => {
            found.extend(fields.get("cluster").and_then(Value::as_str));
            let weighted =
                fields.get("weightedClusters").and_then(|weighted| weighted["clusters"].as_array());
            found.extend(weighted.into_iter().flatten().filter_map(|cluster| cluster["name"].as_str()));
            fields.values().for_each(|field| clusters_of(field, found));
        }
        _ => {}
    }
}

fn filter(config: &Value, listener: &str) -> Value {
    resource(config, "Listener", listener)["filterChains"][0]["filters"][0]["typedConfig"].clone()
}

fn routes(config: &Value) -> Vec<Value> {
    let hosts = &filter(config, WEB)["routeConfig"]["virtualHosts"];
    hosts[0]["routes"].as_array().cloned().unwrap_or_default()
}

#[test]
fn a_rule_is_a_route_with_its_matches_and_changes() {
    let rules = json!([{
        "matches": [{
            "path": {"type": "RegularExpression", "value": "/v[0-9]"},
            "method": "GET",
            "headers": [
                {"name": "exact", "value": "a"},
                {"type": "Prefix", "name": "begin", "value": "b"},
                {"type": "Present", "name": "there"},
                {"type": "Absent", "name": "gone"},
            ],
            "queryParams": [{"type": "RegularExpression", "name": "q", "value": ".+"}],
        }],
        "default": {"filters": [
            {"type": "RequestHeaderModifier", "requestHeaderModifier":
                {"set": [{"name": "a", "value": "1"}], "add": [{"name": "b", "value": "2"}], "remove": ["c"]}},
            {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"remove": ["d"]}},
            {"type": "URLRewrite", "urlRewrite":
                {"hostname": "other", "path": {"type": "ReplaceFullPath", "replaceFullPath": "/x"}}},
            {"type": "RequestMirror", "requestMirror":
                {"percentage": "0.5", "backendRef": backend("MeshService", "next", 80, 1)}},
        ]},
    }]);
    let config = with([http_route("route", &rules)]);
    let found = routes(&config);
    let expected = json!({
        "name": "kri_mhttpr_default_east__route_rule_0",
        "match": {
            "safeRegex": {"regex": "/v[0-9]"},
            "headers": [
                {"name": ":method", "stringMatch": {"exact": "GET"}},
                {"name": "exact", "stringMatch": {"exact": "a"}},
                {"name": "begin", "stringMatch": {"prefix": "b"}},
                {"name": "there", "presentMatch": true},
                {"name": "gone", "presentMatch": false},
            ],
            "queryParameters": [{"name": "q", "stringMatch": {"safeRegex": {"regex": ".+"}}}],
        },
        "route": {
            "cluster": WEB,
            "timeout": "15s",
            "idleTimeout": "1800s",
            "hostRewriteLiteral": "other",
            "regexRewrite": {"pattern": {"regex": ".*"}, "substitution": "/x"},
            "requestMirrorPolicies": [{
                "cluster": "kri_msvc_default_east__next_80",
                "runtimeFraction": {"defaultValue": {"numerator": 50, "denominator": "TEN_THOUSAND"}},
            }],
        },
        "requestHeadersToAdd": [
            {"header": {"key": "a", "value": "1"}, "appendAction": "OVERWRITE_IF_EXISTS_OR_ADD"},
            {"header": {"key": "b", "value": "2"}},
        ],
        "requestHeadersToRemove": ["c"],
        "responseHeadersToRemove": ["d"],
    });
    assert_eq!(found[0], expected);
    assert_eq!(found[1]["name"], CATCH_ALL);
    assert_eq!(found.len(), 2);
    assert!(names(&config, "Cluster").contains(&"kri_msvc_default_east__next_80"), "copies need a cluster");
}

#[test]
fn a_prefix_is_replaced_whether_or_not_something_follows() {
    let rewrite = |from: &str, into: &str| {
        let path = json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": into});
        let filters = json!([{"type": "URLRewrite", "urlRewrite": {"path": path}}]);
        let rules = json!([{"matches": prefix(from), "default": {"filters": filters}}]);
        let found = routes(&with([http_route("route", &rules)]));
        let rewrites = found.iter().filter_map(|route| Some(route["route"].get("prefixRewrite")?.clone()));
        rewrites.collect::<Vec<_>>()
    };
    assert_eq!(rewrite("/a/", "/b"), ["/b", "/b/"]);
    assert_eq!(rewrite("/a", "/b/"), ["/b", "/b/"]);
    assert_eq!(rewrite("/a", "/"), ["/", "/"]);
    assert_eq!(rewrite("/", "/b"), ["/b/"]);
}

#[test]
fn a_redirection_answers_itself() {
    let redirect = json!({"scheme": "https", "hostname": "other", "port": 8443, "statusCode": 307,
        "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/b"}});
    let filters = json!([{"type": "RequestRedirect", "requestRedirect": redirect}]);
    let rules = json!([{"matches": prefix("/a"), "default": {"filters": filters}}]);
    let found = routes(&with([http_route("route", &rules)]));
    let answer = |path: &str| {
        json!({"schemeRedirect": "https", "hostRedirect": "other", "portRedirect": 8443,
            "prefixRewrite": path, "responseCode": "TEMPORARY_REDIRECT"})
    };
    assert_eq!(found[0]["redirect"], answer("/b"));
    assert_eq!(found[1]["redirect"], answer("/b/"));
}

#[test]
fn shares_go_to_services_of_every_kind_and_zone() {
    let mut west = backend("MeshService", "next", 80, 3);
    west["labels"]["kuma.io/zone"] = json!("west");
    let backends = json!([
        backend("MeshService", "next", 80, 7),
        west,
        backend("MeshMultiZoneService", "web", 80, 2),
        backend("MeshExternalService", "shop", 443, 1),
        backend("MeshService", "web", 80, 0),
    ]);
    let rules = json!([{"matches": prefix("/"), "default": {"backendRefs": backends}}]);
    let config = with([http_route("route", &rules)]);
    let found = routes(&config);
    assert_eq!(found.len(), 1, "nothing is left for the service itself");
    assert_eq!(found[0]["route"]["autoHostRewrite"], true);
    let shares = [
        ("kri_msvc_default_east__next_80", 7),
        ("kri_msvc_default_west__next_80", 3),
        ("kri_mzsvc_default___web_80", 2),
        ("kri_extsvc_default_east__shop_443", 1),
    ];
    let expected: Vec<_> =
        shares.iter().map(|(name, weight)| json!({"name": name, "weight": weight})).collect();
    assert_eq!(found[0]["route"]["weightedClusters"], json!({"clusters": expected}));
    let clusters = names(&config, "Cluster");
    let endpoints = names(&config, "ClusterLoadAssignment");
    for (name, _) in shares {
        assert!(clusters.contains(&name) && endpoints.contains(&name), "{name}");
        let tls = &resource(&config, "Cluster", name)["transportSocket"]["typedConfig"];
        assert!(tls["sni"].is_string(), "{name} is called with the identity");
    }
    assert!(!clusters.contains(&WEB), "what gets no share is not called");
}

#[test]
fn the_share_of_a_backend_that_is_not_there_fails() {
    let split = json!([backend("MeshService", "next", 80, 3), backend("MeshService", "none", 80, 1)]);
    let lost = json!([backend("MeshService", "next", 81, 1)]);
    let rules = json!([
        {"matches": [{"path": {"type": "Exact", "value": "/some"}}], "default": {"backendRefs": split}},
        {"matches": [{"path": {"type": "Exact", "value": "/all"}}], "default": {"backendRefs": lost}},
    ]);
    let found = routes(&with([http_route("route", &rules)]));
    let share = &found[0]["match"]["runtimeFraction"]["defaultValue"];
    assert_eq!((&found[0]["match"]["path"], &share["numerator"]), (&json!("/some"), &json!(25)));
    assert_eq!(found[0]["directResponse"]["status"], 500);
    assert_eq!(found[1]["route"]["cluster"], "kri_msvc_default_east__next_80");
    assert_eq!(
        (&found[2]["match"]["path"], &found[2]["directResponse"]["status"]),
        (&json!("/all"), &json!(500))
    );
}

#[test]
fn rules_of_several_routes_are_one_list_and_equal_matches_one_rule() {
    let rule = |path: &str, header: &str| {
        let modifier = json!({"set": [{"name": "from", "value": header}]});
        let filters = json!([{"type": "RequestHeaderModifier", "requestHeaderModifier": modifier}]);
        json!({"matches": prefix(path), "default": {"filters": filters}})
    };
    let backends = json!([backend("MeshService", "next", 80, 1)]);
    let mut both = rule("/same", "b");
    both["default"]["backendRefs"] = backends;
    let config = with([
        http_route("a", &json!([rule("/longer/path", "a"), rule("/same", "a")])),
        http_route("b", &json!([both, rule("/longest/path", "b")])),
    ]);
    let shown: Vec<_> = routes(&config)
        .iter()
        .filter(|route| route["match"].get("prefix").is_some())
        .map(|route| {
            let field = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let header = field(&route["requestHeadersToAdd"][0]["header"]["value"]);
            (
                field(&route["match"]["prefix"]),
                field(&route["name"]),
                header,
                field(&route["route"]["cluster"]),
            )
        })
        .collect();
    let route = |path: &str, name: &str, header: &str, service: &str| {
        let name = if name == CATCH_ALL { name.into() } else { format!("kri_mhttpr_default_east__{name}") };
        (path.to_owned(), name, header.to_owned(), format!("kri_msvc_default_east__{service}_80"))
    };
    // The policy with the smaller name has the last word; what it does not say stays.
    let expected = [
        route("/longest/path/", "b_rule_1", "b", "web"),
        route("/longer/path/", "a_rule_0", "a", "web"),
        route("/same/", "a_rule_1", "a", "next"),
        route("/", CATCH_ALL, "", "web"),
    ];
    assert_eq!(shown, expected);
}

#[test]
fn connections_follow_their_routes() {
    let shares =
        |config: &Value, listener: &str| filter(config, listener)["weightedClusters"]["clusters"].clone();
    let backends = json!([backend("MeshService", "db", 5432, 9), backend("MeshService", "none", 5432, 1)]);
    let db = "kri_msvc_default_east__db_5432";
    let config = with([tcp_route("db", &backends)]);
    let expected = json!([{"name": db, "weight": 9}, {"name": "self_route_no_backend", "weight": 1}]);
    assert_eq!(shares(&config, db), expected);
    assert_eq!(resource(&config, "Cluster", "self_route_no_backend").get("loadAssignment"), None);
    let one = json!([backend("MeshService", "next", 80, 5)]);
    let config = with([tcp_route("web", &one)]);
    assert_eq!(filter(&config, WEB)["cluster"], "kri_msvc_default_east__next_80");
    let rules = json!([{"matches": prefix("/a"), "default": {}}]);
    let config = with([tcp_route("web", &one), http_route("route", &rules)]);
    assert_eq!(routes(&config).len(), 3, "requests follow the route of requests");
}

#[test]
fn policies_can_name_a_route() {
    let both = |kind: &str, of_service: &Value, of_route: &Value| {
        let route = json!({"kind": "MeshHTTPRoute", "labels": {"kuma.io/display-name": "route"}});
        let items = json!([
            {"targetRef": to("web"), "default": of_service},
            {"targetRef": route, "default": of_route},
        ]);
        policy(Kind::by_name(kind).expect(kind), "policy", &json!({"to": items}))
    };
    let rules = json!([{"matches": prefix("/a"), "default": {}}]);
    let config = with([
        http_route("route", &rules),
        http_route("silent", &json!([{"matches": prefix("/b"), "default": {}}])),
        both(
            "MeshTimeout",
            &json!({"connectionTimeout": "2s", "http": {"requestTimeout": "7s"}}),
            &json!({"http": {"requestTimeout": "500ms", "streamIdleTimeout": "1m"}}),
        ),
        both("MeshRetry", &json!({"http": {"numRetries": 1}}), &json!({"http": {"numRetries": 0}})),
    ]);
    let times: Vec<_> = routes(&config)
        .iter()
        .map(|route| {
            let action = &route["route"];
            let retries = action["retryPolicy"]["numRetries"].as_u64();
            (action["timeout"].to_string(), action["idleTimeout"].to_string(), retries)
        })
        .collect();
    let of_route = ("\"0.500s\"".to_owned(), "\"60s\"".to_owned(), None);
    let of_service = ("\"7s\"".to_owned(), "\"1800s\"".to_owned(), Some(1));
    let expected = [&of_route, &of_route, &of_service, &of_service, &of_service].map(Clone::clone);
    assert_eq!(times, expected);
    assert_eq!(resource(&config, "Cluster", WEB)["connectTimeout"], "2s");
}

#[test]
fn retries_are_as_the_policy_says() {
    let http = json!({
        "numRetries": 3,
        "perTryTimeout": "200ms",
        "backOff": {"baseInterval": "0s", "maxInterval": "1s"},
        "rateLimitedBackOff": {"resetHeaders": [{"name": "retry-after", "format": "UnixTimestamp"}]},
        "retryOn": ["5XX", "Retriable4xx", "503", "HttpMethodGet"],
        "retriableResponseHeaders": [{"name": "again", "type": "Present"}],
        "hostSelection": [
            {"predicate": "OmitPreviousHosts"},
            {"predicate": "OmitHostsWithTags", "tags": {"version": "v1"}},
            {"predicate": "OmitPreviousPriorities"},
        ],
        "hostSelectionMaxAttempts": 4,
    });
    let default = json!({"http": http, "tcp": {"maxConnectAttempt": 5}});
    let retry = json!({"to": [{"targetRef": {"kind": "Mesh"}, "default": default}]});
    let config = with([policy(Kind::MESH_RETRY, "retry", &retry)]);
    let expected = json!({
        "retryOn": "5xx,retriable-4xx,retriable-status-codes",
        "numRetries": 3,
        "perTryTimeout": "0.200s",
        "retryBackOff": {"baseInterval": "0.001s", "maxInterval": "1s"},
        "rateLimitedRetryBackOff": {"resetHeaders": [{"name": "retry-after", "format": "UNIX_TIMESTAMP"}]},
        "retriableStatusCodes": [503],
        "retriableHeaders": [{"name": "again", "presentMatch": true}],
        "retriableRequestHeaders": [{"name": ":method", "stringMatch": {"exact": "GET"}}],
        "hostSelectionRetryMaxAttempts": "4",
        "retryHostPredicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typedConfig": {
                    "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
                },
            },
            {
                "name": "envoy.retry_host_predicates.omit_host_metadata",
                "typedConfig": {
                    "@type":
                        "type.googleapis.com/envoy.extensions.retry.host.omit_host_metadata.v3.OmitHostMetadataConfig",
                    "metadataMatch": {"filterMetadata": {"envoy.lb": {"version": "v1"}}},
                },
            },
        ],
        "retryPriority": {
            "name": "envoy.retry_priorities.previous_priorities",
            "typedConfig": {
                "@type":
                    "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                "updateFrequency": 2,
            },
        },
    });
    assert_eq!(routes(&config)[0]["route"]["retryPolicy"], expected);
    assert_eq!(filter(&config, "kri_msvc_default_east__db_5432")["maxConnectAttempts"], 5);
}
