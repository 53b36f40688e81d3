//! Clusters.

use std::time::Duration;

use envoy_api::envoy::config::cluster::v3::Cluster;
use envoy_api::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbPolicy,
};
use envoy_api::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_api::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiVersion, ConfigSource, Http1ProtocolOptions, Http2ProtocolOptions,
};
use envoy_api::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_api::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
};
use envoy_api::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_api::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use envoy_api::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions,
};
use model::spec::Protocol;

use super::{seconds, stat_name};

/// How long a connection may take to open unless a policy says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What the stream that carries the configuration also delivers.
pub(crate) fn over_ads() -> Option<ConfigSource> {
    Some(ConfigSource {
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    })
}

fn cluster(name: &str, kind: DiscoveryType) -> Cluster {
    let stat = stat_name(name);
    Cluster {
        name: name.into(),
        alt_stat_name: if stat == name { String::new() } else { stat },
        connect_timeout: seconds(CONNECT_TIMEOUT.as_secs().cast_signed()),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(kind.into())),
        ..Cluster::default()
    }
}

/// A cluster without endpoints.
pub(crate) fn empty_cluster(name: &str) -> Cluster {
    Cluster { alt_stat_name: stat_name(name), ..cluster(name, DiscoveryType::Static) }
}

/// A cluster of one endpoint.
pub(crate) fn static_cluster(name: &str, address: Address) -> Cluster {
    let endpoint = Endpoint { address: Some(address), ..Endpoint::default() };
    let endpoint =
        LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(endpoint)), ..LbEndpoint::default() };
    let locality = LocalityLbEndpoints { lb_endpoints: vec![endpoint], ..LocalityLbEndpoints::default() };
    let assignment = ClusterLoadAssignment {
        cluster_name: name.into(),
        endpoints: vec![locality],
        ..ClusterLoadAssignment::default()
    };
    assigned_cluster(assignment, DiscoveryType::Static)
}

/// A cluster whose endpoints stand in it.
pub(crate) fn assigned_cluster(assignment: ClusterLoadAssignment, kind: DiscoveryType) -> Cluster {
    let name = assignment.cluster_name.clone();
    Cluster { load_assignment: Some(assignment), ..cluster(&name, kind) }
}

/// A cluster that calls where the connection was going before it was redirected.
pub(crate) fn original_destination_cluster(name: &str) -> Cluster {
    Cluster { lb_policy: LbPolicy::ClusterProvided.into(), ..cluster(name, DiscoveryType::OriginalDst) }
}

/// A cluster whose endpoints the stream delivers.
pub(crate) fn eds_cluster(name: &str) -> Cluster {
    let config = EdsClusterConfig { eds_config: over_ads(), ..EdsClusterConfig::default() };
    Cluster { eds_cluster_config: Some(config), ..cluster(name, DiscoveryType::Eds) }
}

/// The version of HTTP that a cluster speaks; `None` for one that does not.
pub(crate) fn http_version(protocol: Protocol) -> Option<HttpProtocolOptions> {
    let config = match protocol {
        Protocol::Http => ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default()),
        Protocol::Http2 | Protocol::Grpc => {
            ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default())
        }
        Protocol::Tcp | Protocol::Tls | Protocol::Mysql => return None,
    };
    let explicit = ExplicitHttpConfig { protocol_config: Some(config) };
    Some(HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)),
        ..HttpProtocolOptions::default()
    })
}
