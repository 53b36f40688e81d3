//! Selection and merging over whole policies, and the property that arrival order does not matter.

use std::sync::Arc;

use kds_proto::mesh::dataplane::Networking;
use kds_proto::mesh::dataplane::networking::Inbound;
use model::spec::Dataplane;
use model::{Key, Kind, Payload, Resource};
use policy::{Destination, PolicySet, Proxy, RouteRule, Section};
use proptest::prelude::*;
use serde_json::{Value, json};

fn kind(name: &str) -> Kind {
    Kind::by_name(name).expect("known kind")
}

fn timeout(name: &str, labels: &[(&str, &str)], spec: &Value) -> Arc<Resource> {
    let mut builder = Resource::builder(Key::new(kind("MeshTimeout"), "default", name));
    builder.spec = Payload::from_bytes(spec.to_string());
    for (key, value) in labels {
        builder = builder.label(key, value);
    }
    Arc::new(builder.build())
}

fn dataplane() -> Resource {
    let inbound = |port, name: &str| Inbound { port, name: name.into(), ..Default::default() };
    let networking = Networking {
        address: "10.0.0.1".into(),
        inbound: vec![inbound(80, "web"), inbound(81, "")],
        ..Default::default()
    };
    Resource::builder(Key::new(Kind::DATAPLANE, "default", "web-1"))
        .label("app", "web")
        .label("kuma.io/zone", "east")
        .spec(&Dataplane { networking: Some(networking) })
        .build()
}

fn names(set: &PolicySet, dataplane: &Resource) -> Vec<String> {
    let selected = set.select(&Proxy::new(dataplane, "east"));
    selected.policies().map(|policy| policy.resource.name().to_owned()).collect()
}

fn section(port: u32, name: &str) -> Section {
    Section { port, name: name.into() }
}

fn rules(target: Value, idle: &str) -> Value {
    json!({"targetRef": target, "rules": [{"default": {"idleTimeout": idle}}]})
}

#[test]
fn a_policy_selects_by_labels_section_zone_and_effect() {
    let all = json!({"kind": "Mesh"});
    let cases = [
        ("no target", json!({}), vec![], true),
        ("mesh", json!({"targetRef": all}), vec![], true),
        ("every proxy", json!({"targetRef": {"kind": "Dataplane"}}), vec![], true),
        ("its label", json!({"targetRef": {"kind": "Dataplane", "labels": {"app": "web"}}}), vec![], true),
        (
            "another label",
            json!({"targetRef": {"kind": "Dataplane", "labels": {"app": "db"}}}),
            vec![],
            false,
        ),
        ("its section", json!({"targetRef": {"kind": "Dataplane", "sectionName": "web"}}), vec![], true),
        ("its port", json!({"targetRef": {"kind": "Dataplane", "sectionName": "81"}}), vec![], true),
        ("no section", json!({"targetRef": {"kind": "Dataplane", "sectionName": "db"}}), vec![], false),
        ("unknown target", json!({"targetRef": {"kind": "MeshSubset"}}), vec![], false),
        ("shadow", json!({"targetRef": all}), vec![("kuma.io/effect", "shadow")], false),
        (
            "its zone",
            json!({"targetRef": all}),
            vec![("kuma.io/origin", "zone"), ("kuma.io/zone", "east")],
            true,
        ),
        (
            "another zone",
            json!({"targetRef": all}),
            vec![("kuma.io/origin", "zone"), ("kuma.io/zone", "west")],
            false,
        ),
        (
            "producer of another zone",
            json!({"targetRef": all}),
            vec![("kuma.io/origin", "zone"), ("kuma.io/zone", "west"), ("kuma.io/policy-role", "producer")],
            true,
        ),
        (
            "consumer of another namespace",
            json!({"targetRef": all}),
            vec![("kuma.io/policy-role", "consumer"), ("k8s.kuma.io/namespace", "other")],
            false,
        ),
    ];
    for (case, spec, labels, selects) in cases {
        let set = PolicySet::new([&timeout("p", &labels, &spec)]);
        assert_eq!(!names(&set, &dataplane()).is_empty(), selects, "{case}");
    }
}

