//! What the control plane says of itself: version, configuration, kinds, and who is asking.

use auth::access::Permission;
use axum::extract::State;
use model::kind::Flow;
use model::labels::Plane;
use model::{Kind, Scope};
use serde_json::{Value, json};

use super::call::{Answer, Call};
use crate::app::Shared;
use crate::json;
use crate::problem::Problem;

/// What clients of the peer insist on.
const PRODUCT: &str = "Kuma";
/// The peer's version whose API this is. The peer's own client compares versions, and takes one that
/// contains `preview` for what it is: another build.
const API_VERSION: &str = "3.0.0-preview.isthmus";

/// GET of the start page.
pub(super) async fn index(State(app): State<Shared>) -> Answer {
    let build = &app.api.build;
    let plane = app.plane();
    let mode = if *plane == Plane::Global { "global" } else { "zone" };
    let hostname = build.instance_id.rsplit_once('-').map_or(build.instance_id.as_str(), |(host, _)| host);
    Ok(json::ok(&json!({
        "hostname": hostname,
        "product": PRODUCT,
        "version": API_VERSION,
        "instanceId": build.instance_id,
        "clusterId": build.cluster_id,
        "gui": "",
        "implementation": {"name": "Isthmus", "version": build.version, "mode": mode, "zone": plane.zone()},
    })))
}

/// GET of the effective configuration.
pub(super) async fn config(State(app): State<Shared>, call: Call) -> Answer {
    let access = &app.config.access;
    let thing = "control plane metadata";
    access.check(Permission::ControlPlaneMetadata, &call.user, thing).map_err(Problem::from)?;
    Ok(json::ok(&app.api.config_json))
}

/// GET of who is asking.
pub(super) async fn who_am_i(call: Call) -> Answer {
    Ok(json::ok(&json!({"name": call.user.name, "groups": call.user.groups})))
}

/// GET of the policy kinds.
pub(super) async fn policies(State(app): State<Shared>) -> Answer {
    let policies = Kind::all().filter_map(|kind| kind.policy.map(|policy| (kind, policy)));
    let policies: Vec<Value> = policies
        .map(|(kind, policy)| {
            json!({
                "name": kind.name,
                "readOnly": app.config.read_only || app.plane().is_read_only(kind),
                "path": kind.path,
                "singularDisplayName": kind.singular,
                "pluralDisplayName": kind.plural,
                "isExperimental": false,
                "isTargetRefBased": true,
                "isInbound": policy.rules,
                "isOutbound": policy.to,
            })
        })
        .collect();
    Ok(json::ok(&json!({"policies": policies})))
}

/// GET of all kinds with a path.
pub(super) async fn resources(State(app): State<Shared>) -> Answer {
    let all_read_only = app.config.read_only || app.plane().is_federated_zone();
    let resources: Vec<Value> = Kind::all()
        .filter(|kind| kind.path.is_some())
        .map(|kind| {
            let federated = kind.flow.has(Flow::GLOBAL_TO_ZONE) && !kind.read_only;
            let mut resource = json!({
                "includeInFederation": federated,
                "name": kind.name,
                "path": kind.path,
                "pluralDisplayName": kind.plural,
                "readOnly": all_read_only || kind.read_only,
                "scope": match kind.scope {
                    Scope::Global => "Global",
                    Scope::Mesh => "Mesh",
                },
                "shortName": kind.short.unwrap_or_default(),
                "singularDisplayName": kind.singular,
            });
            if let Some(policy) = kind.policy {
                resource["policy"] = json!({
                    "hasFromTargetRef": false,
                    "hasToTargetRef": policy.to,
                    "hasRulesTargetRef": policy.rules,
                    "isTargetRef": true,
                    "isFromAsRules": false,
                });
            }
            resource
        })
        .collect();
    Ok(json::ok(&json!({"resources": resources})))
}
