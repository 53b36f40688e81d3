//! Filters of connections and what goes around them.

use envoy_api::envoy::config::core::v3::TypedExtensionConfig;
use envoy_api::envoy::config::listener::v3::{Filter, ListenerFilter, filter, listener_filter};
use envoy_api::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_api::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_api::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use envoy_api::xds::core::v3::TypedExtensionConfig as XdsExtensionConfig;
use prost::{Message, Name};

use super::stat_name;

/// A filter of connections.
pub(crate) fn filter<M: Message + Name>(name: &str, config: &M) -> Filter {
    let config = filter::ConfigType::TypedConfig(envoy_api::pack(config));
    Filter { name: name.into(), config_type: Some(config) }
}

/// Forwards bytes to a cluster.
pub(crate) fn tcp_proxy(stat_prefix: &str, cluster: &str) -> TcpProxy {
    TcpProxy {
        stat_prefix: stat_name(stat_prefix),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.into())),
        ..TcpProxy::default()
    }
}

const TLS_INSPECTOR: &str = "envoy.filters.listener.tls_inspector";

/// Looks whether a connection begins with TLS, and for which server.
pub(crate) fn tls_inspector() -> ListenerFilter {
    let config = listener_filter::ConfigType::TypedConfig(envoy_api::pack(&TlsInspector::default()));
    ListenerFilter { name: TLS_INSPECTOR.into(), config_type: Some(config), ..ListenerFilter::default() }
}

/// Adds the look at TLS where it is missing.
pub(crate) fn inspect_tls(filters: &mut Vec<ListenerFilter>) {
    if !filters.iter().any(|filter| filter.name == TLS_INSPECTOR) {
        filters.push(tls_inspector());
    }
}

/// An extension in a message of Envoy.
pub(crate) fn extension<M: Message + Name>(name: &str, config: &M) -> TypedExtensionConfig {
    TypedExtensionConfig { name: name.into(), typed_config: Some(envoy_api::pack(config)) }
}

/// An extension in a message of xDS.
pub(crate) fn xds_extension<M: Message + Name>(name: &str, config: &M) -> XdsExtensionConfig {
    XdsExtensionConfig { name: name.into(), typed_config: Some(envoy_api::pack(config)) }
}