#[test]
fn shadow_policies_count_when_asked_for() {
    let set = PolicySet::new([&timeout("p", &[("kuma.io/effect", "shadow")], &json!({}))]);
    let dataplane = dataplane();
    assert!(!set.select(&Proxy::new(&dataplane, "east").with_shadow(true)).is_empty());
}

#[test]
fn the_more_specific_policy_wins_and_the_smallest_name_among_equals() {
    let mesh = timeout("a", &[], &rules(json!({"kind": "Mesh"}), "1s"));
    let zone = timeout(
        "z",
        &[("kuma.io/origin", "zone"), ("kuma.io/zone", "east")],
        &rules(json!({"kind": "Mesh"}), "2s"),
    );
    let first = timeout("b", &[], &rules(json!({"kind": "Dataplane"}), "3s"));
    let second = timeout("c", &[], &rules(json!({"kind": "Dataplane"}), "4s"));
    let port = timeout("d", &[], &rules(json!({"kind": "Dataplane", "sectionName": "web"}), "5s"));
    let set = PolicySet::new([&port, &mesh, &second, &zone, &first]);
    let dataplane = dataplane();
    assert_eq!(names(&set, &dataplane), ["a", "z", "c", "b", "d"]);
    let selected = set.select(&Proxy::new(&dataplane, "east"));
    let idle = |section: &Section| selected.catch_all(section).map(|conf| conf.value["idleTimeout"].clone());
    assert_eq!(idle(&section(80, "web")), Some(json!("5s")));
    assert_eq!(idle(&section(81, "")), Some(json!("3s")));
}

#[test]
fn rules_are_ordered_by_what_they_match() {
    let rule = |matches: Value, idle: &str| json!({"matches": matches, "default": {"idleTimeout": idle}});
    let prefix = json!([{"spiffeID": {"type": "Prefix", "value": "spiffe://d/"}}]);
    let exact = json!([{"spiffeID": {"type": "Exact", "value": "spiffe://d/a"}}]);
    let spec = json!({"rules": [
        {"default": {"idleTimeout": "1s"}},
        rule(prefix, "2s"),
        rule(exact.clone(), "3s"),
        {"matches": exact, "default": {"http": {"requestTimeout": "4s"}}},
    ]});
    let dataplane = dataplane();
    let set = PolicySet::new([&timeout("p", &[], &spec)]);
    let rules = set.select(&Proxy::new(&dataplane, "east")).rules(&section(80, "web"));
    let confs: Vec<Value> = rules.iter().map(|rule| rule.conf.value.clone()).collect();
    assert_eq!(
        confs,
        [
            json!({"idleTimeout": "3s", "http": {"requestTimeout": "4s"}}),
            json!({"idleTimeout": "2s"}),
            json!({"idleTimeout": "1s"}),
        ]
    );
    assert!(rules.last().is_some_and(|rule| rule.matches.is_none()));
}

#[test]
fn unmerged_rules_keep_their_position_and_follow_their_match() {
    let exact = json!({"spiffeID": {"type": "Exact", "value": "spiffe://a/b"}});
    let prefix = json!({"spiffeID": {"type": "Prefix", "value": "spiffe://a"}});
    let rule = |matches: Value| json!({"matches": matches, "default": {"idleTimeout": "1s"}});
    let first = json!({"rules": [{"default": {}}, rule(json!([prefix, exact]))]});
    let second = json!({"rules": [rule(json!([{"sni": {"type": "Exact", "value": "x"}}])), {"default": {}}]});
    let (first, second) = (timeout("b", &[], &first), timeout("a", &[], &second));
    let dataplane = dataplane();
    let selected = PolicySet::new([&second, &first]).select(&Proxy::new(&dataplane, "east"));
    let section = section(80, "web");
    let items = selected.rule_items(&section);
    let shown: Vec<_> =
        items.iter().map(|item| (item.policy.resource.name(), item.index, item.matches.is_some())).collect();
    let want = [("b", 1, true), ("b", 1, true), ("a", 0, true), ("b", 0, false), ("a", 1, false)];
    assert_eq!(shown, want);
    assert_eq!(items[0].matches, Some(&exact));
}

