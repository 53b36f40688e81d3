//! Calls from other zones: routed by server name to the services of this zone, TLS untouched.

use std::sync::Arc;

use envoy_api::envoy::config::core::v3::TrafficDirection;
use envoy_api::envoy::config::listener::v3::{FilterChain, FilterChainMatch, Listener};
use kds_proto::mesh::dataplane::networking::Listener as Declared;
use kds_proto::mesh::dataplane::networking::listener::Type;

use policy::Section;

use super::Context;
use crate::draft::{Chain, Cluster, Draft, Filter, Role};
use crate::parts::{eds_cluster, socket, stat_name, tcp_proxy, tls_inspector};

/// Adds the ingresses of the proxy; one with nothing to serve has no listener.
pub(crate) fn add(context: &Context<'_>, draft: &mut Draft) {
    let ingresses =
        context.networking.listeners.iter().filter(|listener| listener.r#type() == Type::ZoneIngress);
    for declared in ingresses {
        let Some(listener) = zone_listener(context, declared, "zoneingress") else { continue };
        let role = Role::ZoneIngress(Section { name: declared.name.clone(), port: declared.port });
        let chains = chains(context, &role, draft);
        if !chains.is_empty() {
            draft.add_listener(role, listener, chains);
        }
    }
}

/// The listener of a zone proxy; `None` without an address.
pub(crate) fn zone_listener(context: &Context<'_>, declared: &Declared, kind: &str) -> Option<Listener> {
    let own = if declared.address.is_empty() { &context.networking.address } else { &declared.address };
    let address = context.view.resolve(own)?;
    u16::try_from(declared.port).ok().filter(|port| *port > 0)?;
    let label = if declared.name.is_empty() { declared.port.to_string() } else { declared.name.clone() };
    let name = format!("self_{kind}_dp_{label}");
    Some(Listener {
        stat_prefix: stat_name(&name),
        name,
        address: Some(socket(address, declared.port)),
        traffic_direction: TrafficDirection::Inbound.into(),
        enable_reuse_port: context.reuse_port(),
        listener_filters: vec![tls_inspector()],
        ..Listener::default()
    })
}

/// Connections with TLS for a server.
pub(crate) fn for_server(sni: &str) -> Option<FilterChainMatch> {
    Some(FilterChainMatch {
        transport_protocol: "tls".into(),
        server_names: vec![sni.into()],
        ..FilterChainMatch::default()
    })
}

fn chains(context: &Context<'_>, role: &Role, draft: &mut Draft) -> Vec<Chain> {
    let mut chains = Vec::new();
    for destination in context.view.destinations() {
        let Some(assignment) = &destination.own_zone else { continue };
        let name = &destination.name;
        draft.add_cluster(Cluster::new(role.clone(), eds_cluster(name)));
        draft.assignments.insert(name.clone(), assignment.clone());
        chains.push(Chain {
            message: FilterChain {
                filter_chain_match: for_server(&destination.sni),
                ..FilterChain::default()
            },
            filters: vec![Filter::Tcp(Box::new(tcp_proxy(name, name)))],
            destination: Some(Arc::clone(destination)),
            ..Chain::default()
        });
    }
    chains
}
