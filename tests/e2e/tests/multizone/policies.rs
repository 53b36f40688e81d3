//! Policies written at the global, and what a caller in one zone notices of them when it calls another.

use std::io::Read;
use std::sync::Arc;

use anyhow::{Context, ensure};
use e2e::http::{Request, send};
use e2e::topology::Answer;
use serde_json::{Value, json};

use crate::support::{Mesh, patience};

/// Calls in a row that are looked at where chance decides about each.
const CALLS: usize = 40;

/// The first name wins over the policies that every mesh begins with.
const NAME: &str = "a-policy";

/// A policy for whoever serves as `backend`.
pub(crate) fn inbound(kind: &str, conf: &Value) -> Value {
    let target = json!({"kind": "Dataplane", "labels": {"kuma.io/workload": "backend"}});
    json!({
        "type": kind, "mesh": "default", "name": NAME,
        "spec": {"targetRef": target, "rules": [{"default": conf}]},
    })
}

/// A policy for whoever calls anything.
pub(crate) fn outbound(kind: &str, conf: &Value) -> Value {
    let to = json!([{"targetRef": {"kind": "Mesh"}, "default": conf}]);
    json!({"type": kind, "mesh": "default", "name": NAME, "spec": {"targetRef": {"kind": "Mesh"}, "to": to}})
}

pub(crate) fn apply(mesh: &Mesh, policy: &Value) -> String {
    mesh.topology.global.api().apply(policy).unwrap_or_else(|error| panic!("{error:#}"))
}

/// The status of one call from east to west.
fn status(mesh: &Mesh) -> anyhow::Result<u16> {
    Ok(match mesh.request_west()? {
        Answer::Reached(_) => 200,
        Answer::Refused(status, _) => status,
    })
}

