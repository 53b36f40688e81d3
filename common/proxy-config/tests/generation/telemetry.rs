//! Logs, traces and metrics: what policies for them make of proxies, and that Envoy accepts it.

use std::path::Path;
use std::sync::Arc;

use model::{Key, Kind, Resource};
use proxy_config::documents::{MetricDocument, OtelDocument};
use proxy_config::{Feature, MeshView, Proxy, ProxyConfig, ResourceType, Settings, generate};
use serde_json::{Value, json};

use crate::envoy::{Keys, bootstrap, keys, resources, validate};
use crate::mesh::{MESH, ZONE, metadata, names, policy, resource, snapshot};

const SOCKETS: [Feature; 2] = [Feature::TcpAccessLogViaNamedPipe, Feature::OtelViaProgram];

fn config(keys: &Keys, added: &[Resource], name: &str, workdir: &Path, features: &[Feature]) -> ProxyConfig {
    let snapshot = snapshot(resources(keys).into_iter().chain(added.iter().cloned()));
    let view = MeshView::new(&snapshot, MESH, ZONE);
    let dataplane = snapshot.resource(&Key::new(Kind::DATAPLANE, MESH, name)).expect("the proxy is there");
    let mut metadata = metadata(&workdir.to_string_lossy());
    metadata.features.extend(features);
    let proxy = Proxy::new(Arc::clone(dataplane), metadata).with_admin_tls(Arc::new(keys.admin.clone()));
    generate(&view, &proxy, Some(&keys.identity), &Settings::default())
}

fn collector(spec: &Value) -> Resource {
    policy(Kind::MESH_OPEN_TELEMETRY_BACKEND, "collector", spec)
}

fn to_collector() -> Value {
    json!({"kind": "MeshOpenTelemetryBackend", "labels": {"kuma.io/display-name": "collector"}})
}

fn otel_log() -> Value {
    json!({"type": "OpenTelemetry", "openTelemetry": {
        "backendRef": to_collector(),
        "attributes": [{"key": "kuma.from", "value": "%KUMA_SOURCE_SERVICE%"}],
        "body": {"kvlistValue": {"values": [{"key": "mesh", "value": {"stringValue": "%KUMA_MESH%"}}]}},
    }})
}

fn every_log() -> Value {
    json!([
        {"type": "File", "file": {"path": "/dev/stdout"}},
        {"type": "Tcp", "tcp": {"address": "logs:5000", "format":
            {"type": "Json", "json": [{"key": "start", "value": "%START_TIME%"}], "omitEmptyValues": true}}},
        otel_log(),
    ])
}

/// All access logs in a shown configuration of a listener.
fn logs(config: &Value, listener: &str, chain: usize) -> Vec<Value> {
    let filters = &resource(config, "Listener", listener)["filterChains"][chain]["filters"];
    let filters = filters.as_array().expect("filters").iter();
    filters.flat_map(|filter| filter["typedConfig"]["accessLog"].as_array().cloned()).flatten().collect()
}

