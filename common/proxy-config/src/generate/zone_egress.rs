//! Calls to what is outside the mesh: proxies of the zone prove who they are, the egress calls on for them.

use std::net::IpAddr;
use std::sync::Arc;

use envoy_api::envoy::config::cluster::v3::cluster::{DiscoveryType, DnsLookupFamily};
use envoy_api::envoy::config::listener::v3::FilterChain;
use envoy_api::envoy::config::route::v3::RouteAction;
use envoy_api::envoy::config::route::v3::route_action::HostRewriteSpecifier;
use kds_proto::mesh::dataplane::networking::listener::Type;
use model::spec::{ExternalEndpoint, MeshExternalService};
use policy::Section;

use super::Context;
use super::external_tls::transport;
use super::zone_ingress::{for_server, zone_listener};
use crate::draft::{Chain, Cluster, Draft, Filter, Role};
use crate::identity::Identity;
use crate::parts::{
    assigned_cluster, downstream_tls, http_manager, http_version, prefix_route, route_configuration, seconds,
    tcp_proxy, to_cluster,
};
use crate::view::{Destination, Endpoint, assignment};

/// Adds the egresses of a proxy with an identity.
pub(crate) fn add(context: &Context<'_>, draft: &mut Draft) {
    let Some(identity) = context.identity else { return };
    let egresses =
        context.networking.listeners.iter().filter(|listener| listener.r#type() == Type::ZoneEgress);
    for declared in egresses {
        let Some(listener) = zone_listener(context, declared, "zoneegress") else { continue };
        let mut chains = Vec::new();
        for destination in context.view.destinations() {
            let Some(external) = destination.external() else { continue };
            let Some(cluster) = cluster(context, destination, external) else { continue };
            draft.add_cluster(cluster);
            chains.push(chain(context, identity, destination));
        }
        let section = Section { name: declared.name.clone(), port: declared.port };
        if !chains.is_empty() {
            draft.add_listener(Role::ZoneEgress(section), listener, chains);
        }
    }
}

fn chain(context: &Context<'_>, identity: &Identity, destination: &Arc<Destination>) -> Chain {
    let name = &destination.name;
    let filter = if destination.protocol.is_http() {
        let action = RouteAction {
            timeout: seconds(0),
            host_rewrite_specifier: Some(HostRewriteSpecifier::AutoHostRewrite(true)),
            ..to_cluster(name)
        };
        let routes = route_configuration(name, name, vec![prefix_route("/", action)]);
        Filter::Http(Box::new(http_manager(name, routes, context.internal())))
    } else {
        Filter::Tcp(Box::new(tcp_proxy(name, name)))
    };
    Chain {
        message: FilterChain {
            name: name.to_string(),
            filter_chain_match: for_server(&destination.sni),
            ..FilterChain::default()
        },
        // Any peer whom the mesh trusts may ask; permissions decide.
        tls: Some(downstream_tls(identity, Vec::new())),
        filters: vec![filter],
        destination: Some(Arc::clone(destination)),
        ..Chain::default()
    }
}

/// `None` for a destination without endpoints, or with TLS that cannot be set up: calling it without would tell
/// secrets to anybody.
fn cluster(
    context: &Context<'_>,
    destination: &Arc<Destination>,
    external: &MeshExternalService,
) -> Option<Cluster> {
    let usable = |endpoint: &&ExternalEndpoint| {
        u16::try_from(endpoint.port).is_ok_and(|port| port > 0) && !endpoint.address.is_empty()
    };
    let endpoints: Vec<_> = external.endpoints.iter().flatten().filter(usable).collect();
    let tags = Arc::new(destination.resource.labels().clone());
    let placed = endpoints.iter().map(|endpoint| Endpoint {
        zone: String::new(),
        sub_zone: endpoint.priority.map(|priority| format!("priority-{priority}")).unwrap_or_default(),
        priority: endpoint.priority.unwrap_or(0),
        host: endpoint.address.clone(),
        port: endpoint.port,
        tags: Arc::clone(&tags),
    });
    let first = endpoints.first()?;
    let resolved = endpoints.iter().all(|endpoint| endpoint.address.parse::<IpAddr>().is_ok());
    let kind = if resolved { DiscoveryType::Static } else { DiscoveryType::StrictDns };
    let mut message = assigned_cluster(assignment(&destination.name, placed.collect()), kind);
    if !resolved && !context.proxy.metadata.ipv6 {
        message.dns_lookup_family = DnsLookupFamily::V4Only.into();
    }
    if let Some(tls) = external.tls.as_ref().filter(|tls| tls.enabled) {
        message.transport_socket_matches = vec![transport(context, &tags, &first.address, tls)?];
    }
    let role = Role::External(Arc::clone(destination));
    Some(Cluster { http: http_version(destination.protocol), ..Cluster::new(role, message) })
}
