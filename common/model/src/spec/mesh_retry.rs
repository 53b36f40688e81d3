//! MeshRetry: which failed calls are made again.

mod checks;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::TargetRef;
use super::http_match::HeaderMatch;
use crate::duration::GoDuration;

/// Which failed calls of the selected proxies are made again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshRetry {
    /// Which proxies; all of the mesh where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// Calls to what, and how they are made again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<RetryTo>>,
}

/// Calls to some destinations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryTo {
    /// The destinations: `Mesh`, `MeshService`, `MeshExternalService`, `MeshMultiZoneService`, or the `MeshHTTPRoute`
    /// to them.
    pub target_ref: TargetRef,
    /// How calls are made again.
    #[serde(default)]
    pub default: RetryConf,
}

/// How calls are made again, by the protocol of the destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RetryConf {
    /// Connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpRetry>,
    /// Requests of HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpRetry>,
    /// Calls of gRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcRetry>,
}

/// How connections are made again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpRetry {
    /// How often a connection is tried before it is given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connect_attempt: Option<u32>,
}

/// How requests of HTTP are made again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRetry {
    /// How often a failed request is made again; 1 where it is absent, 0 is never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_retries: Option<u32>,
    /// How long each try may take, for example `2s`; as long as the request where it is absent, 0 is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_try_timeout: Option<GoDuration>,
    /// How long is waited between tries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back_off: Option<BackOff>,
    /// How long is waited when the answer says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limited_back_off: Option<RateLimitedBackOff>,
    /// What makes a request fail: `5xx`, `GatewayError`, `Reset`, `Retriable4xx`, `ConnectFailure`,
    /// `EnvoyRatelimited`, `RefusedStream`, `Http3PostConnectFailure`, or a status such as `503`; and which methods
    /// are made again, for example `HttpMethodGet`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_on: Option<Vec<String>>,
    /// Headers of answers that make a request fail: any of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retriable_response_headers: Option<Vec<HeaderMatch>>,
    /// Headers of requests that are made again: any of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retriable_request_headers: Option<Vec<HeaderMatch>>,
    /// Which endpoints a new try leaves out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_selection: Option<Vec<HostSelection>>,
    /// How often an endpoint is chosen again when it is left out; 1 where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_selection_max_attempts: Option<i64>,
}

/// How calls of gRPC are made again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GrpcRetry {
    /// How often a failed call is made again; 1 where it is absent, 0 is never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_retries: Option<u32>,
    /// How long each try may take, for example `2s`; as long as the call where it is absent, 0 is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_try_timeout: Option<GoDuration>,
    /// How long is waited between tries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back_off: Option<BackOff>,
    /// How long is waited when the answer says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limited_back_off: Option<RateLimitedBackOff>,
    /// Which status makes a call fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_on: Option<Vec<GrpcRetryOn>>,
}

/// Statuses of gRPC after which a call may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "gRPC names and describes them")]
pub enum GrpcRetryOn {
    Canceled,
    DeadlineExceeded,
    Internal,
    ResourceExhausted,
    Unavailable,
}

/// How long is waited between tries: longer and longer, and somewhat at random.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BackOff {
    /// Before the first new try, at least `1ms`; `25ms` where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_interval: Option<GoDuration>,
    /// The longest; 10 times the first where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_interval: Option<GoDuration>,
}

/// How long is waited when the answer says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RateLimitedBackOff {
    /// Headers of answers that say it: the first that can be read counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset_headers: Option<Vec<ResetHeader>>,
    /// The longest; `300s` where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_interval: Option<GoDuration>,
}

/// A header that says how long to wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResetHeader {
    /// Its name.
    pub name: String,
    /// How it says it.
    pub format: ResetFormat,
}

/// How a header says how long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ResetFormat {
    /// In seconds from now.
    Seconds,
    /// As a time, in seconds since 1970.
    UnixTimestamp,
}

/// Endpoints that a new try leaves out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostSelection {
    /// Which ones.
    pub predicate: HostPredicate,
    /// Labels of the endpoints; only for `OmitHostsWithTags`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
    /// After how many tries the load of priorities is computed anew; 2 where it is absent. Only for
    /// `OmitPreviousPriorities`.
    #[serde(default = "two")]
    pub update_frequency: i32,
}

fn two() -> i32 {
    2
}

/// Which endpoints a new try leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HostPredicate {
    /// Those that were tried.
    OmitPreviousHosts,
    /// Those with labels.
    OmitHostsWithTags,
    /// Those of priorities that were tried.
    OmitPreviousPriorities,
}
