//! MeshTimeout: how long connections, requests and silences may last.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::TargetRef;
use super::mesh_traffic_permission::PeerMatch;
use crate::duration::GoDuration;

/// How long connections, requests and silences of the selected proxies may last. Either `to` or `rules`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshTimeout {
    /// Which proxies; all of the mesh where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// Calls that the proxies make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<TimeoutTo>>,
    /// Calls that the proxies take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<TimeoutRule>>,
}

/// Calls to some destinations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimeoutTo {
    /// The destinations: `Mesh`, `MeshService`, `MeshExternalService`, `MeshMultiZoneService`, or the `MeshHTTPRoute`
    /// to them.
    pub target_ref: TargetRef,
    /// Their timeouts.
    #[serde(default)]
    pub default: TimeoutConf,
}

/// Calls by some peers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TimeoutRule {
    /// Which ones: those that any item matches; all where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matches: Option<Vec<PeerMatch>>,
    /// Their timeouts.
    pub default: TimeoutConf,
}

/// Timeouts, for example `10s` or `1h`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TimeoutConf {
    /// How long a connection may take to open; `5s` where it is absent, never 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_timeout: Option<GoDuration>,
    /// How long a connection may be silent; `1h` where it is absent, 0 is no limit: then connections may leak.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<GoDuration>,
    /// Timeouts of HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpTimeouts>,
}

/// Timeouts of HTTP. 0 is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpTimeouts {
    /// How long a request may take until it is answered; `15s` where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_timeout: Option<GoDuration>,
    /// How long a stream may be silent; `30m` where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_idle_timeout: Option<GoDuration>,
    /// How long a stream may last; no limit where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_stream_duration: Option<GoDuration>,
    /// After how long a connection is drained; no limit where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connection_duration: Option<GoDuration>,
    /// How long the headers of a request may take from their first byte; no limit where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_headers_timeout: Option<GoDuration>,
}
