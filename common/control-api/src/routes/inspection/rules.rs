//! Every rule of a proxy with the policies it came from.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use model::spec::TargetRef;
use model::{Key, Kind, Resource};
use policy::{Destination, InboundItem, Policy, Selected, merge};
use serde::Deserialize;
use serde_json::{Value, json};

use super::destination::ports;
use super::{Inspected, conf, is_route, route};
use crate::app::Shared;
use crate::json;
use crate::routes::call::Answer;

/// GET of all rules of a proxy.
pub(super) async fn get(State(app): State<Shared>, Path((mesh, name)): Path<(String, String)>) -> Answer {
    let inspected = Inspected::of(&app, &mesh, &name)?;
    let mut matches: BTreeMap<String, Value> = BTreeMap::new();
    let mut rules = Vec::new();
    for (kind, selected) in inspected.all_selected() {
        let inbound = inbound_rules(&inspected, &selected);
        let to = to_rules(&inspected, kind, &selected, &mut matches);
        let mut rule =
            json!({"type": kind.name, "inboundRules": inbound, "toResourceRules": to, "warnings": []});
        let whole = proxy_rule(kind, &selected);
        if inbound.is_empty() && to.is_empty() && whole.is_none() {
            continue;
        }
        if let (Some(whole), Some(fields)) = (whole, rule.as_object_mut()) {
            fields.insert("proxyRule".into(), whole);
        }
        rules.push(rule);
    }
    let matches: Vec<_> =
        matches.into_iter().map(|(hash, one)| json!({"hash": hash, "match": one})).collect();
    Ok(json::ok(&json!({"httpMatches": matches, "resource": meta(&inspected.dataplane), "rules": rules})))
}

/// What identifies a resource in these answers.
pub(super) fn meta(resource: &Resource) -> Value {
    json!({
        "labels": resource.labels(),
        "mesh": resource.mesh(),
        "name": resource.name(),
        "type": resource.kind().name,
    })
}

fn origin(policy: &Policy, index: usize) -> Value {
    json!({"resourceMeta": meta(&policy.resource), "ruleIndex": index})
}

fn proxy_rule(kind: Kind, selected: &Selected) -> Option<Value> {
    // Kinds with lists keep what they say there.
    if kind.policy.is_some_and(|policy| policy.to || policy.rules) {
        return None;
    }
    let found = selected.proxy()?;
    let origin: Vec<_> = selected
        .policies()
        .filter(|policy| found.policies.contains(&policy.kri))
        .map(|policy| meta(&policy.resource))
        .collect();
    Some(json!({"conf": conf::shown(&found.value), "origin": origin}))
}

fn inbound_rules(inspected: &Inspected, selected: &Selected) -> Vec<Value> {
    let mut sections = inspected.proxy().sections;
    sections.sort_by_key(|section| section.port);
    let mut shown = Vec::new();
    for section in &sections {
        let rules: Vec<_> = selected.rule_items(section).iter().map(inbound_rule).collect();
        if rules.is_empty() {
            continue;
        }
        let mut inbound = json!({"port": section.port, "tags": null});
        if let Some(fields) = inbound.as_object_mut().filter(|_| !section.name.is_empty()) {
            fields.insert("name".into(), json!(section.name));
        }
        shown.push(json!({"inbound": inbound, "rules": rules}));
    }
    shown
}

fn inbound_rule(item: &InboundItem<'_>) -> Value {
    let mut rule = json!({"conf": [conf::shown(item.conf)], "origin": [origin(item.policy, item.index)]});
    if let (Some(matches), Some(fields)) = (item.matches, rule.as_object_mut()) {
        fields.insert("match".into(), matches.clone());
    }
    rule
}

/// Something that `to` items name: a resource, or a section of it.
struct Target {
    resource: Arc<Resource>,
    section: String,
    port: u32,
}

impl Target {
    fn as_destination(&self) -> Destination<'_> {
        Destination { resource: &self.resource, section: &self.section, port: self.port }
    }
}

fn to_rules(
    inspected: &Inspected,
    kind: Kind,
    selected: &Selected,
    matches: &mut BTreeMap<String, Value>,
) -> Vec<Value> {
    let mut shown = Vec::new();
    for target in targets(inspected, selected).values() {
        let positions = selected.to_positions(&target.as_destination());
        let origins: Vec<_> = positions.iter().map(|(policy, index)| origin(policy, *index)).collect();
        let conf = if is_route(kind) {
            let rules = policy::routed(&positions);
            let rules = rules.iter().map(|rule| {
                if rule.matches.is_null() {
                    return json!({"default": conf::shown(&rule.conf)});
                }
                matches.insert(route::hash(&rule.matches), rule.matches.clone());
                json!({"matches": rule.matches, "default": conf::shown(&rule.conf)})
            });
            json!({"rules": rules.collect::<Vec<_>>()})
        } else {
            let mut conf = Value::Null;
            for (_, item) in route::items(&positions) {
                merge(&mut conf, item.get("default").unwrap_or(&Value::Null));
            }
            conf::shown(&conf)
        };
        let mut of = meta(&target.resource);
        if let (true, Some(fields)) = (target.resource.kind() == Kind::MESH, of.as_object_mut()) {
            fields.insert("mesh".into(), json!(""));
        }
        shown.push(json!({
            "conf": [conf],
            "origin": origins,
            "resourceMeta": of,
            "resourceSectionName": target.section,
        }));
    }
    shown
}

/// Everything that the `to` items of policies name, ordered by kind, name and section.
fn targets(inspected: &Inspected, selected: &Selected) -> BTreeMap<(Kind, String, String), Target> {
    let mut found = BTreeMap::new();
    let mut add = |target: Target| {
        let key = (target.resource.kind(), target.resource.name().to_owned(), target.section.clone());
        found.entry(key).or_insert(target);
    };
    let items = selected
        .policies()
        .filter(|policy| policy.section_name().is_none())
        .flat_map(|policy| policy.items("to").enumerate().map(move |at| (policy, at)));
    for (policy, (index, item)) in items {
        let Some(reference) = item.get("targetRef").and_then(|one| TargetRef::deserialize(one).ok()) else {
            continue;
        };
        let Some(kind) = Kind::by_name(&reference.kind) else { continue };
        if kind == Kind::MESH {
            let mesh = inspected.snapshot.resource(&Key::global(Kind::MESH, inspected.mesh()));
            mesh.into_iter()
                .for_each(|mesh| add(Target { resource: Arc::clone(mesh), section: String::new(), port: 0 }));
            continue;
        }
        let section = reference.section_name.clone().unwrap_or_default();
        for resource in inspected.of_kind(kind) {
            let port =
                ports(resource).into_iter().find(|port| port.is(&section)).map_or(0, |port| port.number);
            let target = Target { resource: Arc::clone(resource), section: section.clone(), port };
            // A section that the resource has not is named by nobody.
            let exists = section.is_empty() || port > 0 || kind == Kind::MESH_HTTP_ROUTE;
            if exists && policy.item_applies(index, &target.as_destination()) {
                add(target);
            }
        }
    }
    found
}
