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

use serde_json::Value;

use crate::payload::{DecodeError, Payload, Typed, decode_json, decode_proto};
use crate::{Kind, Violations};

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

macro_rules! json_specs {
    ($($type:ty),+ $(,)?) => {$(
        impl Typed for $type {
            fn decode(payload: &Payload) -> Result<Self, DecodeError> {
                decode_json(payload)
            }

            fn encode(&self) -> Payload {
                let document = serde_json::to_value(self).expect("specs have string keys and finite numbers");
                Payload::from_bytes(document.to_string())
            }
        }
    )+};
}

json_specs!(
    HostnameGenerator,
    MeshAccessLog,
    MeshCircuitBreaker,
    MeshExternalService,
    MeshExternalServiceStatus,
    MeshFaultInjection,
    MeshHTTPRoute,
    MeshHealthCheck,
    MeshIdentity,
    MeshIdentityStatus,
    MeshLoadBalancingStrategy,
    MeshMetric,
    MeshMultiZoneService,
    MeshMultiZoneServiceStatus,
    MeshOpenTelemetryBackend,
    MeshOpenTelemetryBackendStatus,
    MeshPassthrough,
    MeshProxyPatch,
    MeshRateLimit,
    MeshRetry,
    MeshService,
    MeshServiceStatus,
    MeshTCPRoute,
    MeshTLS,
    MeshTimeout,
    MeshTrace,
    MeshTrafficPermission,
    MeshTrust,
    MeshTrustStatus,
    MeshZoneAddress,
    Workload,
    WorkloadStatus,
);

/// What the registry knows of a typed JSON spec.
#[derive(Clone, Copy)]
pub struct JsonSpec {
    /// Its JSON schema, from the type.
    pub schema: fn() -> schemars::Schema,
    /// Reads a document and writes it again: unknown fields fall away, defaults appear.
    pub normalise: fn(&Value) -> Result<Value, DecodeError>,
    /// Checks a document that decodes.
    pub validate: fn(&Value, &mut Violations),
}

/// A typed JSON spec that can be checked.
pub trait Checked: serde::Serialize + serde::de::DeserializeOwned + schemars::JsonSchema {
    /// Adds what is wrong; paths start with `spec.`.
    fn check(&self, violations: &mut Violations);
}

const fn json_spec<T: Checked>() -> JsonSpec {
    fn normalise<T: Checked>(document: &Value) -> Result<Value, DecodeError> {
        let typed: T =
            serde_json::from_value(document.clone()).map_err(|e| DecodeError::Json(e.to_string()))?;
        serde_json::to_value(typed).map_err(|e| DecodeError::Json(e.to_string()))
    }
    fn validate<T: Checked>(document: &Value, violations: &mut Violations) {
        match serde_json::from_value::<T>(document.clone()) {
            Ok(typed) => typed.check(violations),
            Err(error) => violations.add("spec", error.to_string()),
        }
    }
    JsonSpec { schema: || schemars::schema_for!(T), normalise: normalise::<T>, validate: validate::<T> }
}

/// The typed JSON spec of a kind; `None` for protobuf kinds and kinds held as documents.
pub fn json_spec_of(kind: Kind) -> Option<JsonSpec> {
    let specs: &[(Kind, JsonSpec)] = &[
        (Kind::HOSTNAME_GENERATOR, const { json_spec::<HostnameGenerator>() }),
        (Kind::MESH_ACCESS_LOG, const { json_spec::<MeshAccessLog>() }),
        (Kind::MESH_CIRCUIT_BREAKER, const { json_spec::<MeshCircuitBreaker>() }),
        (Kind::MESH_EXTERNAL_SERVICE, const { json_spec::<MeshExternalService>() }),
        (Kind::MESH_FAULT_INJECTION, const { json_spec::<MeshFaultInjection>() }),
        (Kind::MESH_HEALTH_CHECK, const { json_spec::<MeshHealthCheck>() }),
        (Kind::MESH_HTTP_ROUTE, const { json_spec::<MeshHTTPRoute>() }),
        (Kind::MESH_IDENTITY, const { json_spec::<MeshIdentity>() }),
        (Kind::MESH_LOAD_BALANCING_STRATEGY, const { json_spec::<MeshLoadBalancingStrategy>() }),
        (Kind::MESH_METRIC, const { json_spec::<MeshMetric>() }),
        (Kind::MESH_MULTI_ZONE_SERVICE, const { json_spec::<MeshMultiZoneService>() }),
        (Kind::MESH_OPEN_TELEMETRY_BACKEND, const { json_spec::<MeshOpenTelemetryBackend>() }),
        (Kind::MESH_PASSTHROUGH, const { json_spec::<MeshPassthrough>() }),
        (Kind::MESH_PROXY_PATCH, const { json_spec::<MeshProxyPatch>() }),
        (Kind::MESH_RATE_LIMIT, const { json_spec::<MeshRateLimit>() }),
        (Kind::MESH_RETRY, const { json_spec::<MeshRetry>() }),
        (Kind::MESH_SERVICE, const { json_spec::<MeshService>() }),
        (Kind::MESH_TCP_ROUTE, const { json_spec::<MeshTCPRoute>() }),
        (Kind::MESH_TIMEOUT, const { json_spec::<MeshTimeout>() }),
        (Kind::MESH_TLS, const { json_spec::<MeshTLS>() }),
        (Kind::MESH_TRACE, const { json_spec::<MeshTrace>() }),
        (Kind::MESH_TRAFFIC_PERMISSION, const { json_spec::<MeshTrafficPermission>() }),
        (Kind::MESH_TRUST, const { json_spec::<MeshTrust>() }),
        (Kind::MESH_ZONE_ADDRESS, const { json_spec::<MeshZoneAddress>() }),
        (Kind::WORKLOAD, const { json_spec::<Workload>() }),
    ];
    specs.iter().find(|(of, _)| *of == kind).map(|(_, spec)| *spec)
}
