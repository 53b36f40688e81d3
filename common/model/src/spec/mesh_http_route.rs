//! MeshHTTPRoute: where requests to a service go, and how they change on the way.

mod checks;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::backend_ref::BackendRef;
use super::common::{IntOrString, TargetRef};
use super::http_match::HttpMatch;
use super::mesh_rate_limit::HeaderKeyValue;

/// Where requests of the selected proxies to services go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshHTTPRoute {
    /// Which proxies; all of the mesh where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// Requests to which services, and their rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<HttpRouteTo>>,
}

/// Requests to a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteTo {
    /// The service: `MeshService`, `MeshExternalService` or `MeshMultiZoneService`.
    pub target_ref: TargetRef,
    /// Not supported; must not be set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostnames: Option<Vec<String>>,
    /// What becomes of the requests. What no rule matches goes to the service itself.
    pub rules: Vec<HttpRouteRule>,
}

/// What becomes of some requests. Of several rules that match, the most specific one counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteRule {
    /// Which requests: those that any item matches. At least one.
    pub matches: Vec<HttpMatch>,
    /// What becomes of them; rules of other policies with the same matches are merged into it.
    pub default: HttpRouteConf,
}

/// What becomes of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRouteConf {
    /// Changes, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filters: Option<Vec<HttpRouteFilter>>,
    /// Who answers; the service itself where it is absent or empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_refs: Option<Vec<BackendRef>>,
}

/// A change of requests or responses. The field of its type is set, others do not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteFilter {
    /// What kind of change.
    pub r#type: HttpRouteFilterType,
    /// Headers of requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_header_modifier: Option<HeaderModifier>,
    /// Headers of responses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_header_modifier: Option<HeaderModifier>,
    /// An answer that sends callers elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_redirect: Option<RequestRedirect>,
    /// Another path or host for the backend.
    #[serde(default, rename = "urlRewrite", skip_serializing_if = "Option::is_none")]
    pub url_rewrite: Option<UrlRewrite>,
    /// Copies of requests for another backend, whose answers nobody reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_mirror: Option<RequestMirror>,
}

/// Kinds of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HttpRouteFilterType {
    /// Headers of requests.
    RequestHeaderModifier,
    /// Headers of responses.
    ResponseHeaderModifier,
    /// An answer that sends callers elsewhere.
    RequestRedirect,
    /// Another path or host for the backend.
    URLRewrite,
    /// Copies of requests for another backend.
    RequestMirror,
}

/// Changes of headers: one action a name. Several values are separated by commas (RFC 7230).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HeaderModifier {
    /// Headers that are replaced, or added where they are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<Vec<HeaderKeyValue>>,
    /// Headers that are added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add: Option<Vec<HeaderKeyValue>>,
    /// Names of headers that are removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remove: Option<Vec<String>>,
}

/// An answer that sends callers elsewhere. What is absent stays as in the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestRedirect {
    /// Scheme of the location.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    /// Host of the location.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Path of the location.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathRewrite>,
    /// Port of the location.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
    /// Status of the answer: 301, 302, 303, 307 or 308; 302 where it is absent.
    #[serde(default = "found")]
    pub status_code: u32,
}

fn found() -> u32 {
    302
}

/// Schemes of locations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// As it stands in a location.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Another path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PathRewrite {
    /// What is replaced.
    pub r#type: PathRewriteType,
    /// The whole path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace_full_path: Option<String>,
    /// What stands in place of the prefix that the rule matched; only for rules that match prefixes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace_prefix_match: Option<String>,
}

/// What is replaced of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PathRewriteType {
    /// All of it.
    ReplaceFullPath,
    /// The prefix that the rule matched.
    ReplacePrefixMatch,
}

/// Another path or host for the backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct UrlRewrite {
    /// The host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathRewrite>,
    /// Not supported; must not be set.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub host_to_backend_hostname: bool,
}

/// Copies of requests for another backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestMirror {
    /// Share of the requests in percent, for example `10` or `"0.5"`; all where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percentage: Option<IntOrString>,
    /// Who gets the copies.
    pub backend_ref: BackendRef,
}
