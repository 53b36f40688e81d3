//! What proxies of two zones tell of one call.

use std::path::Path;

use anyhow::{Context, ensure};
use e2e::collector::Collector;
use e2e::http::{Request, send};
use e2e::ports;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};

use crate::otlp::Otlp;
use crate::policies::{apply, inbound, outbound};
use crate::support::{Mesh, patience};

#[test]
fn a_call_is_logged_where_it_is_made_and_where_it_is_served() {
    let mesh = Mesh::start();
    mesh.until_west_answers();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let collector = Collector::of_bytes().unwrap();
    let line = json!({"type": "Plain", "plain": "made %REQ(:METHOD)% %RESPONSE_CODE%"});
    let to_file = json!({"backends": [{"type": "File", "file": {"path": file, "format": line}}]});
    let line = json!({"type": "Json", "json": [
        {"key": "served", "value": "%RESPONSE_CODE%"}, {"key": "peer", "value": "%DOWNSTREAM_PEER_URI_SAN%"}]});
    let to_port = json!({"backends": [
        {"type": "Tcp", "tcp": {"address": collector.address().to_string(), "format": line}}]});
    let mut policy = outbound("MeshAccessLog", &to_file);
    policy["name"] = json!("caller-logs");
    apply(&mesh, &policy);
    apply(&mesh, &inbound("MeshAccessLog", &to_port));
    let seen = patience().until("both logs", || {
        mesh.request_west()?;
        let made = std::fs::read_to_string(&file).context("the caller's log")?;
        ensure!(made.lines().any(|line| line == "made GET 200"), "{made:?}");
        let served = collector.text();
        ensure!(served.contains("\"served\":200") || served.contains("\"served\":\"200\""), "{served:?}");
        ensure!(served.contains("spiffe://"), "the caller is known by its identity: {served:?}");
        Ok(())
    });
    seen.unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn spans_of_both_zones_are_one_trace() {
    let mesh = Mesh::start();
    mesh.until_west_answers();
    let collector = Collector::of_requests().unwrap();
    let url = format!("http://{}/api/v2/spans", collector.address());
    let conf =
        json!({"backends": [{"type": "Zipkin", "zipkin": {"url": url}}], "sampling": {"overall": 100}});
    apply(
        &mesh,
        &json!({"type": "MeshTrace", "mesh": "default", "name": "a-policy",
        "spec": {"targetRef": {"kind": "Mesh"}, "default": conf}}),
    );
    let joined = patience().until("a trace over both zones", || {
        mesh.request_west()?;
        let spans = spans(&collector.text());
        let of = |kind: &str| spans.iter().filter(|span| span["kind"] == *kind).collect::<Vec<_>>();
        let is_joined = |made: &&Value| {
            of("SERVER").iter().any(|served| {
                served["traceId"] == made["traceId"] && served["localEndpoint"] != made["localEndpoint"]
            })
        };
        ensure!(of("CLIENT").iter().any(is_joined), "{} spans, none joined: {spans:?}", spans.len());
        Ok(())
    });
    joined.unwrap_or_else(|error| panic!("{error:#}"));
}

/// The spans in the bodies of requests, each a JSON list.
fn spans(text: &str) -> Vec<Value> {
    let bodies = text.match_indices("\r\n[").filter_map(|(at, _)| text.get(at..));
    let lists = bodies
        .filter_map(|body| serde_json::Deserializer::from_str(body).into_iter::<Vec<Value>>().next()?.ok());
    lists.flatten().collect()
}

/// A collector that the mesh knows as `collector`.
fn collector(mesh: &Mesh) -> Otlp {
    let otlp = Otlp::start(0).unwrap();
    let endpoint = json!({"address": "127.0.0.1", "port": otlp.address().port()});
    let backend = json!({"type": "MeshOpenTelemetryBackend", "mesh": "default", "name": "collector",
        "spec": {"endpoint": endpoint, "protocol": "grpc"}});
    apply(mesh, &backend);
    otlp
}

/// What policies send to it.
fn to_collector() -> Value {
    let reference =
        json!({"kind": "MeshOpenTelemetryBackend", "labels": {"kuma.io/display-name": "collector"}});
    json!({"type": "OpenTelemetry", "openTelemetry": {"backendRef": reference}})
}

#[test]
fn a_collector_gets_spans_and_records_of_both_zones() {
    let mesh = Mesh::start();
    mesh.until_west_answers();
    let otlp = collector(&mesh);
    let conf = json!({"backends": [to_collector()], "sampling": {"overall": 100}});
    let trace = json!({"type": "MeshTrace", "mesh": "default", "name": "a-policy",
        "spec": {"targetRef": {"kind": "Mesh"}, "default": conf}});
    apply(&mesh, &trace);
    apply(&mesh, &inbound("MeshAccessLog", &json!({"backends": [to_collector()]})));
    let told = patience().until("a trace over both zones and a record", || {
        mesh.request_west()?;
        let spans = otlp.spans();
        let of = |kind: SpanKind| spans.iter().filter(move |span| span.kind() == kind);
        let is_joined = of(SpanKind::Client).any(|made| {
            of(SpanKind::Server)
                .any(|served| served.trace_id == made.trace_id && served.parent_span_id == made.span_id)
        });
        ensure!(is_joined, "{} spans, none joined", spans.len());
        ensure!(!otlp.records().is_empty(), "no record");
        Ok(())
    });
    told.unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn metrics_are_scraped_and_sent() {
    let mesh = Mesh::start();
    mesh.until_west_answers();
    let otlp = collector(&mesh);
    let [port] = ports::free().unwrap();
    let mut pushed = to_collector();
    pushed["openTelemetry"]["refreshInterval"] = json!("1s");
    let scraped = json!({"type": "Prometheus", "prometheus": {"port": port, "path": "/metrics", "tls": {"mode": "Disabled"}}});
    let conf = json!({
        "sidecar": {"profiles": {"appendProfiles": [{"name": "Basic"}]}},
        "backends": [pushed, scraped],
    });
    let target = json!({"kind": "Dataplane", "labels": {"kuma.io/workload": "frontend"}});
    let policy = json!({"type": "MeshMetric", "mesh": "default", "name": "a-policy",
        "spec": {"targetRef": target, "default": conf}});
    let policy = apply(&mesh, &policy);
    let seen = patience().until("metrics of both ways", || {
        mesh.request_west()?;
        let text = send(port, &Request::get("/metrics"))?.text();
        let line = text.lines().find(|line| line.starts_with("envoy_cluster_upstream_rq_total{"));
        let line = line.context("no requests are counted")?;
        ensure!(line.contains("mesh=\"default\"") && line.contains("kuma_workload"), "{line}");
        ensure!(!text.contains("envoy_runtime_"), "more than the profile says");
        let sent = otlp.metrics();
        ensure!(
            sent.iter().any(|metric| metric.name == "envoy_cluster_upstream_rq_total"),
            "{} sent",
            sent.len()
        );
        Ok(())
    });
    seen.unwrap_or_else(|error| panic!("{error:#}"));
    mesh.topology.global.api().delete(&policy).unwrap();
    let ended = patience().until("the scrapes to end", || {
        ensure!(send(port, &Request::get("/metrics")).is_err(), "it is still served");
        Ok(())
    });
    ended.unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn calls_of_grpc_cross_zones() {
    let mut mesh = Mesh::start();
    let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/multizone/dataplanes");
    let [port, outbound] = ports::free().unwrap();
    let otlp = Otlp::start(0).unwrap();
    let vars = [("port", port.to_string()), ("servicePort", otlp.address().port().to_string())];
    mesh.topology.start_proxy_of("west", "collector", &templates.join("collector.yaml"), &vars).unwrap();
    let vars = [("outbound", outbound.to_string()), ("collectorPort", port.to_string())];
    mesh.topology.start_proxy_of("east", "reporter", &templates.join("reporter.yaml"), &vars).unwrap();
    let identity = "spiffe://default.east.mesh.local/workload/reporter";
    apply(
        &mesh,
        &json!({"type": "MeshTrafficPermission", "mesh": "default", "name": "reports", "spec": {
        "targetRef": {"kind": "Dataplane", "labels": {"kuma.io/workload": "collector"}},
        "rules": [{"default": {"allow": [{"spiffeID": {"type": "Exact", "value": identity}}]}}]}}),
    );
    let record = LogRecord { severity_text: "over zones".to_owned(), ..LogRecord::default() };
    let scope = ScopeLogs { log_records: vec![record], ..ScopeLogs::default() };
    let request = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs { scope_logs: vec![scope], ..ResourceLogs::default() }],
    };
    let sent = patience().until("a call of gRPC", || {
        let address = format!("http://127.0.0.1:{outbound}");
        otlp.block_on(async {
            LogsServiceClient::connect(address).await?.export(request.clone()).await.context("no answer")
        })?;
        Ok(())
    });
    sent.unwrap_or_else(|error| panic!("{error:#}"));
    assert!(otlp.records().iter().any(|record| record.severity_text == "over zones"));
}
