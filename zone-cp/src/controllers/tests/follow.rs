//! Planning what a change concerns gives what planning everything does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use auth::pki::Authority;
use model::hostnames::{self, Hostnames};
use model::spec::{
    MeshExternalServiceStatus, MeshMultiZoneServiceStatus, MeshService, MeshServiceStatus, Vip,
};
use model::{Key, Kind, Resource, Timestamp, labels};
use proptest::prelude::*;
use serde_json::{Value, json};
use store::{Op, Snapshot};

use super::fixture::*;
use crate::controllers::memory::Memory;
use crate::controllers::plan::is_own;
use crate::controllers::scope::Scopes;
use crate::controllers::{DESTINATIONS, Range, Settings, VipRanges};

const MESHES: [&str; 2] = ["default", "other"];
const WORKLOADS: [&str; 4] = ["web", "db", "cache", "1bad"];

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| authority(Duration::from_secs(9_000)));

/// Ranges that are soon full, two of them the same.
fn narrow() -> Settings {
    let range = |text| Range::parse(text).unwrap();
    let vip_ranges = VipRanges {
        mesh_service: range("241.0.0.0/29"),
        mesh_external_service: range("241.0.0.0/29"),
        mesh_multi_zone_service: range("243.0.0.0/30"),
    };
    Settings { vip_ranges, ..settings() }
}