#[test]
fn every_backend_gets_its_logs() {
    let (keys, workdir) = (keys(), Path::new("/tmp"));
    let logs_to = json!({"to": [{"targetRef": {"kind": "Mesh"}, "default": {"backends": every_log()}}]});
    let added = [policy(Kind::MESH_ACCESS_LOG, "logs", &logs_to), collector(&json!({}))];
    let shown = config(&keys, &added, "web", workdir, &SOCKETS).to_json();
    let found = logs(&shown, "kri_msvc_default_east__db_5432", 0);
    let names: Vec<_> = found.iter().map(|log| log["name"].as_str().expect("a name")).collect();
    let otel = "envoy.access_loggers.open_telemetry";
    assert_eq!(names, ["envoy.access_loggers.file", "envoy.access_loggers.file", otel]);
    let text = &found[0]["typedConfig"]["logFormat"]["textFormatSource"]["inlineString"];
    let wanted = "[%START_TIME%] %RESPONSE_FLAGS% default 10.0.0.1(web)->%UPSTREAM_HOST%(db) took %DURATION%ms, sent %BYTES_SENT% bytes, received: %BYTES_RECEIVED% bytes\n";
    assert_eq!(text, wanted);
    assert_eq!(
        found[1]["typedConfig"]["logFormat"],
        json!({"omitEmptyValues": true, "jsonFormat":
            {"address": "logs:5000", "message": {"start": "%START_TIME%"}}})
    );
    assert_eq!(found[1]["typedConfig"]["path"], "/tmp/kuma-al-web-default.sock");
    let config = &found[2]["typedConfig"];
    assert_eq!(config["logName"], "MeshAccessLog");
    assert_eq!(config["attributes"]["values"][0]["value"]["stringValue"], "web");
    assert_eq!(config["body"]["kvlistValue"]["values"][0]["value"]["stringValue"], "default");
    let resource_attributes = &config["resourceAttributes"]["values"];
    assert_eq!(resource_attributes[2]["value"]["stringValue"], "kri_wl_default_east__web_");
    let cluster = resource(&shown, "Cluster", "system_meshaccesslog_otel_collector");
    let address = &cluster["loadAssignment"]["endpoints"][0]["lbEndpoints"][0]["endpoint"]["address"];
    assert_eq!(address["pipe"]["path"], "/tmp/kuma-otel-collector.sock");
    // What is no destination of the mesh is logged too, what comes in is not.
    assert_eq!(logs(&shown, "self_transparentproxy_passthrough_outbound_ipv4", 0).len(), 3);
    assert!(logs(&shown, "self_transparentproxy_passthrough_inbound_ipv4", 0).is_empty());
    assert!(logs(&shown, "self_inbound_dp_80", 0).is_empty());
}

#[test]
fn every_rule_that_fits_writes_a_connection_down() {
    let (keys, workdir) = (keys(), Path::new("/tmp"));
    let file = |path: &str| json!({"backends": [{"type": "File", "file": {"path": path}}]});
    let rules = json!({"rules": [
        {"default": file("/all")},
        {"default": file("/peer"), "matches": [{
            "spiffeID": {"type": "Prefix", "value": "spiffe://d/"}, "sni": {"type": "Exact", "value": "s"}}]},
    ]});
    let added = [policy(Kind::MESH_ACCESS_LOG, "logs", &rules)];
    let shown = config(&keys, &added, "web", workdir, &[]).to_json();
    let found = logs(&shown, "self_inbound_dp_80", 0);
    let expression = r#"connection.uri_san_peer_certificate.startsWith("spiffe://d/") && connection.requested_server_name == "s""#;
    assert_eq!(found[0]["filter"]["extensionFilter"]["typedConfig"]["expression"], expression);
    assert_eq!(
        (&found[0]["typedConfig"]["path"], &found[1]["typedConfig"]["path"]),
        (&json!("/peer"), &json!("/all"))
    );
    assert!(found[1]["filter"].is_null());
    assert!(logs(&shown, "kri_msvc_default_east__db_5432", 0).is_empty());
}

