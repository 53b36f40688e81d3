//! A global, two zones and their Envoys: what crosses zones, and what survives when a part dies.

#![allow(clippy::unwrap_used, reason = "a failed assumption of a test is a failed test")]

mod balancing;
mod egress;
mod otlp;
mod policies;
mod routes;
mod streams;
mod support;
mod telemetry;

use e2e::manifest;
use e2e::relay::Relay;
use e2e::topology::{Answer, is_online};
use serde_json::Value;

use support::{Mesh, patience};

/// A policy that says something.
const TIMEOUT: &str = "{type: MeshTimeout, mesh: default, name: t, \
    spec: {to: [{targetRef: {kind: Mesh}, default: {idleTimeout: 1h}}]}}";

#[test]
fn a_request_crosses_zones_with_the_callers_identity_and_the_services_name() {
    let mut mesh = Mesh::start();
    let relay = Relay::start(mesh.ingresses["west"]).unwrap();
    mesh.topology.publish_ingress("west", relay.port()).unwrap();
    patience()
        .until("a request through the relay", || {
            let answer = mesh.request_west()?;
            anyhow::ensure!(!relay.server_names().is_empty(), "it went another way: {answer:?}");
            Ok(())
        })
        .unwrap();

    let Answer::Reached(reached) = mesh.request_west().unwrap() else { panic!("refused") };
    assert_eq!(reached.service, "backend.west");
    let certificate = reached.headers["x-forwarded-client-cert"].as_str().unwrap_or_default();
    assert!(
        certificate.contains("URI=spiffe://default.east.mesh.local/workload/frontend"),
        "the caller's certificate is not in {:?}",
        reached.headers
    );
    assert!(
        relay.server_names().iter().all(|name| name == "sni.msvc.default.west.backend.http"),
        "{relay:?}"
    );
}

#[test]
fn a_service_over_both_zones_fails_over_without_a_lost_request_and_comes_back() {
    let mut mesh = Mesh::start();
    mesh.until_multizone_answers_from("backend.east");
    mesh.topology.zone("east").unwrap().drain("backend").unwrap();
    assert_eq!(mesh.until_multizone_answers_from("backend.west"), 0);
    mesh.topology.zone("east").unwrap().stop("backend");
    mesh.topology.start_backend("east").unwrap();
    let refused = mesh.until_multizone_answers_from("backend.east");
    assert_eq!(refused, 0, "traffic came before the backend's Envoy had its listeners");
}

#[test]
fn a_proxy_that_crashes_is_replaced_by_the_other_zone() {
    let mut mesh = Mesh::start();
    mesh.until_multizone_answers_from("backend.east");
    let proxy = mesh.topology.zone("east").unwrap().proxies.get_mut("backend").unwrap();
    proxy.process().kill();
    mesh.until_multizone_answers_from("backend.west");
}

#[test]
fn a_denial_written_at_the_global_is_enforced_in_the_other_zone_and_taken_back() {
    let mesh = Mesh::start();
    let denied = mesh.deny();
    mesh.until_west_refuses();
    mesh.topology.global.api().delete(&denied).unwrap();
    mesh.until_west_answers();
}

#[test]
fn traffic_goes_on_without_the_global_and_changes_arrive_when_it_is_back() {
    let mut mesh = Mesh::start();
    let before = mesh.zone_resources("east");
    mesh.topology.global.process().kill();
    assert!(matches!(mesh.request_west().unwrap(), Answer::Reached(_)));
    // A zone serves and keeps what it has.
    assert_eq!(mesh.zone_resources("east"), before);

    mesh.topology.global.start_again().unwrap();
    let api = mesh.topology.global.api();
    for zone in ["east", "west"] {
        patience()
            .until("the zone to be back", || {
                anyhow::ensure!(is_online(api, zone)?, "offline");
                Ok(())
            })
            .unwrap();
    }
    mesh.deny();
    mesh.until_west_refuses();
}

#[test]
fn envoys_serve_without_their_control_plane_and_stay_registered() {
    let mut mesh = Mesh::start();
    let registered = mesh.dataplanes("west");
    assert!(registered.len() >= 2, "{registered:?}");
    let plane = &mut mesh.topology.zone("west").unwrap().plane;
    plane.process().kill();
    assert!(matches!(mesh.request_west().unwrap(), Answer::Reached(_)));

    mesh.topology.zone("west").unwrap().plane.start_again().unwrap();
    assert_eq!(mesh.dataplanes("west"), registered);
    // The proxies are configured again by the one that came back.
    mesh.deny();
    mesh.until_west_refuses();
    assert_eq!(mesh.dataplanes("west"), registered);
}

#[test]
fn an_envoy_that_is_killed_comes_back() {
    let mut mesh = Mesh::start();
    let envoys = mesh.topology.zone("west").unwrap().proxies["backend"].envoys();
    let [envoy] = envoys[..] else { panic!("not one Envoy: {envoys:?}") };
    support::kill(envoy);
    patience()
        .until("another Envoy", || {
            let now = mesh.topology.zone("west")?.proxies["backend"].envoys();
            anyhow::ensure!(now.len() == 1 && now[0] != envoy, "{now:?}");
            Ok(())
        })
        .unwrap();
    mesh.until_west_answers();
}

