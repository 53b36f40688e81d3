//! Calls of the application to destinations: a listener on the destination's addresses and the cluster behind it.

use std::sync::Arc;

use envoy_api::envoy::config::core::v3::{HeaderValue, HeaderValueOption, TrafficDirection};
use envoy_api::envoy::config::listener::v3::{AdditionalAddress, Listener};
use envoy_api::envoy::config::route::v3::route_action::HostRewriteSpecifier;
use envoy_api::envoy::config::route::v3::{Route, RouteAction};
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use model::Labels;
use model::spec::Protocol;

use super::Context;
use crate::draft::{Chain, Cluster, Draft, Filter, Role};
use crate::metadata::Feature;
use crate::outbounds::Outbound;
use crate::parts::{
    TAGS_HEADER, eds_cluster, exact_names, grpc_stats, http_manager, http_version, listener_tags,
    prefix_route, route_configuration, socket, stat_name, tcp_proxy, to_cluster, unified_name, upstream_tls,
};
use crate::view::Destination;

/// Name of the route that takes what no other takes: base64 of the SHA-256 of its match, `/` as prefix.
const CATCH_ALL: &str = "9Zuf5Tg79OuZcQITwBbQykxAk2u4fRKrwYn3//AL4Yo=";

/// Adds the outbounds of the proxy.
pub(crate) fn add(context: &Context<'_>, draft: &mut Draft) {
    for outbound in &context.outbounds {
        add_cluster(context, &outbound.destination, draft);
        add_listener(context, outbound, draft);
    }
}

/// The cluster that calls a destination, and its endpoints.
fn add_cluster(context: &Context<'_>, destination: &Arc<Destination>, draft: &mut Draft) {
    let name = &destination.name;
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

fn add_listener(context: &Context<'_>, outbound: &Outbound, draft: &mut Draft) {
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
    let filter = if destination.protocol.is_http() {
        Filter::Http(Box::new(manager(context, destination)))
    } else {
        Filter::Tcp(Box::new(tcp_proxy(&name, &name)))
    };
    let chain = Chain { filters: vec![filter], ..Chain::default() };
    draft.add_listener(Role::Outbound(Arc::clone(destination)), listener, vec![chain]);
}

fn manager(context: &Context<'_>, destination: &Destination) -> HttpConnectionManager {
    let name = &destination.name;
    let mut routes = route_configuration(name, name, vec![catch_all(destination)]);
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

fn catch_all(destination: &Destination) -> Route {
    let action = RouteAction {
        host_rewrite_specifier: destination
            .is_external()
            .then_some(HostRewriteSpecifier::AutoHostRewrite(true)),
        ..to_cluster(&destination.name)
    };
    Route { name: CATCH_ALL.into(), ..prefix_route("/", action) }
}

/// Labels of the caller, for faults that are injected by them.
fn tags_header(labels: &Labels) -> HeaderValueOption {
    let tags: Vec<_> = labels.iter().map(|(key, value)| format!("&{key}={value}&")).collect();
    let header = HeaderValue { key: TAGS_HEADER.into(), value: tags.concat(), ..HeaderValue::default() };
    HeaderValueOption { header: Some(header), ..HeaderValueOption::default() }
}
