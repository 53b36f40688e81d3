//! Redirected connections: they are handed to the listener of their destination, and what has none passes through.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use envoy_api::envoy::config::core::v3::TrafficDirection;
use envoy_api::envoy::config::listener::v3::{FilterChain, FilterChainMatch, Listener};

use super::Context;
use crate::draft::{Chain, Cluster, Draft, Filter, Role};
use crate::metadata::Feature;
use crate::parts::{
    bind_passthrough, empty_cluster, original_destination_cluster, socket, stat_name, tcp_proxy,
};
use crate::policies::mesh_tls;

const NO_DESTINATION: &str = "self_transparentproxy_no_destination_inbound";

/// A port of which nobody has an inbound: the last one (RFC 6335), for a proxy without inbounds.
const NO_PORT: u32 = 49151;

/// Adds what takes redirected connections.
pub(crate) fn add(context: &Context<'_>, draft: &mut Draft) {
    let Some(transparent) = &context.transparent else { return };
    draft.add_cluster(Cluster::new(Role::Passthrough, empty_cluster(NO_DESTINATION)));
    for v6 in [false, true].into_iter().filter(|v6| transparent.ipv6 || !v6) {
        outbound(transparent.outbound_port, v6, draft);
        inbound(context, transparent.inbound_port, v6, draft);
    }
}

fn any(v6: bool) -> IpAddr {
    if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

/// The name of a listener of redirected connections, and of the cluster behind it.
pub(crate) fn name(direction: &str, v6: bool) -> String {
    format!("self_transparentproxy_passthrough_{direction}_ipv{}", if v6 { 6 } else { 4 })
}

fn forward(name: &str, cluster: &str, port: Option<u32>) -> Chain {
    let matches =
        port.map(|port| FilterChainMatch { destination_port: Some(port), ..FilterChainMatch::default() });
    Chain {
        message: FilterChain { filter_chain_match: matches, ..FilterChain::default() },
        filters: vec![Filter::Tcp(Box::new(tcp_proxy(name, cluster)))],
        ..Chain::default()
    }
}

fn listener(name: &str, port: u32, v6: bool, direction: TrafficDirection) -> Listener {
    Listener {
        name: name.into(),
        stat_prefix: stat_name(name),
        address: Some(socket(any(v6), port)),
        use_original_dst: Some(true),
        traffic_direction: direction.into(),
        ..Listener::default()
    }
}

fn outbound(port: u32, v6: bool, draft: &mut Draft) {
    let name = name("outbound", v6);
    draft.add_cluster(Cluster::new(Role::Passthrough, original_destination_cluster(&name)));
    let chains = vec![forward(&name, &name, None)];
    draft.add_listener(Role::Passthrough, listener(&name, port, v6, TrafficDirection::Outbound), chains);
}

fn inbound(context: &Context<'_>, port: u32, v6: bool, draft: &mut Draft) {
    let name = name("inbound", v6);
    let mut cluster = original_destination_cluster(&name);
    cluster.upstream_bind_config = bind_passthrough(v6);
    draft.add_cluster(Cluster::new(Role::Passthrough, cluster));
    let listener = Listener {
        enable_reuse_port: context.reuse_port(),
        ..listener(&name, port, v6, TrafficDirection::Inbound)
    };
    draft.add_listener(Role::Passthrough, listener, inbound_chains(context, &name));
}

/// A proxy with an identity lets connections pass only to declared ports, so that nothing else of its machine can
/// be reached around its identity.
fn inbound_chains(context: &Context<'_>, name: &str) -> Vec<Chain> {
    let strict = context.has(Feature::StrictInboundPorts)
        && context.identity.is_some()
        && mesh_tls::is_strict_everywhere(context);
    if !strict {
        return vec![forward(name, name, None)];
    }
    let ports: BTreeSet<u32> = context.networking.inbound.iter().map(|inbound| inbound.port).collect();
    if ports.is_empty() {
        return vec![forward(name, NO_DESTINATION, Some(NO_PORT))];
    }
    ports.into_iter().map(|port| forward(name, name, Some(port))).collect()
}
