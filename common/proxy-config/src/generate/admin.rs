//! The door for probes and for the control plane: readiness to everyone, Envoy's admin endpoint to those who prove
//! to be the control plane.

use envoy_api::envoy::config::core::v3::TrafficDirection;
use envoy_api::envoy::config::listener::v3::{FilterChain, FilterChainMatch, Listener};
use envoy_api::envoy::config::route::v3::{Route, RouteAction};
use envoy_api::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use envoy_api::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_api::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, TlsCertificate,
};
use envoy_api::envoy::r#type::matcher::v3::string_matcher::MatchPattern;

use super::Context;
use crate::draft::{Chain, Cluster, Draft, Filter, Role};
use crate::parts::{
    host, http_manager, inline, pipe, prefix_route, route_configuration, san, socket, static_cluster,
    tls_inspector, to_cluster,
};
use crate::proxy::AdminTls;

const ADMIN: &str = "system_envoy_admin";
const READINESS: &str = "system_probe_readiness";

/// The name by which the control plane is known.
const CONTROL_PLANE: &str = "kuma-cp";

/// Adds the door where the proxy told both ports.
pub(crate) fn add(context: &Context<'_>, draft: &mut Draft) {
    let metadata = &context.proxy.metadata;
    let (Some(port), Some(readiness)) = (metadata.admin_port, metadata.readiness_port) else { return };
    let admin = match (&metadata.admin_socket, &metadata.admin_address) {
        (Some(path), _) => pipe(path),
        (None, Some(address)) => host(address, port),
        (None, None) => host("127.0.0.1", port),
    };
    draft.add_cluster(Cluster::new(Role::System, static_cluster(ADMIN, admin)));
    draft.add_cluster(Cluster::new(Role::System, static_cluster(READINESS, host("127.0.0.1", readiness))));
    let Some(address) = context.address() else { return };
    let listener = Listener {
        name: ADMIN.into(),
        address: Some(socket(address, port)),
        traffic_direction: TrafficDirection::Inbound.into(),
        enable_reuse_port: context.reuse_port(),
        listener_filters: vec![tls_inspector()],
        ..Listener::default()
    };
    let mut chains = vec![chain(context, vec![rewritten("/ready", READINESS)])];
    if let Some(tls) = &context.proxy.admin_tls {
        let matches = FilterChainMatch { transport_protocol: "tls".into(), ..FilterChainMatch::default() };
        let routes = vec![rewritten("/ready", READINESS), rewritten("/", ADMIN)];
        chains.push(Chain {
            message: FilterChain { filter_chain_match: Some(matches), ..FilterChain::default() },
            tls: Some(server(tls)),
            ..chain(context, routes)
        });
    }
    draft.add_listener(Role::System, listener, chains);
}

fn rewritten(path: &str, cluster: &str) -> Route {
    prefix_route(path, RouteAction { prefix_rewrite: path.into(), ..to_cluster(cluster) })
}

fn chain(context: &Context<'_>, routes: Vec<Route>) -> Chain {
    let local: Vec<_> = context.local().collect();
    let manager = http_manager(ADMIN, route_configuration("", ADMIN, routes), local.iter());
    Chain { filters: vec![Filter::Http(Box::new(manager))], ..Chain::default() }
}

fn server(tls: &AdminTls) -> DownstreamTlsContext {
    let certificate = TlsCertificate {
        certificate_chain: inline(&tls.certificate_pem),
        private_key: inline(&tls.private_key_pem),
        ..TlsCertificate::default()
    };
    let validation = CertificateValidationContext {
        trusted_ca: inline(&tls.ca_pem),
        match_typed_subject_alt_names: vec![san(SanType::Dns, MatchPattern::Exact(CONTROL_PLANE.into()))],
        ..CertificateValidationContext::default()
    };
    let common = CommonTlsContext {
        tls_certificates: vec![certificate],
        validation_context_type: Some(ValidationContextType::ValidationContext(validation)),
        ..CommonTlsContext::default()
    };
    DownstreamTlsContext {
        common_tls_context: Some(common),
        require_client_certificate: Some(true),
        ..DownstreamTlsContext::default()
    }
}