#[test]
fn the_program_beside_envoy_is_told_of_metrics_and_collectors() {
    let (keys, workdir) = (keys(), Path::new("/tmp"));
    let conf = json!({"default": {
        "sidecar": {"profiles": {"appendProfiles": [{"name": "Basic"}]}},
        "applications": [{"port": 8080}],
        "backends": [
            {"type": "Prometheus", "prometheus": {"clientId": "main", "path": "/m"}},
            {"type": "OpenTelemetry", "openTelemetry": {"backendRef": to_collector(), "refreshInterval": "30s"}},
        ],
    }});
    let trace = json!({"default": {"backends": [
        {"type": "OpenTelemetry", "openTelemetry": {"backendRef": to_collector()}},
    ]}});
    let backend = json!({
        "endpoint": {"address": "otel.example", "port": 4318, "path": "/x/"}, "protocol": "http",
        "env": {"mode": "Required"},
    });
    let added = [
        policy(Kind::MESH_METRIC, "metrics", &conf),
        policy(Kind::MESH_TRACE, "traces", &trace),
        collector(&backend),
    ];
    let body = |shown: &Value, path: &str| {
        let listener = resource(shown, "Listener", "system_dynamicconfig");
        let host =
            &listener["filterChains"][0]["filters"][0]["typedConfig"]["routeConfig"]["virtualHosts"][0];
        let routes = host["routes"].as_array().expect("routes").iter();
        let bodies =
            routes.filter(|route| route["match"]["path"] == path && route["directResponse"]["status"] == 200);
        let body = bodies.map(|route| route["directResponse"]["body"]["inlineString"].clone()).next();
        body.and_then(|body| body.as_str().map(str::to_owned))
    };
    let shown = config(&keys, &added, "web", workdir, &SOCKETS).to_json();
    let metrics: MetricDocument =
        serde_json::from_str(&body(&shown, "/meshmetric").expect("a document")).expect("reads");
    let metrics = metrics.observability.metrics;
    let backends: Vec<_> =
        metrics.backends.iter().flatten().map(|one| (one.r#type.as_str(), one.name.as_deref())).collect();
    assert_eq!(backends, [("Prometheus", Some("main"))]);
    assert_eq!(metrics.extra_labels["kuma.proxy_role"], "sidecar");
    assert!(names(&shown, "Listener").contains(&"system_meshmetric_prometheus_main"));
    let otel: OtelDocument =
        serde_json::from_str(&body(&shown, "/otel").expect("a document")).expect("reads");
    let [one] = otel.backends.as_slice() else { panic!("one collector") };
    assert_eq!((one.endpoint.as_str(), one.path.as_str(), one.use_http), ("otel.example:4318", "/x", true));
    let signal = one.metrics.as_ref().expect("metrics");
    assert_eq!(
        (signal.enabled, signal.missing_fields.as_slice()),
        (false, ["endpoint".to_owned()].as_slice())
    );
    assert_eq!(signal.refresh_interval.map(|interval| interval.to_string()), Some("30s".into()));
    // The environment does not say where the collector is: there is nothing to trace for.
    assert!(!names(&shown, "Cluster").contains(&"system_meshtrace_otel_collector"));

    // An older program gets a socket of Envoy, and Envoy calls the collector.
    let shown = config(&keys, &added, "web", workdir, &[]).to_json();
    assert_eq!(body(&shown, "/otel"), None);
    let metrics: MetricDocument =
        serde_json::from_str(&body(&shown, "/meshmetric").expect("a document")).expect("reads");
    let push =
        metrics.observability.metrics.backends.into_iter().flatten().find_map(|one| one.open_telemetry);
    assert_eq!(push.expect("a push").endpoint, "/tmp/kuma-otel-collector.sock");
    let tracing = &resource(&shown, "Listener", "self_inbound_dp_80")["filterChains"][0]["filters"];
    let provider = tracing
        .as_array()
        .expect("filters")
        .iter()
        .find_map(|filter| filter["typedConfig"]["tracing"]["provider"].as_object().cloned());
    let uri = &provider.expect("a tracer")["typedConfig"]["httpService"]["httpUri"]["uri"];
    assert_eq!(uri, "http://otel.example:4318/x/v1/traces");
}

#[test]
fn zone_proxies_trace_and_log_what_passes() {
    let (keys, workdir) = (keys(), Path::new("/tmp"));
    let trace = json!({"default": {
        "backends": [{"type": "Datadog", "datadog": {"url": "http://10.1.1.1:8126", "splitService": true}}],
        "sampling": {"overall": "0.5", "client": 10},
        "tags": [{"name": "team", "literal": "core"}, {"name": "agent", "header": {"name": "user-agent"}}],
    }});
    let rules = json!({"rules": [{"default": {"backends": [{"type": "File", "file": {"path": "/all"}}]}}]});
    let added = [policy(Kind::MESH_TRACE, "traces", &trace), policy(Kind::MESH_ACCESS_LOG, "logs", &rules)];
    let shown = config(&keys, &added, "egress", workdir, &[]).to_json();
    let chains =
        resource(&shown, "Listener", "self_zoneegress_dp_main")["filterChains"].as_array().expect("chains");
    let of = |name: &str| {
        let chain =
            chains.iter().find(|chain| chain["name"].as_str().is_some_and(|found| found.contains(name)));
        let filters = chain.expect("a chain")["filters"].as_array().expect("filters");
        filters.last().expect("a filter")["typedConfig"].clone()
    };
    let tracing = &of("shop")["tracing"];
    assert_eq!(tracing["provider"]["typedConfig"]["serviceName"], "egress_INBOUND");
    assert_eq!(
        (&tracing["overallSampling"]["value"], &tracing["spawnUpstreamSpan"]),
        (&json!(0.5), &json!(false))
    );
    let tags: Vec<_> =
        tracing["customTags"].as_array().expect("tags").iter().map(|tag| &tag["tag"]).collect();
    assert_eq!(tags, ["team", "agent", "kuma.mesh", "kuma.zone", "kuma.workload"]);
    let bytes = of("bytes");
    assert_eq!(bytes["accessLogOptions"]["flushAccessLogOnConnected"], true);
    let text = bytes["accessLog"][0]["typedConfig"]["logFormat"]["textFormatSource"]["inlineString"].clone();
    assert!(text.as_str().expect("text").contains("->%UPSTREAM_HOST%(bytes) took"), "{text}");
    let shown = config(&keys, &added, "ingress", workdir, &[]).to_json();
    assert!(!logs(&shown, "self_zoneingress_dp_main", 0).is_empty());
}

#[test]
fn envoy_accepts_logs_traces_and_metrics() {
    let keys = keys();
    let peers = json!([{"spiffeID": {"type": "Exact", "value": "spiffe://d/\"a\\"}}]);
    let route = json!({"to": [{
        "targetRef": {"kind": "MeshService", "labels": {"kuma.io/display-name": "web"}},
        "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/a"}}], "default": {}}],
    }]});
    let logs = json!({"to": [
        {"targetRef": {"kind": "Mesh"}, "default": {"backends": every_log()}},
        {"targetRef": {"kind": "MeshHTTPRoute", "labels": {"kuma.io/display-name": "route"}},
            "default": {"backends": every_log()}},
    ]});
    let inbound_logs = json!({"rules": [
        {"default": {"backends": every_log()}}, {"matches": peers, "default": {"backends": every_log()}},
    ]});
    let metrics = json!({"default": {"backends": [
        {"type": "Prometheus", "prometheus": {"tls": {"mode": "ActiveMTLSBackend"}}},
        {"type": "OpenTelemetry", "openTelemetry": {"backendRef": to_collector()}},
    ]}});
    let traces = [
        json!([{"type": "Zipkin", "zipkin": {"url": "https://zipkin.example/api/v2/spans", "apiVersion": "httpProto"}}]),
        json!([{"type": "Datadog", "datadog": {"url": "http://[::1]:8126", "splitService": true}}]),
        json!([{"type": "OpenTelemetry", "openTelemetry": {"backendRef": to_collector()}}]),
    ];
    let backends = [json!({}), json!({"endpoint": {"address": "otel.example"}, "protocol": "http"})];
    let directory = tempfile::tempdir().expect("a directory");
    for (at, backend) in traces.iter().enumerate() {
        let trace =
            json!({"default": {"backends": backend, "tags": [{"name": "a", "header": {"name": "b"}}]}});
        let added = [
            policy(Kind::MESH_HTTP_ROUTE, "route", &route),
            policy(Kind::MESH_ACCESS_LOG, "logs", &logs),
            policy(Kind::MESH_ACCESS_LOG, "inbound-logs", &inbound_logs),
            policy(Kind::MESH_METRIC, "metrics", &metrics),
            policy(Kind::MESH_TRACE, "traces", &trace),
            collector(&backends[at % 2]),
        ];
        let features: &[Feature] = if at == 0 { &SOCKETS } else { &[] };
        for name in ["web", "rpc", "db", "ingress", "egress"] {
            let config = config(&keys, &added, name, directory.path(), features);
            assert!(!config.of(ResourceType::Listener).is_empty(), "{name} listens");
            assert_eq!(validate(&bootstrap(&config), directory.path()), Ok(()), "{name} {backend}");
        }
    }
}
