//! The policies of a proxy, of one of its inbounds, and of one of its outbounds and its routes.

use axum::extract::{Path, State};
use model::{Kind, Kri};
use policy::{Conf, RouteRule};
use serde_json::{Value, json};

use super::{Inspected, conf, destination, is_route, route};
use crate::app::Shared;
use crate::json;
use crate::problem::Problem;
use crate::routes::call::Answer;
use crate::routes::kri;

/// GET of the policies that configure a proxy as a whole.
pub(super) async fn of_proxy(
    State(app): State<Shared>,
    Path((mesh, name)): Path<(String, String)>,
) -> Answer {
    let inspected = Inspected::of(&app, &mesh, &name)?;
    let policies = inspected.all_selected().filter_map(|(kind, selected)| {
        let found = selected.proxy()?;
        Some(json!({"kind": kind.name, "conf": conf::shown(&found.value), "origins": origins(&found.policies)}))
    });
    Ok(answer("policies", policies.collect()))
}

/// GET of the policies of one inbound, rule by rule.
pub(super) async fn of_inbound(
    State(app): State<Shared>,
    Path((mesh, name, inbound)): Path<(String, String, String)>,
) -> Answer {
    let inspected = Inspected::of(&app, &mesh, &name)?;
    let wanted = kri::parse(&inbound)?;
    let sections = inspected.proxy().sections;
    let section = sections.iter().find(|section| section.is(&wanted.section));
    let section = section.ok_or_else(|| Problem::not_found("Could not retrieve the inbound"))?;
    let policies = inspected.all_selected().filter_map(|(kind, selected)| {
        let mut found: Vec<&Kri> = Vec::new();
        let mut rules = Vec::new();
        for item in selected.rule_items(section) {
            rules.push(json!({"kri": item.policy.kri, "conf": conf::shown(item.conf)}));
            if !found.contains(&&item.policy.kri) {
                found.push(&item.policy.kri);
            }
        }
        (!rules.is_empty()).then(|| json!({"kind": kind.name, "origins": origins(found), "rules": rules}))
    });
    Ok(answer("policies", policies.collect()))
}

/// GET of the policies of one outbound.
pub(super) async fn of_outbound(
    State(app): State<Shared>,
    Path((mesh, name, outbound)): Path<(String, String, String)>,
) -> Answer {
    let inspected = Inspected::of(&app, &mesh, &name)?;
    let port = destination::of_path(&inspected, &outbound)?;
    let policies = inspected
        .all_selected()
        .filter(|(kind, _)| !is_route(*kind))
        .filter_map(|(kind, selected)| Some(merged(kind, &selected.to(&port.as_target())?)));
    Ok(answer("policies", policies.collect()))
}

/// GET of the policies of a route of one outbound: what names the route, else what the outbound has.
pub(super) async fn of_route(
    State(app): State<Shared>,
    Path((mesh, name, outbound, route)): Path<(String, String, String, String)>,
) -> Answer {
    let inspected = Inspected::of(&app, &mesh, &name)?;
    let wanted = kri::parse(&route)?;
    let port = destination::of_path(&inspected, &outbound)?;
    let route = destination::named(&inspected, &wanted);
    let route = route.ok_or_else(|| Problem::not_found("Could not retrieve the route"))?;
    let rule = RouteRule { resource: route, section: &wanted.section };
    let policies =
        inspected.all_selected().filter(|(kind, _)| !is_route(*kind)).filter_map(|(kind, selected)| {
            let found = selected.to_route(&rule).or_else(|| selected.to(&port.as_target()))?;
            Some(merged(kind, &found))
        });
    Ok(answer("policies", policies.collect()))
}

/// GET of the routes of one outbound.
pub(super) async fn routes(
    State(app): State<Shared>,
    Path((mesh, name, outbound)): Path<(String, String, String)>,
) -> Answer {
    let inspected = Inspected::of(&app, &mesh, &name)?;
    let port = destination::of_path(&inspected, &outbound)?;
    let routes =
        inspected.all_selected().filter(|(kind, _)| is_route(*kind)).filter_map(|(kind, selected)| {
            let positions = selected.to_positions(&port.as_target());
            let mut found: Vec<&Kri> = Vec::new();
            for (policy, _) in &positions {
                if !found.contains(&&policy.kri) {
                    found.push(&policy.kri);
                }
            }
            let rules: Vec<_> =
                policy::routed(&positions).iter().map(|rule| route::shown(kind, rule)).collect();
            (!rules.is_empty()).then(|| json!({"kind": kind.name, "origins": origins(found), "rules": rules}))
        });
    Ok(answer("routes", routes.collect()))
}

fn merged(kind: Kind, found: &Conf) -> Value {
    json!({"kind": kind.name, "conf": [conf::shown(&found.value)], "origins": origins(&found.policies)})
}

fn origins<'a>(policies: impl IntoIterator<Item = &'a Kri>) -> Vec<Value> {
    policies.into_iter().map(|kri| json!({"kri": kri})).collect()
}

fn answer(key: &str, items: Vec<Value>) -> axum::response::Response {
    json::ok(&json!({key: items}))
}
