//! What proxies of two zones tell of one call.

use anyhow::{Context, ensure};
use e2e::collector::Collector;
use serde_json::{Value, json};

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
