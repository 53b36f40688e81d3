//! Typed specs and statuses. Protobuf kinds are the messages of `kds-proto`; JSON kinds have a file each.

mod backend_ref;
mod checks;
mod common;
mod hostname_generator;
mod http_match;
mod inbound;
mod mesh_access_log;
mod mesh_circuit_breaker;
mod mesh_external_service;
mod mesh_fault_injection;
mod mesh_health_check;
mod mesh_http_route;
mod mesh_identity;
mod mesh_load_balancing_strategy;
mod mesh_metric;
mod mesh_multi_zone_service;
mod mesh_open_telemetry_backend;
mod mesh_passthrough;
mod mesh_proxy_patch;
mod mesh_rate_limit;
mod mesh_retry;
mod mesh_service;
mod mesh_tcp_route;
mod mesh_timeout;
mod mesh_tls;
mod mesh_trace;
mod mesh_traffic_permission;
mod mesh_trust;
mod mesh_zone_address;
mod otel_backend_ref;
mod workload;

pub use backend_ref::*;
pub use common::*;
pub use hostname_generator::*;
pub use http_match::*;
pub use kds_proto::mesh::{Dataplane, DataplaneInsight, Mesh, MeshInsight, ServiceInsight, mesh_insight};
pub use kds_proto::system::{Config, Secret, Zone, ZoneInsight};
pub use mesh_access_log::*;
pub use mesh_circuit_breaker::*;
pub use mesh_external_service::*;
pub use mesh_fault_injection::*;
pub use mesh_health_check::*;
pub use mesh_http_route::*;
pub use mesh_identity::*;
pub use mesh_load_balancing_strategy::*;
pub use mesh_metric::*;
pub use mesh_multi_zone_service::*;
pub use mesh_open_telemetry_backend::*;
pub use mesh_passthrough::*;
pub use mesh_proxy_patch::*;
pub use mesh_rate_limit::*;
pub use mesh_retry::*;
pub use mesh_service::*;
pub use mesh_tcp_route::*;
pub use mesh_timeout::*;
pub use mesh_tls::*;
pub use mesh_trace::*;
pub use mesh_traffic_permission::*;
pub use mesh_trust::*;
pub use mesh_zone_address::*;
pub use otel_backend_ref::*;
pub use workload::*;

use crate::Violations;
use crate::payload::{DecodeError, Payload, Typed, decode_proto};

macro_rules! proto_specs {
    ($($type:ty),+ $(,)?) => {$(
        impl Typed for $type {
            fn decode(payload: &Payload) -> Result<Self, DecodeError> {
                decode_proto(payload)
            }

            fn encode(&self) -> Payload {
                Payload::from_bytes(prost::Message::encode_to_vec(self))
            }
        }
    )+};
}

proto_specs!(
    Dataplane,
    DataplaneInsight,
    Mesh,
    MeshInsight,
    ServiceInsight,
    Config,
    Secret,
    Zone,
    ZoneInsight
);

/// A typed JSON spec or status. Specs say what is wrong with them.
pub trait Checked: serde::Serialize + serde::de::DeserializeOwned + Send + Sync + 'static {
    /// Adds what is wrong; paths start with `spec.`.
    fn check(&self, _: &mut Violations) {}
}
