//! MeshTCPRoute: where connections to a service go.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::backend_ref::BackendRef;
use super::common::TargetRef;

/// Where connections of the selected proxies to services go. Requests of HTTP follow a MeshHTTPRoute where there is
/// one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshTCPRoute {
    /// Which proxies; all of the mesh where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// Connections to which services, and where they go. At least one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<TcpRouteTo>>,
}

/// Connections to a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpRouteTo {
    /// The service: `MeshService`, `MeshExternalService` or `MeshMultiZoneService`.
    pub target_ref: TargetRef,
    /// Exactly one.
    pub rules: Vec<TcpRouteRule>,
}

/// What becomes of connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TcpRouteRule {
    /// What becomes of them; rules of other policies are merged into it.
    pub default: TcpRouteConf,
}

/// What becomes of connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpRouteConf {
    /// Who takes them; the service itself where it is absent or empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_refs: Option<Vec<BackendRef>>,
}
