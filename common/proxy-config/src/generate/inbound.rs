//! Calls to the application: a listener in front of each inbound and a cluster behind it.

use std::net::IpAddr;

use envoy_api::envoy::config::core::v3::TrafficDirection;
use envoy_api::envoy::config::listener::v3::Listener;
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    ForwardClientCertDetails, SetCurrentClientCertDetails,
};
use kds_proto::mesh::dataplane::networking::Inbound;
use kds_proto::mesh::dataplane::networking::inbound::State;
use model::spec::Protocol;
use policy::Section;

use super::Context;
use crate::draft::{Chain, Cluster, Draft, Filter, Role};
use crate::parts::{
    TAGS_HEADER, bind_passthrough, grpc_stats, http_manager, http_version, listener_tags, prefix_route,
    route_configuration, seconds, socket, stat_name, static_cluster, tcp_proxy, to_cluster, unified_name,
};
use crate::view::inbound_address;

/// Twice the time that a request may be idle unless a policy says otherwise: routes say it more precisely.
const STREAM_IDLE_SECONDS: i64 = 2 * 30 * 60;

/// Adds the inbounds. One without an address or with a port that is none is left out.
pub(crate) fn add(context: &Context<'_>, draft: &mut Draft) {
    let used = context.networking.inbound.iter().filter(|inbound| inbound.state() != State::Ignored);
    for inbound in used {
        let Some(address) = context.view.resolve(inbound_address(context.networking, inbound)) else {
            continue;
        };
        if u16::try_from(inbound.port).is_ok_and(|port| port > 0) {
            add_one(context, inbound, address, draft);
        }
    }
}

fn add_one(context: &Context<'_>, inbound: &Inbound, address: IpAddr, draft: &mut Draft) {
    let section = Section { name: inbound.name.clone(), port: inbound.port };
    let label = if inbound.name.is_empty() { inbound.port.to_string() } else { inbound.name.clone() };
    let name = format!("self_inbound_dp_{label}");
    let protocol = Protocol::parse(&inbound.protocol).unwrap_or_default();
    let role = Role::Inbound { section, protocol };
    let Some(cluster) = cluster(context, inbound, address, &name) else { return };
    let cluster = Cluster { http: http_version(protocol), ..Cluster::new(role.clone(), cluster) };
    draft.add_cluster(cluster);
    let labels = context.proxy.dataplane.labels();
    let tags = if labels.is_empty() { listener_tags(&unified_name(&name)) } else { listener_tags(labels) };
    let listener = Listener {
        stat_prefix: stat_name(&name),
        address: Some(socket(address, inbound.port)),
        traffic_direction: TrafficDirection::Inbound.into(),
        bind_to_port: context.transparent.as_ref().map(|_| false),
        enable_reuse_port: context.reuse_port(),
        metadata: tags,
        name: name.clone(),
        ..Listener::default()
    };
    let chain = Chain { filters: vec![filter(context, protocol, &name)], ..Chain::default() };
    draft.add_listener(role, listener, vec![chain]);
}

fn cluster(
    context: &Context<'_>,
    inbound: &Inbound,
    address: IpAddr,
    name: &str,
) -> Option<envoy_api::envoy::config::cluster::v3::Cluster> {
    let workload = match inbound.service_address.as_str() {
        "" => address,
        declared => declared.parse().ok()?,
    };
    let port = if inbound.service_port == 0 { inbound.port } else { inbound.service_port };
    u16::try_from(port).ok()?;
    let mut cluster = static_cluster(name, socket(workload, port));
    if context.transparent.is_some() && !workload.is_loopback() {
        cluster.upstream_bind_config = bind_passthrough(workload.is_ipv6());
    }
    Some(cluster)
}

/// What takes the connections of an inbound, whether or not TLS is around them.
pub(crate) fn filter(context: &Context<'_>, protocol: Protocol, name: &str) -> Filter {
    if !protocol.is_http() {
        return Filter::Tcp(Box::new(tcp_proxy(name, name)));
    }
    let mut routes = route_configuration(name, name, vec![prefix_route("/", to_cluster(name))]);
    routes.request_headers_to_remove = vec![TAGS_HEADER.into()];
    let peer = SetCurrentClientCertDetails { uri: true, ..SetCurrentClientCertDetails::default() };
    let mut manager = HttpConnectionManager {
        forward_client_cert_details: ForwardClientCertDetails::SanitizeSet.into(),
        set_current_client_cert_details: Some(peer),
        stream_idle_timeout: seconds(STREAM_IDLE_SECONDS),
        ..http_manager(name, routes, context.internal())
    };
    if protocol == Protocol::Grpc {
        manager.http_filters.insert(0, grpc_stats());
    }
    Filter::Http(Box::new(manager))
}
