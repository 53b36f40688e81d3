//! Rules for requests as Envoy's routes.

mod filters;
mod matches;

use std::collections::BTreeMap;

use envoy_api::envoy::config::core::v3::RuntimeFractionalPercent;
use envoy_api::envoy::config::route::v3::route::Action;
use envoy_api::envoy::config::route::v3::route_action::{
    ClusterSpecifier, HostRewriteSpecifier, RequestMirrorPolicy,
};
use envoy_api::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use envoy_api::envoy::config::route::v3::{DirectResponseAction, Route, RouteAction, WeightedCluster};

use crate::draft::Origin;
use crate::policies::percent::fraction;
use crate::routes::{HttpRule, Mirror, Plan, Split};

pub(crate) use matches::{header, header_is};

/// Name of the route that takes what no other takes: base64 of the SHA-256 of its match, `/` as prefix.
const CATCH_ALL: &str = "9Zuf5Tg79OuZcQITwBbQykxAk2u4fRKrwYn3//AL4Yo=";

/// What callers are told whose backend is not there.
const NO_BACKEND: u32 = 500;

/// Where the routes of a plan come from, by name.
pub(super) fn origins(plan: &Plan) -> BTreeMap<String, Origin> {
    match plan {
        Plan::Http(rules) => rules
            .iter()
            .filter_map(|rule| rule.origin.clone())
            .map(|origin| (origin.name(), origin))
            .collect(),
        Plan::Tcp(_) => BTreeMap::new(),
    }
}

/// The routes of rules, in their order.
pub(super) fn routes(rules: &[HttpRule]) -> Vec<Route> {
    rules.iter().flat_map(routes_of).collect()
}

/// One or two routes for a rule: a prefix means whole segments of a path, the path itself and what is below it. Where
/// some of the backends are not there, a route before takes their share.
fn routes_of(rule: &HttpRule) -> Vec<Route> {
    let name = rule.origin.as_ref().map_or_else(|| CATCH_ALL.to_owned(), Origin::name);
    let mut routes = Vec::new();
    for shape in matches::shapes(&rule.matches) {
        let mut route = Route { name: name.clone(), action: Some(action(rule)), ..Route::default() };
        filters::apply(&rule.filters, &shape, &mut route);
        let share = Some(rule.split.lost()).filter(|lost| *lost > 0.0 && *lost < 1.0);
        if let (Some(Action::Route(_)), Some(share)) = (&route.action, share) {
            let mut lost = Route { action: Some(no_backend()), ..route.clone() };
            let mut matched = shape.matches.clone();
            matched.runtime_fraction = Some(RuntimeFractionalPercent {
                default_value: Some(fraction(share * 100.0)),
                ..RuntimeFractionalPercent::default()
            });
            lost.r#match = Some(matched);
            routes.push(lost);
        }
        route.r#match = Some(shape.matches);
        routes.push(route);
    }
    routes
}

fn no_backend() -> Action {
    Action::DirectResponse(DirectResponseAction { status: NO_BACKEND, ..DirectResponseAction::default() })
}

fn action(rule: &HttpRule) -> Action {
    let Some(clusters) = clusters(&rule.split) else { return no_backend() };
    // What is outside the mesh knows its own host only.
    let external = rule.split.destinations().any(|destination| destination.is_external());
    Action::Route(RouteAction {
        cluster_specifier: Some(clusters),
        host_rewrite_specifier: external.then_some(HostRewriteSpecifier::AutoHostRewrite(true)),
        request_mirror_policies: rule.mirrors.iter().map(mirror).collect(),
        ..RouteAction::default()
    })
}

fn clusters(split: &Split) -> Option<ClusterSpecifier> {
    if let [(destination, _)] = split.backends.as_slice() {
        return Some(ClusterSpecifier::Cluster(destination.name.to_string()));
    }
    let clusters = split.backends.iter().map(|(destination, weight)| ClusterWeight {
        name: destination.name.to_string(),
        weight: Some(*weight),
        ..ClusterWeight::default()
    });
    let clusters: Vec<_> = clusters.collect();
    let some = !clusters.is_empty();
    some.then_some(ClusterSpecifier::WeightedClusters(WeightedCluster {
        clusters,
        ..WeightedCluster::default()
    }))
}

fn mirror(mirror: &Mirror) -> RequestMirrorPolicy {
    let fraction = mirror.share.map(|share| RuntimeFractionalPercent {
        default_value: Some(fraction(share)),
        ..RuntimeFractionalPercent::default()
    });
    RequestMirrorPolicy {
        cluster: mirror.destination.name.to_string(),
        runtime_fraction: fraction,
        ..RequestMirrorPolicy::default()
    }
}
