//! Envoy's API: generated messages with ordered maps, the descriptors behind them, and the services that a
//! control plane and a proxy speak. Typed code builds configuration; reflection ([`json`]) shows it to people.

use std::sync::LazyLock;

use prost::{Message, Name};
use prost_reflect::DescriptorPool;

pub mod canonical;
pub mod json;
pub mod patch;

#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    rust_2018_idioms,
    clippy::all,
    clippy::large_futures,
    rustdoc::all,
    reason = "generated code"
)]
mod api {
    include!(concat!(env!("OUT_DIR"), "/api.rs"));
}

pub use api::{envoy, google, opentelemetry, xds};

static DESCRIPTORS: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin")).as_slice())
        .expect("the build wrote this set")
});

/// Descriptors of every message of this crate.
pub fn descriptors() -> &'static DescriptorPool {
    &DESCRIPTORS
}

/// Wraps a message in an `Any` with its type URL.
pub fn pack<M: Message + Name>(message: &M) -> prost_types::Any {
    prost_types::Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

#[cfg(test)]
mod tests {
    use tonic::server::NamedService;

    use super::envoy::service::discovery::v3::aggregated_discovery_service_server as ads;
    use super::envoy::service::health::v3::health_discovery_service_server as hds;

    #[test]
    fn services_have_the_names_that_envoy_calls() {
        assert_eq!(
            <ads::AggregatedDiscoveryServiceServer<()> as NamedService>::NAME,
            "envoy.service.discovery.v3.AggregatedDiscoveryService"
        );
        assert_eq!(
            <hds::HealthDiscoveryServiceServer<()> as NamedService>::NAME,
            "envoy.service.health.v3.HealthDiscoveryService"
        );
    }
}
