//! MeshServices, Workloads and the other destinations.

use model::spec::{
    DataplaneProxies, MeshExternalServiceStatus, MeshMultiZoneServiceStatus, MeshService, MeshServiceStatus,
    ServiceState, TargetPort, TlsStatus, WorkloadStatus,
};
use model::{Kind, Resource, labels};
use serde_json::{Value, json};

use super::fixture::*;

const SERVICE: Kind = Kind::MESH_SERVICE;

#[test]
fn one_pass_leads_from_a_proxy_to_a_service_that_can_be_reached() {
    let settled = settle(
        snapshot([
            identity("identity"),
            dataplane("web-1", "web", &[(8080, "", true), (9090, "admin", true)]),
            insight("web-1", true),
            hostname_generator("local", "{{ .DisplayName }}.svc.mesh.local"),
        ]),
        now(),
    );
    let service: MeshService = spec(&settled, SERVICE, "web");
    assert_eq!(service.state, ServiceState::Available);
    let ids: Vec<_> = service.identities.iter().map(|id| (id.r#type.as_str(), id.value.as_str())).collect();
    assert_eq!(ids, [("SpiffeID", "spiffe://default.east.mesh.local/workload/web")]);
    let ports: Vec<_> = service
        .ports
        .iter()
        .map(|port| (port.section(), port.port, port.target(), port.app_protocol.as_str()))
        .collect();
    assert_eq!(
        ports,
        [
            ("8080".into(), 8080, TargetPort::Number(8080), "http"),
            ("admin".into(), 9090, TargetPort::Number(9090), "http")
        ]
    );
    let status: MeshServiceStatus = status(&settled, SERVICE, "web");
    assert_eq!(status.tls.status, Some(TlsStatus::Ready));
    assert!(status.vips.len() == 1 && status.vips[0].ip.starts_with("241."));
    assert_eq!(status.addresses[0].hostname, "web.svc.mesh.local");
    assert_eq!(status.dataplane_proxies, DataplaneProxies { connected: 1, healthy: 1, total: 1 });
    let held = settled.resource(&key(SERVICE, "web")).unwrap();
    let labels: Vec<_> = held.labels().iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(
        labels,
        [
            "kuma.io/display-name=web",
            "kuma.io/env=universal",
            "kuma.io/managed-by=meshservice-generator",
            "kuma.io/mesh=default",
            "kuma.io/origin=zone",
            "kuma.io/zone=east"
        ]
    );
}

#[test]
fn a_mesh_that_is_not_there_is_left_alone() {
    let held = store::Snapshot::default().with(dataplane("web-1", "web", &[(80, "", true)]));
    assert!(plan_mesh(&held, now()).0.is_empty());
}

#[test]
fn no_service_is_made_without_agreement_on_ports_a_proper_name_or_any_port() {
    let settled = settle(
        snapshot([
            dataplane("a-1", "a", &[(80, "", true)]),
            dataplane("a-2", "a", &[(81, "", true)]),
            dataplane("b-1", "1b", &[(80, "", true)]),
            dataplane("c-1", "c", &[]),
        ]),
        now(),
    );
    assert_eq!(settled.count(SERVICE), 0);
    // Once they agree it is made; a later disagreement leaves it as it is.
    let agreed = settle(settled.with(dataplane("a-2", "a", &[(80, "", true)])), now());
    assert_eq!(spec::<MeshService>(&agreed, SERVICE, "a").ports[0].port, 80);
    let torn = settle(agreed.with(dataplane("a-1", "a", &[(82, "", true)])), now());
    assert_eq!(spec::<MeshService>(&torn, SERVICE, "a").ports[0].port, 80);
    let moved = settle(torn.with(dataplane("a-2", "a", &[(82, "", true)])), now());
    assert_eq!(spec::<MeshService>(&moved, SERVICE, "a").ports[0].port, 82);
}

#[test]
fn a_service_outlives_its_last_proxy_by_the_grace_period() {
    let web = || dataplane("web-1", "web", &[(80, "", true)]);
    let served = settle(snapshot([web()]), now());
    let vips = status::<MeshServiceStatus>(&served, SERVICE, "web").vips;
    let left = settle(served.without(web().key()), later(10));
    let held = left.resource(&key(SERVICE, "web")).unwrap();
    assert_eq!(held.label(labels::GRACE_PERIOD_STARTED_AT), Some(later(10).to_string().as_str()));
    assert_eq!(spec::<MeshService>(&left, SERVICE, "web").state, ServiceState::Unavailable);
    assert_eq!(status::<MeshServiceStatus>(&left, SERVICE, "web").vips, vips);
    let (_, wake) = plan_mesh(&left, later(20));
    assert_eq!(wake, Some(later(3610)));

    let back = settle(left.clone().with(web()), later(3000));
    let held = back.resource(&key(SERVICE, "web")).unwrap();
    assert_eq!(held.label(labels::GRACE_PERIOD_STARTED_AT), None);

    let still = settle(left.clone(), later(3609));
    assert!(has(&still, SERVICE, "web"));
    let gone = settle(left, later(3610));
    assert!(!has(&gone, SERVICE, "web"));
}

#[test]
fn a_service_that_a_user_wrote_keeps_everything_but_what_is_observed() {
    let written = json!({
        "selector": {"dataplaneLabels": {"matchLabels": {"team": "a"}}},
        "ports": [{"port": 80, "targetPort": "http", "appProtocol": "http"}],
        "extra": 1,
    });
    let by_user = |given: &[(&str, &str)]| json_spec(own(SERVICE, "web", given), &written).build();
    let mut proxy = dataplane("web-1", "web", &[(8080, "http", true)]).to_builder();
    proxy.labels.insert("team".into(), "a".into());
    let settled = settle(snapshot([by_user(&[]), proxy.build(), identity("identity")]), now());
    let held = settled.resource(&key(SERVICE, "web")).unwrap();
    let document: Value = serde_json::from_slice(held.raw_spec().bytes()).unwrap();
    assert_eq!(document["extra"], 1);
    assert_eq!(document["ports"], written["ports"]);
    assert_eq!(document["state"], "Available");
    assert_eq!(document["identities"][0]["value"], "spiffe://default.east.mesh.local/workload/web");
    // And it is not removed with its last proxy.
    let left = settle(settled.without(&key(Kind::DATAPLANE, "web-1")), later(1));
    assert!(has(&settle(left, later(100_000)), SERVICE, "web"));
}

#[test]
fn a_proxy_that_is_not_ready_is_counted_but_does_not_serve() {
    let settled = settle(
        snapshot([
            dataplane("web-1", "web", &[(80, "", true), (81, "", false)]),
            dataplane("web-2", "web", &[(80, "", false), (81, "", false)]),
            insight("web-1", true),
            insight("web-2", false),
        ]),
        now(),
    );
    assert_eq!(spec::<MeshService>(&settled, SERVICE, "web").state, ServiceState::Unavailable);
    let counts = DataplaneProxies { connected: 1, healthy: 0, total: 2 };
    assert_eq!(status::<MeshServiceStatus>(&settled, SERVICE, "web").dataplane_proxies, counts);
    assert_eq!(status::<WorkloadStatus>(&settled, Kind::WORKLOAD, "web").dataplane_proxies, counts);
}

#[test]
fn workloads_follow_their_proxies() {
    let start = snapshot([dataplane("web-1", "web", &[(80, "", true)]), dataplane("in", "ingress", &[])]);
    let settled = settle(start, now());
    assert_eq!(settled.count(Kind::WORKLOAD), 2);
    let left = settle(settled.without(&key(Kind::DATAPLANE, "web-1")), now());
    assert!(!has(&left, Kind::WORKLOAD, "web") && has(&left, Kind::WORKLOAD, "ingress"));
    let by_user = own(Kind::WORKLOAD, "mine", &[]).build();
    assert!(has(&settle(left.with(by_user), now()), Kind::WORKLOAD, "mine"));
}

#[test]
fn tls_waits_for_trust_and_never_goes_back() {
    let mut untrusted = bundled_spec("24h");
    untrusted["provider"]["bundled"]["meshTrustCreation"] = "Disabled".into();
    let without_trust = json_spec(own(Kind::MESH_IDENTITY, "identity", &[]), &untrusted).build();
    let web = dataplane("web-1", "web", &[(80, "", true)]);
    let settled = settle(snapshot([without_trust, web]), now());
    let tls = |snapshot: &store::Snapshot| status::<MeshServiceStatus>(snapshot, SERVICE, "web").tls.status;
    assert_eq!(tls(&settled), Some(TlsStatus::NotReady));
    let trusted = settle(settled.with(identity("identity")), now());
    assert_eq!(tls(&trusted), Some(TlsStatus::Ready));
    let gone = settle(trusted.without(&key(Kind::MESH_IDENTITY, "identity")), now());
    assert_eq!(tls(&gone), Some(TlsStatus::Ready));
    assert!(spec::<MeshService>(&gone, SERVICE, "web").identities.is_empty());
}

/// A MeshService of another zone, as the global sends it.
fn remote(name: &str) -> Resource {
    let spec = json!({"state": "Available", "ports": [{"port": 80}], "identities": [{"type": "SpiffeID", "value": "x"}]});
    let labels = [(labels::DISPLAY_NAME, "web"), (labels::ORIGIN, "global"), (labels::ZONE, "west")];
    let mut builder = json_spec(own(SERVICE, name, &[]), &spec);
    builder.labels.extend(labels.map(|(key, value)| (key.into(), value.into())));
    builder.build()
}

#[test]
fn a_service_of_another_zone_gets_addresses_only() {
    let settled = settle(
        snapshot([
            remote("web-hash"),
            hostname_generator("g", "{{ .DisplayName }}.svc.{{ .Zone }}.mesh.local"),
        ]),
        now(),
    );
    let held = settled.resource(&key(SERVICE, "web-hash")).unwrap();
    assert_eq!(held.raw_spec(), remote("web-hash").raw_spec());
    let status: MeshServiceStatus = status(&settled, SERVICE, "web-hash");
    assert_eq!(status.tls.status, None);
    assert_eq!(status.vips.len(), 1);
    assert_eq!(status.addresses[0].hostname, "web.svc.west.mesh.local");
}

#[test]
fn the_other_destinations_get_their_members_addresses_and_hostnames() {
    let multi = json!({"selector": {"meshService": {"matchLabels": {"kuma.io/display-name": "web"}}}, "ports": [{"port": 80}]});
    let external = json!({"match": {"type": "HostnameGenerator", "port": 443, "protocol": "tcp"}});
    let generator = |name: &str, field: &str, template: &str| {
        let spec = json!({"selector": {field: {"matchLabels": {}}}, "template": template});
        json_spec(hostname_generator(name, "x").to_builder(), &spec).build()
    };
    let settled = settle(
        snapshot([
            json_spec(own(Kind::MESH_MULTI_ZONE_SERVICE, "web", &[]), &multi).build(),
            json_spec(own(Kind::MESH_EXTERNAL_SERVICE, "api", &[]), &external).build(),
            remote("web-hash"),
            dataplane("web-1", "web", &[(80, "", true)]),
            generator("m", "meshMultiZoneService", "{{ .DisplayName }}.mzsvc.mesh.local"),
            generator("e", "meshExternalService", "{{ .DisplayName }}.extsvc.mesh.local"),
        ]),
        now(),
    );
    let multi: MeshMultiZoneServiceStatus = status(&settled, Kind::MESH_MULTI_ZONE_SERVICE, "web");
    let members: Vec<_> = multi.mesh_services.iter().map(|m| (m.name.as_str(), m.zone.as_str())).collect();
    assert_eq!(members, [("web", "east"), ("web", "west")]);
    assert_eq!(multi.conditions[0].reason, "MatchesFound");
    assert!(multi.vips[0].ip.starts_with("243."));
    assert_eq!(multi.addresses[0].hostname, "web.mzsvc.mesh.local");
    let external: MeshExternalServiceStatus = status(&settled, Kind::MESH_EXTERNAL_SERVICE, "api");
    assert!(external.vip.unwrap().ip.starts_with("242."));
    assert_eq!(external.addresses[0].hostname, "api.extsvc.mesh.local");
    let alone =
        settle(settled.without(&key(SERVICE, "web-hash")).without(&key(Kind::DATAPLANE, "web-1")), now());
    let multi: MeshMultiZoneServiceStatus = status(&alone, Kind::MESH_MULTI_ZONE_SERVICE, "web");
    assert_eq!(multi.mesh_services.len(), 1);
}

#[test]
fn one_bad_resource_stops_nothing() {
    let bad = |kind, name| json_spec(own(kind, name, &[]), &json!({"selector": 1, "ports": "x"})).build();
    let mut broken = own(Kind::DATAPLANE, "broken", &[(labels::WORKLOAD, "web")]);
    broken.spec = model::payload::Payload::from_bytes("no protobuf");
    let mut generator = hostname_generator("bad", "x").to_builder();
    generator.spec = model::payload::Payload::from_bytes("{");
    let settled = settle(
        snapshot([
            bad(SERVICE, "bad"),
            bad(Kind::MESH_IDENTITY, "bad"),
            bad(Kind::MESH_MULTI_ZONE_SERVICE, "bad"),
            bad(Kind::MESH_TRUST, "bad"),
            broken.build(),
            generator.build(),
            identity("identity"),
            dataplane("web-1", "web", &[(80, "", true)]),
            hostname_generator("good", "{{ .DisplayName }}.svc.mesh.local"),
        ]),
        now(),
    );
    let status: MeshServiceStatus = status(&settled, SERVICE, "web");
    assert_eq!(status.tls.status, Some(TlsStatus::Ready));
    assert_eq!(status.addresses.len(), 1);
}