/// Some writes and removals that a user, a proxy or the global does.
fn change(snapshot: Snapshot, [what, a, b, c]: [u8; 4], now: Timestamp) -> Snapshot {
    let pick = |from: &[&'static str], by: u8| from[usize::from(by) % from.len()];
    let mesh = pick(&MESHES, c / 4 % 3 / 2);
    let in_mesh = |kind: Kind, name: &str| Key::new(kind, mesh, name);
    let age = Timestamp::from_unix(now.unix_seconds() - i64::from(c % 5), 0);
    let team = [(), ()].map(|()| pick(&["a", "b"], b));
    let put = |snapshot: Snapshot, mut resource: Resource| {
        let mut builder = resource.to_builder();
        builder.key = Key::new(resource.kind(), mesh, resource.name());
        builder.labels.entry(labels::MESH.into()).and_modify(|of| *of = mesh.into());
        builder.created = snapshot.resource(&builder.key).map_or(age, |held| held.created());
        resource = builder.build();
        snapshot.with(resource)
    };
    let service = pick(&["web", "db", "shop", "api", "far"], a);
    match what % 16 {
        0..=2 => {
            let name = format!("p-{}", a % 6);
            let port = if c % 8 == 0 { 81 } else { 80 };
            let proxy = dataplane(&name, pick(&WORKLOADS, b), &[(port, "", c % 2 == 0)]);
            let mut builder = proxy.to_builder().label("team", team[0]);
            if b % 7 == 0 {
                builder.labels.remove(labels::WORKLOAD);
            }
            if b % 11 == 0 {
                builder.labels.insert(labels::ZONE.into(), "west".into());
            }
            put(snapshot, builder.build())
        }
        3 => snapshot.without(&in_mesh(Kind::DATAPLANE, &format!("p-{}", a % 6))),
        4 => put(snapshot, insight(&format!("p-{}", a % 6), b % 2 == 0)),
        5 => snapshot.without(&in_mesh(Kind::DATAPLANE_INSIGHT, &format!("p-{}", a % 6))),
        6 | 7 => {
            let by_labels = |labels: Value| json!({"dataplaneLabels": {"matchLabels": labels}});
            let selector = match b % 7 {
                0 => by_labels(json!({"team": team[0]})),
                1 => json!({"dataplaneRef": {"name": format!("p-{}", c % 6)}}),
                2 => by_labels(json!({"kuma.io/zone": "east"})),
                3 => by_labels(json!({"kuma.io/display-name": format!("p-{}", c % 6)})),
                4 => by_labels(json!({"kuma.io/workload": pick(&WORKLOADS, c), "team": team[0]})),
                5 => by_labels(json!({})),
                _ => json!({}),
            };
            let spec = json!({"selector": selector, "ports": [{"port": 80, "targetPort": 80}]});
            let mut builder = json_spec(own(Kind::MESH_SERVICE, service, &[("team", team[1])]), &spec);
            if c % 3 == 0 {
                builder.labels.insert(labels::ZONE.into(), "west".into());
                builder.labels.insert(labels::ORIGIN.into(), "global".into());
                let vips = vec![Vip { ip: format!("241.0.0.{}", c % 7) }];
                builder = builder.status(&MeshServiceStatus { vips, ..MeshServiceStatus::default() });
            }
            put(snapshot, builder.build())
        }
        8 => snapshot.without(&in_mesh(pick_kind(b), service)),
        9 => {
            let selector = json!({"meshService": {"matchLabels": pick_labels(b)}});
            let spec = json!({"selector": selector, "ports": [{"port": 80}]});
            put(
                snapshot,
                json_spec(own(Kind::MESH_MULTI_ZONE_SERVICE, service, &[("team", "a")]), &spec).build(),
            )
        }
        10 => {
            let spec = json!({"match": {"port": 443}});
            put(snapshot, json_spec(own(Kind::MESH_EXTERNAL_SERVICE, service, &[]), &spec).build())
        }
        11 => put(snapshot, own(Kind::WORKLOAD, pick(&WORKLOADS, a), &[]).build()),
        12 => {
            let name = pick(&["one", "two", "three"], a);
            let template =
                ["same.mesh", "{{ .DisplayName }}.mesh", "{{ label \"team\" }}.mesh"][usize::from(b % 3)];
            let origin = pick(&["zone", "global"], b / 3);
            let selector = json!({"matchLabels": if c % 2 == 0 { json!({}) } else { json!({"team": "a"}) }});
            let selector = json!({"meshService": selector, "meshMultiZoneService": selector});
            let key = Key::global(Kind::HOSTNAME_GENERATOR, name);
            let builder = Resource::builder(key.clone()).label(labels::ORIGIN, origin).at(age);
            let spec = json!({"selector": selector, "template": template});
            if c % 4 == 0 { snapshot.without(&key) } else { snapshot.with(json_spec(builder, &spec).build()) }
        }
        13 => {
            let key = Key::global(Kind::MESH, mesh);
            if c % 2 == 0 { snapshot.without(&key) } else { snapshot.with(Resource::builder(key).build()) }
        }
        14 => put(snapshot, given_identity("given", pick(&["a", ""], b))),
        _ => snapshot.without(&in_mesh(Kind::MESH_IDENTITY, "given")),
    }
}

fn pick_kind(by: u8) -> Kind {
    let kinds =
        [Kind::MESH_SERVICE, Kind::WORKLOAD, Kind::MESH_MULTI_ZONE_SERVICE, Kind::MESH_EXTERNAL_SERVICE];
    kinds[usize::from(by) % 4]
}

fn pick_labels(by: u8) -> Value {
    [json!({"team": "a"}), json!({"kuma.io/zone": "west"}), json!({})][usize::from(by) % 3].clone()
}

/// A MeshIdentity with an authority of its user: none is made, so that plans can be compared.
fn given_identity(name: &str, team: &str) -> Resource {
    let inline = |value: &str| json!({"type": "InsecureInline", "insecureInline": {"value": value}});
    let ca = json!({"certificate": inline(AUTHORITY.certificate_pem()), "privateKey": inline(AUTHORITY.key().expose())});
    let labels = if team.is_empty() { json!({}) } else { json!({"team": team}) };
    let spec = json!({
        "selector": {"dataplane": {"matchLabels": labels}},
        "provider": {"type": "Bundled", "bundled": {"ca": ca}},
    });
    json_spec(own(Kind::MESH_IDENTITY, name, &[]), &spec).build()
}

fn describe(ops: &[Op]) -> Vec<String> {
    let content = |held: &Resource| {
        let status = held.raw_status().map(|status| status.bytes().clone());
        format!("{} {:?} {:?} {status:?}", held.key(), held.labels(), held.raw_spec().bytes())
    };
    let mut described: Vec<_> = ops
        .iter()
        .map(|op| match op {
            Op::Put(resource, expect) => format!("put {} {expect:?}", content(resource)),
            Op::Delete(key, expect) => format!("delete {key} {expect:?}"),
        })
        .collect();
    described.sort();
    described
}

fn plan(memory: &mut Memory, scopes: Scopes, now: Timestamp) -> Vec<Op> {
    scopes.into_iter().flat_map(|(mesh, scope)| memory.plan(&mesh, &scope, now)).collect()
}

/// What planning everything wants, and when it wants to be asked again.
fn from_scratch(snapshot: &Arc<Snapshot>, now: Timestamp) -> (Vec<Op>, BTreeMap<Key, Timestamp>) {
    let mut memory = Memory::new(narrow());
    memory.advance(snapshot);
    let mut scopes = Scopes::default();
    MESHES.into_iter().for_each(|mesh| scopes.add_everything(snapshot, mesh));
    let ops = plan(&mut memory, scopes, now);
    (ops, memory.wakes().clone())
}

/// Hostnames as their rule says, without an index.
fn assign(snapshot: &Snapshot, mesh: &str) -> BTreeMap<Key, Hostnames> {
    let generators = hostnames::in_order(snapshot.kind(Kind::HOSTNAME_GENERATOR));
    let mut destinations: Vec<_> =
        DESTINATIONS.into_iter().flat_map(|kind| snapshot.in_mesh(kind, mesh)).collect();
    destinations.sort_by_key(|held| (held.created(), held.key().clone()));
    let mut owners: BTreeMap<String, Key> = BTreeMap::new();
    for generator in &generators {
        for destination in &destinations {
            if let Some(Ok(hostname)) = hostnames::rendered(generator, destination) {
                owners.entry(hostname).or_insert_with(|| destination.key().clone());
            }
        }
    }
    let of = |held: &Resource| hostnames::given(&generators, held, |hostname| owners.get(hostname));
    destinations.into_iter().map(|held| (held.key().clone(), of(held))).collect()
}

/// How many proxies each of the zone's own services selects, found without an index.
fn selected(snapshot: &Snapshot, mesh: &str) -> BTreeMap<Key, u32> {
    let own = |kind: Kind| snapshot.in_mesh(kind, mesh).filter(|held| is_own(&plane(), held));
    let count = |service: &Resource| {
        let selector = &service.spec::<MeshService>().unwrap().selector;
        let selects = |proxy: &&Arc<Resource>| match (&selector.dataplane_ref, &selector.dataplane_labels) {
            (Some(one), _) => one.name == proxy.name(),
            (None, Some(labels)) => labels.selects(proxy),
            (None, None) => false,
        };
        u32::try_from(own(Kind::DATAPLANE).filter(selects).count()).unwrap()
    };
    own(Kind::MESH_SERVICE).map(|service| (service.key().clone(), count(service))).collect()
}

fn held_hostnames(held: &Resource) -> Hostnames {
    macro_rules! of {
        ($status:ty) => {{
            let status = held.status::<$status>().cloned().unwrap_or_default();
            Hostnames { addresses: status.addresses, generators: status.hostname_generators }
        }};
    }
    if held.kind() == Kind::MESH_SERVICE {
        of!(MeshServiceStatus)
    } else if held.kind() == Kind::MESH_EXTERNAL_SERVICE {
        of!(MeshExternalServiceStatus)
    } else {
        of!(MeshMultiZoneServiceStatus)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Anything comes, goes and changes, several things at a time, and time passes. After each step the plan of what
    /// changed is the plan of everything, until nothing is wanted any more.
    #[test]
    fn planning_what_changed_is_planning_everything(
        steps in prop::collection::vec(
            (prop::collection::vec(any::<[u8; 4]>(), 1..4), prop::sample::select(vec![0_u64, 1, 1800, 3600])),
            1..40,
        ),
    ) {
        let mut now = now();
        let mut snapshot = Arc::new(snapshot([hostname_generator("one", "{{ .DisplayName }}.mesh")]));
        let mut memory = Memory::new(narrow());
        for (changes, seconds) in steps {
            now = now.plus(Duration::from_secs(seconds));
            let changed = changes.iter().fold(Snapshot::clone(&snapshot), |held, by| change(held, *by, now));
            snapshot = Arc::new(changed);
            for round in 0.. {
                let mut scopes = memory.advance(&snapshot);
                scopes.merge(memory.due(now));
                let ops = plan(&mut memory, scopes, now);
                let (want, wakes) = from_scratch(&snapshot, now);
                prop_assert_eq!(describe(&ops), describe(&want), "after {:?}, round {}", changes, round);
                prop_assert_eq!(memory.wakes(), &wakes);
                if ops.is_empty() {
                    break;
                }
                prop_assert!(round < 8, "never settled: {:?}", describe(&ops));
                snapshot = Arc::new(ops.into_iter().fold(Snapshot::clone(&snapshot), apply));
            }
            for mesh in MESHES.into_iter().filter(|mesh| snapshot.get(&Key::global(Kind::MESH, mesh)).is_some()) {
                for (key, want) in assign(&snapshot, mesh) {
                    prop_assert_eq!(held_hostnames(snapshot.resource(&key).unwrap()), want, "{}", key);
                }
                for (key, want) in selected(&snapshot, mesh) {
                    let held = snapshot.resource(&key).unwrap().status::<MeshServiceStatus>().unwrap();
                    prop_assert_eq!(held.dataplane_proxies.total, want, "{}", key);
                }
            }
        }
    }
}

/// A mesh in which each of some services has two proxies.
fn large(services: usize) -> (Memory, Arc<Snapshot>) {
    let proxies = (0..services * 2).map(|at| {
        let workload = format!("w-{}", at / 2);
        dataplane(&format!("p-{at}"), &workload, &[(80, "", true)])
    });
    let generator = hostname_generator("one", "{{ .DisplayName }}.mesh");
    let mut snapshot = Arc::new(snapshot(proxies.chain([generator, given_identity("given", "")])));
    let mut memory = Memory::new(settings());
    loop {
        let scopes = memory.advance(&snapshot);
        let ops = plan(&mut memory, scopes, now());
        if ops.is_empty() {
            return (memory, snapshot);
        }
        snapshot = Arc::new(ops.into_iter().fold(Snapshot::clone(&snapshot), apply));
    }
}

#[test]
fn what_an_endpoint_concerns_does_not_grow_with_the_mesh() {
    for services in [10, 200] {
        let (mut memory, start) = large(services);
        let unready = dataplane("p-7", "w-3", &[(80, "", false)]);
        let mut snapshot = Arc::new(Snapshot::clone(&start).with(unready));
        let scopes = memory.advance(&snapshot);
        let (_, scope) = scopes.into_iter().next().unwrap();
        assert_eq!(scope.services, BTreeSet::from(["w-3".into()]));
        assert!(!scope.identities && scope.multi_zone.is_empty() && scope.destinations.is_empty());
        let ops = memory.plan(MESH, &scope, now());
        assert_eq!(ops.len(), 2, "the counts of the service and of its workload: {ops:?}");
        snapshot = Arc::new(ops.into_iter().fold(Snapshot::clone(&snapshot), apply));
        // What was written is looked at once more, and nothing follows from it.
        let scopes = memory.advance(&snapshot);
        assert!(plan(&mut memory, scopes, now()).is_empty());
        assert!(memory.advance(&snapshot).is_empty());
    }
}

#[test]
fn what_nobody_looks_at_concerns_nobody() {
    let (mut memory, start) = large(3);
    let policy = own(Kind::MESH_TIMEOUT, "t", &[]).build();
    let connected = Arc::new(Snapshot::clone(&start).with(policy).with(insight("p-1", true)));
    assert!(!memory.advance(&connected).is_empty());
    let mut again = insight("p-1", true).to_builder();
    again.labels.insert("seen".into(), "again".into());
    assert!(memory.advance(&Arc::new(Snapshot::clone(&connected).with(again.build()))).is_empty());
}