#[test]
fn equal_items_have_positions_of_their_own_and_an_origin_is_told_once() {
    let (mesh, api) = (json!({"kind": "Mesh"}), json!({"kind": "MeshService", "name": "api"}));
    let twice = timeout("b", &[], &to(&[(mesh.clone(), "1s"), (api, "2s"), (mesh.clone(), "1s")]));
    let other = timeout("a", &[], &to(&[(mesh, "3s")]));
    let dataplane = dataplane();
    let selected = PolicySet::new([&twice, &other]).select(&Proxy::new(&dataplane, "east"));
    let api = service("api");
    let destination = Destination { resource: &api, section: "http", port: 80 };
    let positions: Vec<_> = selected
        .to_positions(&destination)
        .into_iter()
        .map(|(policy, at)| (policy.resource.name().to_owned(), at))
        .collect();
    assert_eq!(positions, [("b".into(), 0), ("b".into(), 2), ("a".into(), 0), ("b".into(), 1)]);
    let origins = selected.to(&destination).map(|conf| conf.policies.len());
    assert_eq!(origins, Some(2));
}

fn service(name: &str) -> Resource {
    Resource::builder(Key::new(kind("MeshService"), "default", name)).label("app", name).build()
}

fn to(items: &[(Value, &str)]) -> Value {
    let item =
        |(target, idle): &(Value, &str)| json!({"targetRef": target, "default": {"idleTimeout": idle}});
    json!({"to": items.iter().map(item).collect::<Vec<_>>()})
}

#[test]
fn outbound_items_apply_from_the_mesh_to_the_section() {
    let spec = to(&[
        (json!({"kind": "MeshService", "labels": {"app": "db"}, "sectionName": "main"}), "3s"),
        (json!({"kind": "MeshService", "name": "db"}), "2s"),
        (json!({"kind": "Mesh"}), "1s"),
        (json!({"kind": "MeshMultiZoneService", "name": "db"}), "9s"),
    ]);
    let set = PolicySet::new([&timeout("p", &[], &spec)]);
    let dataplane = dataplane();
    let selected = set.select(&Proxy::new(&dataplane, "east"));
    let idle = |name: &str, section: &str, port| {
        let resource = service(name);
        let destination = Destination { resource: &resource, section, port };
        selected.to(&destination).map(|conf| conf.value["idleTimeout"].clone())
    };
    assert_eq!(idle("db", "main", 5432), Some(json!("3s")));
    assert_eq!(idle("db", "other", 80), Some(json!("2s")));
    assert_eq!(idle("web", "80", 80), Some(json!("1s")));
}

#[test]
fn a_route_has_a_configuration_only_where_a_policy_names_it() {
    let spec = to(&[
        (json!({"kind": "Mesh"}), "1s"),
        (json!({"kind": "MeshHTTPRoute", "name": "r", "sectionName": "rule_0"}), "2s"),
    ]);
    let set = PolicySet::new([&timeout("p", &[], &spec)]);
    let dataplane = dataplane();
    let selected = set.select(&Proxy::new(&dataplane, "east"));
    let route = Resource::builder(Key::new(kind("MeshHTTPRoute"), "default", "r")).build();
    let conf = |section| selected.to_route(&RouteRule { resource: &route, section });
    assert_eq!(conf("rule_0").map(|conf| conf.value), Some(json!({"idleTimeout": "2s"})));
    assert_eq!(conf("rule_1"), None);
}

#[test]
fn unmerged_items_keep_the_merge_order() {
    let low = timeout("low", &[], &to(&[(json!({"kind": "Mesh"}), "1s")]));
    let high = timeout("high", &[], &to(&[(json!({"kind": "MeshService", "name": "db"}), "2s")]));
    let set = PolicySet::new([&high, &low]);
    let dataplane = dataplane();
    let selected = set.select(&Proxy::new(&dataplane, "east"));
    let resource = service("db");
    let items = selected.to_each(&Destination { resource: &resource, section: "80", port: 80 });
    let names: Vec<_> = items.iter().map(|(policy, _)| policy.resource.name()).collect();
    assert_eq!(names, ["low", "high"]);
}

