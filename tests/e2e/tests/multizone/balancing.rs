//! Who of several zones takes a call.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use e2e::http::{Request, send};
use serde_json::{Value, json};

use crate::policies::apply;
use crate::support::{Mesh, patience};

/// Different callers, of whom some fall to each of two endpoints: all fall to one once in 30,000 runs.
const USERS: usize = 16;

/// A policy for calls to the service over all zones.
fn to_multizone(kind: &str, conf: &Value) -> Value {
    let target = json!({"kind": "MeshMultiZoneService", "labels": {"kuma.io/display-name": "backend"}});
    json!({"type": kind, "mesh": "default", "name": "a-policy", "spec": {
        "targetRef": {"kind": "Mesh"}, "to": [{"targetRef": target, "default": conf}]}})
}

/// The service that answers a call over all zones.
fn who(mesh: &Mesh, headers: &[(&str, &str)]) -> anyhow::Result<String> {
    let said = send(mesh.outbounds.multizone, &Request { headers, ..Request::get("/") })?.json()?;
    Ok(said["service"].as_str().context("no service")?.to_owned())
}

/// Waits until a service answers; says who else answered meanwhile.
fn until_answered_by(mesh: &Mesh, service: &str) -> BTreeSet<String> {
    let mut others = BTreeSet::new();
    let answered = patience().until(&format!("{service} to answer"), || {
        let seen = who(mesh, &[])?;
        if seen != service {
            others.insert(seen.clone());
        }
        ensure!(seen == service, "{seen} answers");
        Ok(())
    });
    answered.unwrap_or_else(|error| panic!("{error:#}"));
    others
}

#[test]
fn zones_take_over_in_the_order_of_the_policy_and_give_back() {
    let mut mesh = Mesh::start();
    mesh.topology.join("north").unwrap();
    mesh.topology.start_ingress("north").unwrap();
    mesh.topology.start_backend("north").unwrap();
    let failover = json!([{"to": {"type": "Only", "zones": ["north"]}}, {"to": {"type": "Any"}}]);
    let conf = json!({"localityAwareness": {"crossZone": {"failover": failover}}});
    apply(&mesh, &to_multizone("MeshLoadBalancingStrategy", &conf));
    let check =
        json!({"interval": "1s", "timeout": "1s", "unhealthyThreshold": 1, "healthyThreshold": 1, "tcp": {}});
    apply(&mesh, &to_multizone("MeshHealthCheck", &check));
    // All three are known to the caller before one of them goes.
    let config = |mesh: &Mesh| {
        let api = mesh.topology.zones["east"].plane.api();
        let dump = api.get("/meshes/default/dataplanes/frontend/_config")?.to_string();
        ensure!(dump.contains("healthChecks") || dump.contains("health_checks"), "no health check yet");
        Ok(dump)
    };
    patience().until("the policies", || config(&mesh).map(drop)).unwrap();
    until_answered_by(&mesh, "backend.east");
    let services = || mesh.services_in_east(&["east", "north", "west"]);
    patience().until("the services of three zones", services).unwrap();

    mesh.topology.zone("east").unwrap().drain("backend").unwrap();
    let others = until_answered_by(&mesh, "backend.north");
    assert!(!others.contains("backend.west"), "west is the last resort: {others:?}");

    mesh.topology.zone("north").unwrap().proxies.get_mut("zone-ingress").unwrap().process().kill();
    until_answered_by(&mesh, "backend.west");
    mesh.topology.start_ingress("north").unwrap();
    until_answered_by(&mesh, "backend.north");

    mesh.topology.zone("east").unwrap().stop("backend");
    mesh.topology.start_backend("east").unwrap();
    let others = until_answered_by(&mesh, "backend.east");
    assert!(!others.contains("backend.west"), "{others:?}");
}

#[test]
fn callers_that_are_equal_in_the_hash_stay_with_one_endpoint() {
    let mesh = Mesh::start();
    mesh.until_multizone_answers_from("backend.east");
    let conf = json!({
        "localityAwareness": {"disabled": true},
        "loadBalancer": {"type": "RingHash", "ringHash": {}},
        "hashPolicies": [{"type": "Header", "header": {"name": "x-user"}}],
    });
    apply(&mesh, &to_multizone("MeshLoadBalancingStrategy", &conf));
    let users: Vec<String> = (0..USERS).map(|user| format!("user-{user}")).collect();
    let choices =
        || users.iter().map(|user| who(&mesh, &[("x-user", user)])).collect::<anyhow::Result<Vec<_>>>();
    let seen = patience().until("each caller to stay where it is", || {
        let first = choices()?;
        ensure!(first.iter().collect::<BTreeSet<_>>().len() == 2, "all go to one: {first:?}");
        for _ in 0..4 {
            let again = choices()?;
            ensure!(again == first, "{first:?} {again:?}");
        }
        Ok(())
    });
    seen.unwrap_or_else(|error| panic!("{error:#}"));
}
