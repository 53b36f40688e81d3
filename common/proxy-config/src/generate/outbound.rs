//! Calls of the application to destinations: a listener on the destination's addresses and the cluster behind it.

use std::sync::Arc;

use envoy_api::envoy::config::core::v3::TrafficDirection;
use envoy_api::envoy::config::listener::v3::{AdditionalAddress, Listener};
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_api::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_api::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::weighted_cluster::ClusterWeight;
use envoy_api::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::{
    ClusterSpecifier, WeightedCluster,
};
use model::spec::Protocol;

use super::{Context, http_routes};
use crate::draft::{Chain, Cluster, Draft, Filter, Role};
use crate::metadata::Feature;
use crate::outbounds::Outbound;
use crate::parts::{
    eds_cluster, empty_cluster, exact_names, grpc_stats, http_manager, http_version, listener_tags,
    route_configuration, socket, stat_name, tags_header, tcp_proxy, unified_name, upstream_tls,
};
use crate::routes::{HttpRule, Plan, Routes, Split};
use crate::view::Destination;

/// Takes connections for backends that are not there, and refuses them.
const NO_BACKEND: &str = "self_route_no_backend";

/// Adds the outbounds of the proxy, and what their routes lead to.
pub(crate) fn add(context: &Context<'_>, draft: &mut Draft) {
    let routes = Routes::new(context.view, |kind| context.policies(kind));
    for outbound in &context.outbounds {
        let plan = routes.plan(&outbound.destination);
        for destination in plan.destinations() {
            add_cluster(context, destination, draft);
        }
        if matches!(&plan, Plan::Tcp(split) if split.missing > 0 || split.backends.is_empty()) {
            draft.add_cluster(Cluster::new(Role::System, empty_cluster(NO_BACKEND)));
        }
        add_listener(context, outbound, &plan, draft);
    }
}

/// The cluster that calls a destination, and its endpoints.
fn add_cluster(context: &Context<'_>, destination: &Arc<Destination>, draft: &mut Draft) {
    let name = &destination.name;
    if draft.clusters.contains_key(&**name) {
        return;
    }
    // Proxies speak HTTP/2 among each other; what leaves the mesh keeps its version.
    let spoken = if destination.is_external() { destination.protocol } else { Protocol::Http2 };
    let identity = context.identity.filter(|_| destination.accepts_tls);
    let tls = identity.map(|identity| {
        let names = exact_names(destination.identities.iter().map(String::as_str));
        upstream_tls(identity, names, &destination.sni)
    });
    let role = Role::Outbound(Arc::clone(destination));
    draft.add_cluster(Cluster { http: http_version(spoken), tls, ..Cluster::new(role, eds_cluster(name)) });
    draft.assignments.insert(Arc::clone(name), destination.assignment.clone());
}

fn add_listener(context: &Context<'_>, outbound: &Outbound, plan: &Plan, draft: &mut Draft) {
    let destination = &outbound.destination;
    let name = destination.name.to_string();
    let mut addresses = outbound.addresses.iter().map(|(address, port)| socket(*address, *port));
    let redirected = context.transparent.is_some() && !context.has(Feature::BindOutbounds);
    let listener = Listener {
        stat_prefix: stat_name(&name),
        address: addresses.next(),
        additional_addresses: addresses
            .map(|address| AdditionalAddress { address: Some(address), ..AdditionalAddress::default() })
            .collect(),
        traffic_direction: TrafficDirection::Outbound.into(),
        bind_to_port: redirected.then_some(false),
        metadata: listener_tags(&unified_name(&name)),
        name: name.clone(),
        ..Listener::default()
    };
    let filter = match plan {
        Plan::Http(rules) => Filter::Http(Box::new(manager(context, destination, rules))),
        Plan::Tcp(split) => Filter::Tcp(Box::new(forward(&name, split))),
    };
    let chain = Chain { filters: vec![filter], origins: http_routes::origins(plan), ..Chain::default() };
    draft.add_listener(Role::Outbound(Arc::clone(destination)), listener, vec![chain]);
}

fn manager(context: &Context<'_>, destination: &Destination, rules: &[HttpRule]) -> HttpConnectionManager {
    let name = &destination.name;
    let mut routes = route_configuration(name, name, http_routes::routes(rules));
    if context.view.tags_in_header() {
        routes.request_headers_to_add = vec![tags_header(context.proxy.dataplane.labels())];
    }
    let mut manager = HttpConnectionManager {
        normalize_path: Some(true),
        ..http_manager(name, routes, context.internal())
    };
    if destination.protocol == Protocol::Grpc {
        manager.http_filters.insert(0, grpc_stats());
    }
    manager
}

/// Forwards connections to backends by their weights. Those for backends that are not there are refused, as many as
/// these would have got.
fn forward(name: &str, split: &Split) -> TcpProxy {
    let shares = split.backends.iter().map(|(destination, weight)| (&*destination.name, *weight));
    let lost = (split.missing > 0 || split.backends.is_empty()).then_some((NO_BACKEND, split.missing.max(1)));
    let shares: Vec<_> = shares.chain(lost).collect();
    if let [(cluster, _)] = shares.as_slice() {
        return tcp_proxy(name, cluster);
    }
    let clusters = shares.into_iter().map(|(cluster, weight)| ClusterWeight {
        name: cluster.into(),
        weight,
        ..ClusterWeight::default()
    });
    let clusters = WeightedCluster { clusters: clusters.collect() };
    TcpProxy {
        cluster_specifier: Some(ClusterSpecifier::WeightedClusters(clusters)),
        ..tcp_proxy(name, name)
    }
}
