//! Calls to other proxies by their own addresses, for applications that find each other without the mesh.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use envoy_api::envoy::config::core::v3::TrafficDirection;
use envoy_api::envoy::config::listener::v3::Listener;
use model::labels;

use super::Context;
use crate::draft::{Chain, Cluster, Draft, Filter, Role};
use crate::parts::{original_destination_cluster, socket, stat_name, tcp_proxy, trusted_names, upstream_tls};
use crate::view::Member;

const CLUSTER: &str = "direct_access";
const EVERY_SERVICE: &str = "*";

/// Adds a listener for each inbound of the services that the proxy declares to call directly.
pub(crate) fn add(context: &Context<'_>, draft: &mut Draft) {
    let declared = context.networking.transparent_proxying.as_ref();
    let services = declared.map(|transparent| transparent.direct_access_services.as_slice());
    let services = services.filter(|_| context.transparent.is_some()).unwrap_or_default();
    let places = places(context, services);
    if places.is_empty() {
        return;
    }
    let mut cluster = Cluster::new(Role::DirectAccess, original_destination_cluster(CLUSTER));
    cluster.tls =
        context.identity.map(|identity| upstream_tls(identity, trusted_names(context.view.trust()), ""));
    draft.add_cluster(cluster);
    for (address, port) in places {
        add_listener(address, port, draft);
    }
}

fn places(context: &Context<'_>, services: &[String]) -> BTreeSet<(IpAddr, u32)> {
    if services.is_empty() {
        return BTreeSet::new();
    }
    let wanted = |member: &&Arc<Member>| {
        let service = member.dataplane.label(labels::SERVICE);
        let own = member.dataplane.key() == context.proxy.dataplane.key();
        !own && services.iter().any(|wanted| wanted == EVERY_SERVICE || service == Some(wanted))
    };
    let outbounds = context.outbounds.iter().flat_map(|outbound| &outbound.addresses);
    let taken: BTreeSet<_> = outbounds.copied().collect();
    let ports = context.view.members().iter().filter(wanted).flat_map(|member| &member.ports);
    ports.map(|port| (port.address, port.port)).filter(|place| !taken.contains(place)).collect()
}

fn add_listener(address: IpAddr, port: u32, draft: &mut Draft) {
    let name = format!("direct_access_{address}:{port}");
    let listener = Listener {
        stat_prefix: stat_name(&name),
        address: Some(socket(address, port)),
        traffic_direction: TrafficDirection::Outbound.into(),
        bind_to_port: Some(false),
        name: name.clone(),
        ..Listener::default()
    };
    let chain = Chain { filters: vec![Filter::Tcp(Box::new(tcp_proxy(&name, CLUSTER)))], ..Chain::default() };
    draft.add_listener(Role::DirectAccess, listener, vec![chain]);
}
