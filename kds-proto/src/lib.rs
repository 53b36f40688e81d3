//! Wire contract between the planes: the messages and services of KDS, the resources that have a protobuf spec,
//! and the envelope that carries a resource.
//!
//! Everything is generated with ordered maps, so that equal messages encode to equal bytes.

use std::sync::LazyLock;

use prost_reflect::DescriptorPool;

pub mod envelope;

#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    rustdoc::all,
    clippy::all,
    clippy::pedantic,
    clippy::nursery,
    clippy::disallowed_methods,
    reason = "generated code"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/protos.rs"));
}

/// `kuma.mesh.v1alpha1`: dataplanes, meshes, insights and the services between the planes.
pub mod mesh {
    pub use crate::generated::kuma::mesh::v1alpha1::*;
}

/// `kuma.system.v1alpha1`: zones, secrets, configs and the ping between replicas.
pub mod system {
    pub use crate::generated::kuma::system::v1alpha1::*;
}

/// `envoy.service.discovery.v3`: the messages of the delta protocol.
pub mod discovery {
    pub use crate::generated::envoy::service::discovery::v3::*;
}

/// `envoy.config.core.v3`: the node that a request names.
pub mod core {
    pub use crate::generated::envoy::config::core::v3::*;
}

/// `google.rpc`: the error of a refused response.
pub mod rpc {
    pub use crate::generated::google::rpc::*;
}

static DESCRIPTORS: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin")).as_slice())
        .expect("the embedded descriptor set was written by the build")
});

/// Descriptors of every message of this crate, for JSON and schemas.
pub fn descriptors() -> &'static DescriptorPool {
    &DESCRIPTORS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_json_are_those_of_the_peer() {
        let insight =
            descriptors().get_message_by_name("kuma.mesh.v1alpha1.DataplaneInsight").expect("known");
        assert_eq!(
            insight.get_field_by_name("mTLS").map(|field| field.json_name().to_owned()).as_deref(),
            Some("mTLS")
        );
        let subscription =
            descriptors().get_message_by_name("kuma.system.v1alpha1.KDSSubscription").expect("known");
        let field = subscription.get_field(10).expect("known");
        assert_eq!((field.name(), field.json_name()), ("zone_instance_id", "zoneInstanceId"));
    }

    #[test]
    fn services_are_those_of_the_peer() {
        let names: Vec<_> = descriptors().services().map(|service| service.full_name().to_owned()).collect();
        for name in [
            "kuma.mesh.v1alpha1.GlobalKDSService",
            "kuma.mesh.v1alpha1.InterCPEnvoyAdminForwardService",
            "kuma.mesh.v1alpha1.KDSSyncService",
            "kuma.system.v1alpha1.InterCpPingService",
        ] {
            assert!(names.iter().any(|found| found == name), "{name} is missing in {names:?}");
        }
    }
}
