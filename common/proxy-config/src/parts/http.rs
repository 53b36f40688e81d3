//! HTTP connection managers and their routes.

use envoy_api::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_api::envoy::config::route::v3::route::Action;
use envoy_api::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_api::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_api::envoy::config::route::v3::{Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost};
use envoy_api::envoy::extensions::filters::http::grpc_stats::v3::FilterConfig as GrpcStats;
use envoy_api::envoy::extensions::filters::http::router::v3::Router;
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    InternalAddressConfig, RouteSpecifier,
};
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, http_filter,
};
use model::Labels;
use prost::{Message, Name};

use super::{cidr, stat_name};
use crate::settings::Cidr;

/// A filter of requests.
pub(crate) fn http_filter<M: Message + Name>(name: &str, config: &M) -> HttpFilter {
    let config = http_filter::ConfigType::TypedConfig(envoy_api::pack(config));
    HttpFilter { name: name.into(), config_type: Some(config), ..HttpFilter::default() }
}

/// Counts calls of gRPC by method.
pub(crate) fn grpc_stats() -> HttpFilter {
    let config = GrpcStats { emit_filter_state: true, ..GrpcStats::default() };
    http_filter("envoy.filters.http.grpc_stats", &config)
}

/// Routes requests; the last filter is the router.
pub(crate) fn http_manager<'a>(
    stat_prefix: &str,
    routes: RouteConfiguration,
    internal: impl Iterator<Item = &'a Cidr>,
) -> HttpConnectionManager {
    let internal = InternalAddressConfig {
        cidr_ranges: internal.map(cidr).collect(),
        ..InternalAddressConfig::default()
    };
    HttpConnectionManager {
        stat_prefix: stat_name(stat_prefix),
        http_filters: vec![http_filter("envoy.filters.http.router", &Router::default())],
        internal_address_config: Some(internal),
        route_specifier: Some(RouteSpecifier::RouteConfig(routes)),
        ..HttpConnectionManager::default()
    }
}

/// Adds a filter of requests after all others: the router stays last.
pub(crate) fn before_router(manager: &mut HttpConnectionManager, filter: HttpFilter) {
    manager.http_filters.insert(manager.http_filters.len().saturating_sub(1), filter);
}

/// The hosts inside a connection manager.
pub(crate) fn hosts_mut(manager: &mut HttpConnectionManager) -> impl Iterator<Item = &mut VirtualHost> {
    let configuration = match &mut manager.route_specifier {
        Some(RouteSpecifier::RouteConfig(configuration)) => Some(configuration),
        _ => None,
    };
    configuration.into_iter().flat_map(|configuration| &mut configuration.virtual_hosts)
}

/// The routes inside a connection manager.
pub(crate) fn routes_mut(manager: &mut HttpConnectionManager) -> impl Iterator<Item = &mut Route> {
    hosts_mut(manager).flat_map(|host| &mut host.routes)
}

/// The action of a route that calls a cluster.
pub(crate) fn action_mut(route: &mut Route) -> Option<&mut RouteAction> {
    match &mut route.action {
        Some(Action::Route(action)) => Some(action),
        _ => None,
    }
}

/// One host for every domain. Clusters may arrive after the listener that names them.
pub(crate) fn route_configuration(name: &str, host: &str, routes: Vec<Route>) -> RouteConfiguration {
    let host = VirtualHost { name: host.into(), domains: vec!["*".into()], routes, ..VirtualHost::default() };
    RouteConfiguration {
        name: name.into(),
        virtual_hosts: vec![host],
        validate_clusters: Some(false),
        ..RouteConfiguration::default()
    }
}

/// A route for what begins with a path.
pub(crate) fn prefix_route(prefix: &str, action: RouteAction) -> Route {
    Route {
        r#match: Some(path_match(PathSpecifier::Prefix(prefix.into()))),
        action: Some(Action::Route(action)),
        ..Route::default()
    }
}

/// What a path must be.
pub(crate) fn path_match(path: PathSpecifier) -> RouteMatch {
    RouteMatch { path_specifier: Some(path), ..RouteMatch::default() }
}

/// Calls a cluster.
pub(crate) fn to_cluster(cluster: &str) -> RouteAction {
    RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.into())),
        ..RouteAction::default()
    }
}

/// Header in which proxies tell each other their tags.
pub(crate) const TAGS_HEADER: &str = "x-kuma-tags";

/// Labels of the caller, for those who look at them.
pub(crate) fn tags_header(labels: &Labels) -> HeaderValueOption {
    let tags: Vec<_> = labels.iter().map(|(key, value)| format!("&{key}={value}&")).collect();
    let header = HeaderValue { key: TAGS_HEADER.into(), value: tags.concat(), ..HeaderValue::default() };
    HeaderValueOption { header: Some(header), ..HeaderValueOption::default() }
}