fn until_status(mesh: &Mesh, wanted: u16) {
    let seen = patience().until(&format!("status {wanted}"), || {
        let seen = status(mesh)?;
        ensure!(seen == wanted, "{seen}");
        Ok(())
    });
    seen.unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn faults_and_limits_hold_in_the_other_zone_and_are_lifted() {
    let mesh = Mesh::start();
    mesh.until_west_answers();
    let abort = json!({"http": [{"abort": {"httpStatus": 418, "percentage": 100}}]});
    let fault = apply(&mesh, &inbound("MeshFaultInjection", &abort));
    until_status(&mesh, 418);
    mesh.topology.global.api().delete(&fault).unwrap();
    mesh.until_west_answers();

    let rate = json!({"requestRate": {"num": 1, "interval": "1h"}, "onRateLimit": {"status": 423}});
    let limit = apply(&mesh, &inbound("MeshRateLimit", &json!({"local": {"http": rate}})));
    until_status(&mesh, 423);
    assert_eq!(status(&mesh).unwrap(), 423);
    mesh.topology.global.api().delete(&limit).unwrap();
    mesh.until_west_answers();
}

#[test]
fn a_caller_gives_up_after_its_timeout() {
    let mesh = Mesh::start();
    mesh.until_west_answers();
    let delay = json!({"http": [{"delay": {"value": "20s", "percentage": 100}}]});
    apply(&mesh, &outbound("MeshTimeout", &json!({"http": {"requestTimeout": "100ms"}})));
    apply(&mesh, &inbound("MeshFaultInjection", &delay));
    until_status(&mesh, 504);
}

#[test]
fn calls_that_fail_are_made_again() {
    let mesh = Mesh::start();
    mesh.until_west_answers();
    let abort = json!({"http": [{"abort": {"httpStatus": 500, "percentage": 40}}]});
    apply(&mesh, &inbound("MeshFaultInjection", &abort));
    until_status(&mesh, 500);
    let retry = json!({"http": {"numRetries": 20, "retryOn": ["5xx"], "backOff": {"baseInterval": "1ms", "maxInterval": "2ms"}}});
    apply(&mesh, &outbound("MeshRetry", &retry));
    // Twenty attempts fail once in ten million calls; one attempt fails in two of five.
    let all_served = patience().until("every call to be served", || {
        for call in 0..CALLS {
            let seen = status(&mesh)?;
            ensure!(seen == 200, "call {call}: {seen}");
        }
        Ok(())
    });
    all_served.unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn endpoints_that_fail_get_no_traffic() {
    let mesh = Mesh::start();
    mesh.until_west_answers();
    let breaker = json!({"outlierDetection": {
        "interval": "1s", "baseEjectionTime": "1h", "maxEjectionPercent": 100, "healthyPanicThreshold": 0,
        "detectors": {"totalFailures": {"consecutive": 2}},
    }});
    let policy = apply(&mesh, &outbound("MeshCircuitBreaker", &breaker));
    let abort = json!({"http": [{"abort": {"httpStatus": 500, "percentage": 100}}]});
    let fault = apply(&mesh, &inbound("MeshFaultInjection", &abort));
    // Two failures, and the only endpoint is out: the caller answers by itself.
    until_status(&mesh, 503);
    mesh.topology.global.api().delete(&fault).unwrap();
    assert_eq!(status(&mesh).unwrap(), 503, "out for an hour, well or not");
    mesh.topology.global.api().delete(&policy).unwrap();

    let check = json!({
        "interval": "1s", "timeout": "1s", "unhealthyThreshold": 1, "healthyThreshold": 1,
        "failTrafficOnPanic": true, "http": {"path": "/", "expectedStatuses": [204]},
    });
    mesh.until_west_answers();
    let policy = apply(&mesh, &outbound("MeshHealthCheck", &check));
    until_status(&mesh, 503);
    mesh.topology.global.api().delete(&policy).unwrap();
    mesh.until_west_answers();
}

#[test]
fn who_speaks_without_tls_is_heard_only_where_that_is_permitted() {
    let mesh = Mesh::start();
    mesh.until_west_answers();
    let plain = || e2e::topology::request(mesh.backends["west"], "backend");
    assert!(plain().is_err(), "strict is the default");
    let mode = |mode: &str| {
        let rules = json!([{"default": {"mode": mode}}]);
        json!({"type": "MeshTLS", "mesh": "default", "name": NAME, "spec": {"targetRef": {"kind": "Mesh"}, "rules": rules}})
    };
    apply(&mesh, &mode("Permissive"));
    // Whoever has no identity is still not permitted: heard, and refused by name.
    let heard = patience().until("an answer in plain text", || plain().map(|answer| format!("{answer:?}")));
    heard.unwrap_or_else(|error| panic!("{error:#}"));
    mesh.until_west_answers();
    apply(&mesh, &mode("Strict"));
    let deaf = patience().until("silence in plain text", || {
        ensure!(plain().is_err(), "it is heard");
        Ok(())
    });
    deaf.unwrap_or_else(|error| panic!("{error:#}"));
    mesh.until_west_answers();
}

/// A counter of a backend's Envoy in west, summed over all names that end so.
fn counted(mesh: &Mesh, ending: &str) -> anyhow::Result<u64> {
    let port = mesh.topology.zones["west"].plane.port("api");
    let stats = send(port, &Request::get("/meshes/default/dataplanes/backend/stats"))?.text();
    let values =
        stats.lines().filter_map(|line| line.split_once(": ")).filter(|(name, _)| name.ends_with(ending));
    Ok(values.filter_map(|(_, value)| value.parse::<u64>().ok()).sum())
}

#[test]
fn a_denial_can_be_tried_before_it_counts() {
    let mesh = Mesh::start();
    mesh.until_west_answers();
    assert_eq!(counted(&mesh, "shadow_denied").unwrap(), 0);
    let frontend = json!([{"spiffeID": {"type": "Prefix", "value": "spiffe://default.east.mesh.local/"}}]);
    let rules = json!([{"default": {"allowWithShadowDeny": frontend}}]);
    let target = json!({"kind": "Dataplane", "labels": {"kuma.io/workload": "backend"}});
    apply(
        &mesh,
        &json!({"type": "MeshTrafficPermission", "mesh": "default", "name": NAME,
        "spec": {"targetRef": target, "rules": rules}}),
    );
    let counted = patience().until("a request that a denial would have hit", || {
        ensure!(status(&mesh)? == 200, "it is refused");
        ensure!(counted(&mesh, "shadow_denied")? > 0, "none is counted");
        Ok(())
    });
    counted.unwrap_or_else(|error| panic!("{error:#}"));
}

/// How a proxy answers a client that speaks TLS 1.2 at most: the kind of its first record and, of an alert, its reason.
fn answer_to_tls12(port: u16) -> anyhow::Result<(u8, u8)> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = [&rustls::version::TLS12];
    let config = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(&versions)?;
    let config = config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let name = "backend".try_into().context("a name")?;
    let mut client = rustls::ClientConnection::new(Arc::new(config), name)?;
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
    client.write_tls(&mut stream)?;
    let mut record = [0; 7];
    stream.read_exact(&mut record)?;
    Ok((record[0], record[6]))
}

#[test]
fn a_version_of_tls_that_is_too_old_is_refused() {
    /// A handshake goes on.
    const HANDSHAKE: u8 = 22;
    /// It ends, and the version is why.
    const ALERT: (u8, u8) = (21, 70);
    let mesh = Mesh::start();
    mesh.until_west_answers();
    let port = mesh.backends["west"];
    assert_eq!(answer_to_tls12(port).unwrap().0, HANDSHAKE);
    let rules = json!([{"default": {"tlsVersion": {"min": "TLS13", "max": "TLS13"}}}]);
    apply(
        &mesh,
        &json!({"type": "MeshTLS", "mesh": "default", "name": NAME,
        "spec": {"targetRef": {"kind": "Mesh"}, "rules": rules}}),
    );
    let refused = patience().until("TLS 1.2 to be refused", || {
        let answer = answer_to_tls12(port)?;
        ensure!(answer == ALERT, "{answer:?}");
        Ok(())
    });
    refused.unwrap_or_else(|error| panic!("{error:#}"));
    mesh.until_west_answers();
}