#[test]
fn the_proxy_view_merges_and_tells_where_it_came_from() {
    let low = timeout("b", &[], &json!({"default": {"a": 1, "appendX": [1], "c": {"d": 1}}}));
    let high = timeout("a", &[], &json!({"default": {"a": 2, "appendX": [2], "c": {"e": 2}}}));
    let set = PolicySet::new([&high, &low]);
    let dataplane = dataplane();
    let conf = set.select(&Proxy::new(&dataplane, "east")).proxy().expect("both apply");
    assert_eq!(conf.value, json!({"a": 2, "appendX": [1, 2], "c": {"d": 1, "e": 2}}));
    let names: Vec<_> = conf.policies.iter().map(|kri| kri.name.as_str()).collect();
    assert_eq!(names, ["b", "a"]);
}

fn some_policy() -> impl Strategy<Value = (Value, bool, bool)> {
    let target = prop_oneof![
        Just(json!({"kind": "Mesh"})),
        Just(json!({"kind": "Dataplane"})),
        Just(json!({"kind": "Dataplane", "labels": {"app": "web"}})),
        Just(json!({"kind": "Dataplane", "sectionName": "web"})),
    ];
    let default = prop_oneof![
        (0..4u8).prop_map(|value| json!({"a": value})),
        (0..4u8).prop_map(|value| json!({"b": {"c": value}})),
        (0..4u8).prop_map(|value| json!({"appendX": [value]})),
    ];
    (target, default, any::<bool>(), any::<bool>()).prop_map(|(target, default, zone, role)| {
        let spec = json!({
            "targetRef": target,
            "rules": [{"default": default.clone()}],
            "to": [{"targetRef": {"kind": "Mesh"}, "default": default.clone()}],
            "default": default,
        });
        (spec, zone, role)
    })
}

proptest! {
    #[test]
    fn arrival_order_changes_nothing(
        (arrived, sorted) in prop::collection::vec(some_policy(), 0..8).prop_flat_map(|specs| {
            let policies: Vec<_> = specs.iter().enumerate().map(|(at, (spec, zone, producer))| {
                let mut labels = vec![];
                if *zone {
                    labels.push(("kuma.io/origin", "zone"));
                }
                if *producer {
                    labels.push(("kuma.io/policy-role", "producer"));
                }
                timeout(&format!("p{at}"), &labels, spec)
            }).collect();
            (Just(policies.clone()).prop_shuffle(), Just(policies))
        })
    ) {
        let dataplane = dataplane();
        let proxy = Proxy::new(&dataplane, "east");
        let web = section(80, "web");
        let (a, b) = (PolicySet::new(&arrived).select(&proxy), PolicySet::new(&sorted).select(&proxy));
        prop_assert_eq!(a.rules(&web), b.rules(&web));
        prop_assert_eq!(a.proxy(), b.proxy());
    }

    #[test]
    fn a_policy_that_selects_nothing_changes_nothing(
        policies in prop::collection::vec(some_policy(), 0..6),
        (idle, elsewhere, at) in (some_policy(), 0..5usize, 0..7usize)
    ) {
        let mut policies: Vec<_> = policies
            .iter()
            .enumerate()
            .map(|(at, (spec, ..))| timeout(&format!("p{at}"), &[], spec))
            .collect();
        let mut spec = idle.0;
        let mut labels = vec![];
        match elsewhere {
            0 => spec["targetRef"] = json!({"kind": "Dataplane", "labels": {"app": "db"}}),
            1 => spec["targetRef"] = json!({"kind": "Dataplane", "sectionName": "db"}),
            2 => labels.push(("kuma.io/effect", "shadow")),
            3 => labels.extend([("kuma.io/origin", "zone"), ("kuma.io/zone", "west")]),
            _ => labels.extend([("kuma.io/policy-role", "consumer"), ("k8s.kuma.io/namespace", "other")]),
        }
        let dataplane = dataplane();
        let proxy = Proxy::new(&dataplane, "east");
        let before = PolicySet::new(&policies).select(&proxy);
        policies.insert(at.min(policies.len()), timeout("idle", &labels, &spec));
        let after = PolicySet::new(&policies).select(&proxy);
        for section in [section(80, "web"), section(81, "")] {
            prop_assert_eq!(before.rules(&section), after.rules(&section));
        }
        prop_assert_eq!(before.proxy(), after.proxy());
        let db = service("db");
        let destination = Destination { resource: &db, section: "80", port: 80 };
        prop_assert_eq!(before.to(&destination), after.to(&destination));
    }
}