#[test]
fn a_global_on_etcd_goes_on_when_etcd_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut etcd = support::etcd(folder.path());
    let mut topology = support::global_on_etcd(folder.path(), &etcd);
    topology.join("east").unwrap();
    let api = topology.global.api();
    etcd.process().kill();
    // What it knows it still tells; what it cannot keep it does not accept.
    assert_eq!(api.get("/meshes/default").unwrap()["name"], "default");
    let timeout = manifest::parse(TIMEOUT).unwrap().remove(0);
    assert!(api.apply(&timeout).is_err());
    etcd.start_again().unwrap_or_else(|error| panic!("{error:#}"));
    patience().until("a write", || api.apply(&timeout)).unwrap();
    let east = topology.zones["east"].plane.api();
    patience()
        .until("the zone to have it", || {
            let held = east.list("/meshes/default/meshtimeouts")?;
            anyhow::ensure!(held.iter().any(|one| one["labels"]["kuma.io/display-name"] == "t"), "{held:?}");
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_zone_joins_only_with_a_valid_token_of_its_own() {
    let (_folder, mut topology) = support::global_only();
    let (_other_folder, other) = support::global_only();
    let api = topology.global.api();
    let day = std::time::Duration::from_secs(86_400);
    let own = api.zone_token("north", day).unwrap();
    let tokens = [
        ("of another zone", "south", own.clone()),
        ("expired", "late", api.zone_token("late", std::time::Duration::from_secs(1)).unwrap()),
        ("unsigned", "forged", support::unsigned(&own)),
        ("signed by another key", "alien", other.global.api().zone_token("alien", day).unwrap()),
    ];
    support::until_expired(&tokens[1].2);
    for (what, zone, token) in tokens {
        let before = support::refusals(&mut topology);
        let _plane = topology.start_zone(zone, &token, topology.global.port("kds")).unwrap();
        patience()
            .until(&format!("the refusal of a token that is {what}"), || {
                anyhow::ensure!(support::refusals(&mut topology) > before, "the global refused no zone");
                Ok(())
            })
            .unwrap();
        let zones = api.list("/zones").unwrap();
        assert!(!zones.iter().any(|found| found["name"] == zone), "{what}: {zones:?}");
    }
}

#[test]
fn a_disabled_zone_leaves_the_others_at_once_and_comes_back() {
    let mesh = Mesh::start();
    let api = mesh.topology.global.api();
    let mut zone = api.get("/zones/west").unwrap();
    zone["enabled"] = false.into();
    api.apply(&zone).unwrap();
    patience().until("the services of west to be gone", || mesh.services_in_east(&["east"])).unwrap();
    patience()
        .until("west to be out of reach", || match mesh.request_west() {
            Err(_) | Ok(Answer::Refused(..)) => Ok(()),
            Ok(reached) => anyhow::bail!("{reached:?}"),
        })
        .unwrap();
    // The zone itself goes on.
    assert!(mesh.dataplanes("west").len() >= 2);
    zone["enabled"] = true.into();
    api.apply(&zone).unwrap();
    mesh.until_west_answers();
}

#[test]
fn a_mesh_that_exchanges_no_trust_keeps_bundles_at_home() {
    let mesh = Mesh::start();
    let api = mesh.topology.global.api();
    let bundles = |expected: usize| {
        let held = mesh.topology.zones["east"].plane.api().list("/meshes/default/meshtrusts")?;
        anyhow::ensure!(held.len() == expected, "{} bundles", held.len());
        Ok(())
    };
    patience().until("the bundles of both zones", || bundles(2)).unwrap();
    let mut default = api.get("/meshes/default").unwrap();
    default["labels"]["isthmus.io/trust-exchange"] = "disabled".into();
    api.apply(&default).unwrap();
    patience().until("the bundle of west to be gone", || bundles(1)).unwrap();
    default["labels"]["isthmus.io/trust-exchange"] = "enabled".into();
    api.apply(&default).unwrap();
    patience().until("the bundles of both zones", || bundles(2)).unwrap();
    mesh.until_west_answers();
}

#[test]
fn a_proxy_with_the_token_of_another_workload_is_refused_with_the_reason() {
    let (_folder, mut topology) = support::global_only();
    topology.join("east").unwrap();
    topology.apply_manifests().unwrap();
    let reason = support::reason_of_refused_proxy(&mut topology, "another");
    assert!(reason.contains("workload"), "{reason}");
    assert!(topology.zones["east"].plane.api().list("/meshes/default/dataplanes").unwrap().is_empty());
}

#[test]
fn what_is_wrong_with_a_resource_is_said() {
    let (_folder, topology) = support::global_only();
    let api = topology.global.api();
    let put = |path: &str, body: &Value| api.send("PUT", path, Some(body)).unwrap();
    let parsed = |text: &str| manifest::parse(text).unwrap().remove(0);
    let good = parsed(TIMEOUT);
    let path = "/meshes/default/meshtimeouts/t";
    assert_eq!(put("/meshes/default/meshtimeoutz/t", &good).status, 404);
    assert_eq!(put("/meshes/nowhere/meshtimeouts/t", &good).status, 404);
    assert_eq!(put("/meshes/default/meshtimeouts/other", &good).status, 400);
    let permission = parsed(
        "{type: MeshTrafficPermission, mesh: default, name: p, \
          spec: {targetReff: {kind: Mesh}, rules: [{default: {allow: [{spiffeID: {type: Prefix, value: 'spiffe://a'}}]}}]}}",
    );
    let answer = put("/meshes/default/meshtrafficpermissions/p", &permission);
    let warning = answer.header("warning").unwrap_or_default();
    assert!(warning.contains("targetRef"), "{} {warning:?} {}", answer.status, answer.text());
    assert_eq!(put(path, &good).status, 201);
    let huge = "x".repeat(20 << 20);
    let refused = api.send("PUT", path, Some(&serde_json::json!({"type": "MeshTimeout", "name": huge})));
    // The server may close the connection before it has read such a body.
    assert!(refused.map_or(true, |answer| answer.status == 413));
    assert_eq!(put(path, &good).status, 200);
}
