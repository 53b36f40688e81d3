//! A configuration in the making: messages with their nested parts still typed, so that policies edit them in place
//! and each is encoded once.

use std::collections::BTreeMap;
use std::sync::Arc;

use envoy_api::envoy::config::cluster::v3 as cluster;
use envoy_api::envoy::config::listener::v3 as listener;
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_api::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_api::envoy::extensions::transport_sockets::tls::v3::{DownstreamTlsContext, UpstreamTlsContext};
use envoy_api::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use model::spec::Protocol;
use policy::{Policy, RouteRule, Section};

use crate::config::{ConfigResource, ProxyConfig, ResourceType};
use crate::documents::OtelBackend;
use crate::parts::{filter, tls_socket};
use crate::view::Destination;

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// What a listener or cluster is for: policies choose by it.
#[derive(Clone, Debug)]
pub(crate) enum Role {
    /// The machinery of the mesh itself.
    System,
    /// Calls to the application.
    Inbound { section: Section, protocol: Protocol },
    /// Calls of the application to a destination.
    Outbound(Arc<Destination>),
    /// Redirected connections that nothing else takes.
    Passthrough,
    /// Calls of the application to a proxy by its own address.
    DirectAccess,
    /// Calls from other zones.
    ZoneIngress(Section),
    /// Calls of proxies of this zone to what is outside the mesh.
    ZoneEgress(Section),
    /// The destination of a chain of an egress.
    External(Arc<Destination>),
}

/// Beginnings of names that the machinery of the mesh has, and who makes what is called so.
const SYSTEM_ORIGINS: [(&str, &str); 6] = [
    ("system_dynamicconfig", "dynamic-config"),
    ("system_identity_", "identity"),
    ("system_meshaccesslog_", "mesh-access-log"),
    ("system_meshmetric_", "prometheus"),
    ("system_meshtrace_", "mesh-trace"),
    ("meshpassthrough_", "meshpassthrough"),
];

impl Role {
    /// Who made it, as users of patches know it.
    fn origin(&self, name: &str) -> &'static str {
        let system = SYSTEM_ORIGINS.iter().find(|(prefix, _)| name.starts_with(prefix));
        match (self, system) {
            (Self::System | Self::Passthrough, Some((_, origin))) => origin,
            (Self::System, None) => "admin",
            (Self::Passthrough, None) => "transparent",
            (Self::Inbound { .. }, _) => "inbound",
            (Self::Outbound(_), _) => "outbound",
            (Self::DirectAccess, _) => "direct-access",
            (Self::ZoneIngress(_), _) => "ingress",
            (Self::ZoneEgress(_) | Self::External(_), _) => "egress",
        }
    }
}

/// A listener whose chains are typed.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    pub(crate) role: Role,
    pub(crate) message: listener::Listener,
    pub(crate) chains: Vec<Chain>,
}

/// A chain of filters for some connections of a listener.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chain {
    pub(crate) message: listener::FilterChain,
    pub(crate) tls: Option<DownstreamTlsContext>,
    pub(crate) filters: Vec<Filter>,
    /// What the chain leads to, at an ingress or egress.
    pub(crate) destination: Option<Arc<Destination>>,
    /// Where routes come from, by their name in Envoy; those that no route of the mesh names are not there.
    pub(crate) origins: BTreeMap<String, Origin>,
}

/// The rule of a route of the mesh.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) route: Arc<Policy>,
    /// Names the rule in the route.
    pub(crate) section: String,
}

impl Origin {
    /// The name of what Envoy has for it.
    pub(crate) fn name(&self) -> String {
        self.route.kri.with_section(self.section.as_str()).to_string()
    }

    /// The rule as policies see it.
    pub(crate) fn as_target(&self) -> RouteRule<'_> {
        RouteRule { resource: &self.route.resource, section: &self.section }
    }
}

/// A filter of connections.
#[derive(Clone, Debug)]
pub(crate) enum Filter {
    Http(Box<HttpConnectionManager>),
    Tcp(Box<TcpProxy>),
    Other(Box<listener::Filter>),
}

/// A cluster whose extensions are typed.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) role: Role,
    pub(crate) message: cluster::Cluster,
    pub(crate) http: Option<HttpProtocolOptions>,
    pub(crate) tls: Option<UpstreamTlsContext>,
}

impl Cluster {
    pub(crate) fn new(role: Role, message: cluster::Cluster) -> Self {
        Self { role, message, http: None, tls: None }
    }

    fn finish(self) -> Made<cluster::Cluster> {
        let origin = self.role.origin(&self.message.name);
        let mut message = self.message;
        if let Some(http) = &self.http {
            message.typed_extension_protocol_options.insert(HTTP_OPTIONS.into(), envoy_api::pack(http));
        }
        if let Some(tls) = &self.tls {
            message.transport_socket = tls_socket(tls);
        }
        Made { origin, message }
    }
}

impl Chain {
    fn finish(self) -> listener::FilterChain {
        let mut message = self.message;
        message.filters = self.filters.iter().map(Filter::finish).collect();
        if let Some(tls) = &self.tls {
            message.transport_socket = tls_socket(tls);
        }
        message
    }
}

impl Filter {
    fn finish(&self) -> listener::Filter {
        match self {
            Self::Http(manager) => filter("envoy.filters.network.http_connection_manager", manager.as_ref()),
            Self::Tcp(proxy) => filter("envoy.filters.network.tcp_proxy", proxy.as_ref()),
            Self::Other(filter) => filter.as_ref().clone(),
        }
    }
}

impl Listener {
    fn finish(self) -> Made<listener::Listener> {
        let origin = self.role.origin(&self.message.name);
        let mut message = self.message;
        message.filter_chains = self.chains.into_iter().map(Chain::finish).collect();
        Made { origin, message }
    }
}

/// A configuration in the making.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draft {
    pub(crate) listeners: BTreeMap<String, Listener>,
    pub(crate) clusters: BTreeMap<String, Cluster>,
    pub(crate) assignments: BTreeMap<Arc<str>, ConfigResource>,
    /// Documents for the program beside Envoy, by path.
    pub(crate) documents: BTreeMap<String, String>,
    /// Collectors that the program beside Envoy sends to, by name.
    pub(crate) collectors: BTreeMap<String, OtelBackend>,
}

impl Draft {
    /// Adds a listener; the first of a name stays.
    pub(crate) fn add_listener(&mut self, role: Role, message: listener::Listener, chains: Vec<Chain>) {
        let name = message.name.clone();
        self.listeners.entry(name).or_insert(Listener { role, message, chains });
    }

    /// Adds a cluster; the first of a name stays.
    pub(crate) fn add_cluster(&mut self, cluster: Cluster) {
        self.clusters.entry(cluster.message.name.clone()).or_insert(cluster);
    }

    /// Puts the typed parts into their messages.
    pub(crate) fn finish(self) -> Finished {
        Finished {
            clusters: self.clusters.into_iter().map(|(name, cluster)| (name, cluster.finish())).collect(),
            listeners: self.listeners.into_iter().map(|(name, listener)| (name, listener.finish())).collect(),
            assignments: self.assignments,
        }
    }
}

/// A finished message and who made it.
#[derive(Clone, Debug)]
pub(crate) struct Made<M> {
    pub(crate) origin: &'static str,
    pub(crate) message: M,
}

/// A configuration whose messages are complete.
#[derive(Clone, Debug, Default)]
pub(crate) struct Finished {
    pub(crate) clusters: BTreeMap<String, Made<cluster::Cluster>>,
    pub(crate) listeners: BTreeMap<String, Made<listener::Listener>>,
    assignments: BTreeMap<Arc<str>, ConfigResource>,
}

impl Finished {
    /// Encodes everything.
    pub(crate) fn encode(self, config: &mut ProxyConfig) {
        for (name, cluster) in self.clusters {
            config.insert(name.into(), ConfigResource::encode(ResourceType::Cluster, &cluster.message));
        }
        for (name, assignment) in self.assignments {
            config.insert(name, assignment);
        }
        for (name, listener) in self.listeners {
            config.insert(name.into(), ConfigResource::encode(ResourceType::Listener, &listener.message));
        }
    }
}
