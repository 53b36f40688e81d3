//! MeshTrace: which requests are traced, and who takes the spans.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Checked;
use super::checks::check_top;
use super::common::{IntOrString, TargetRef};
use super::otel_backend_ref::{OtelBackendRef, check_backend_ref};
use crate::Violations;
use crate::validation::is_dns_name;

/// Which requests of the selected proxies are traced, and who takes the spans.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshTrace {
    /// Which proxies; all of the mesh where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// What is traced, and for whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<TraceConf>,
}

/// What is traced, and for whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TraceConf {
    /// Who takes the spans: one backend at most. An empty list switches traces off that a less specific policy asks
    /// for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backends: Option<Vec<TraceBackend>>,
    /// Which requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling: Option<TraceSampling>,
    /// What spans say beside what they say by themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<TraceTag>>,
}

/// Who takes spans.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TraceBackend {
    /// `Zipkin`, `Datadog` or `OpenTelemetry`.
    pub r#type: TraceBackendType,
    /// Zipkin, or what understands its spans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zipkin: Option<ZipkinBackend>,
    /// The agent of Datadog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datadog: Option<DatadogBackend>,
    /// A collector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_telemetry: Option<OtelTraceBackend>,
}

/// Kinds of those who take spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TraceBackendType {
    /// Zipkin, or what understands its spans.
    Zipkin,
    /// The agent of Datadog.
    Datadog,
    /// A collector.
    OpenTelemetry,
}

/// Zipkin, or what understands its spans.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ZipkinBackend {
    /// Where it takes spans, for example `http://zipkin.example:9411/api/v2/spans`.
    pub url: String,
    /// Ids of traces have 128 bits instead of 64; false where it is absent.
    #[serde(rename = "traceId128bit", default)]
    pub trace_id_128bit: bool,
    /// `httpJson` or `httpProto`; `httpJson` where it is absent.
    #[serde(default)]
    pub api_version: ZipkinApiVersion,
    /// Both sides of a call share one span; true where it is absent.
    #[serde(default = "yes")]
    pub shared_span_context: bool,
}

fn yes() -> bool {
    true
}

/// How spans are written for Zipkin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ZipkinApiVersion {
    /// As JSON.
    #[default]
    HttpJson,
    /// As protobuf.
    HttpProto,
}

/// The agent of Datadog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatadogBackend {
    /// Where it is: `http://host:port`.
    pub url: String,
    /// Names of services say the direction and the destination of a call; false where it is absent.
    #[serde(default)]
    pub split_service: bool,
}

/// A collector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OtelTraceBackend {
    /// The collector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_ref: Option<OtelBackendRef>,
}

/// Which requests are traced, each in percent, as a number or as text such as `"0.5"`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TraceSampling {
    /// The most of all requests that are traced; 100 where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overall: Option<IntOrString>,
    /// How many of those that ask for it with `x-client-trace-id`; 100 where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<IntOrString>,
    /// How many of the others; 100 where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub random: Option<IntOrString>,
}

/// Something that spans say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TraceTag {
    /// Its name.
    pub name: String,
    /// The same value for all spans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub literal: Option<String>,
    /// A header of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<TraceHeader>,
}

/// A header of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TraceHeader {
    /// Its name.
    pub name: String,
    /// What is said of a request without it; nothing where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
}

/// An HTTP URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectorUrl<'a> {
    /// With TLS.
    pub is_https: bool,
    /// Host and port as they stand in it.
    pub authority: &'a str,
    /// Address or host name.
    pub host: &'a str,
    /// Port; that of the scheme where it is absent.
    pub port: Option<u16>,
    /// What comes after the authority, queries and fragments left out.
    pub path: &'a str,
    /// Whether it has a query or a fragment.
    pub has_more: bool,
}

impl<'a> CollectorUrl<'a> {
    /// Takes a URL apart (RFC 3986, 3); `None` for one without a host, or of another scheme.
    pub fn parse(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let is_https = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(end)?;
        let path = rest.split(['?', '#']).next().unwrap_or_default();
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port.parse().ok()?)),
            _ => (authority, None),
        };
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bracketed.unwrap_or(host);
        let is_host = host.parse::<IpAddr>().is_ok() || is_dns_name(&host.to_ascii_lowercase());
        is_host.then_some(Self { is_https, authority, host, port, path, has_more: path.len() < rest.len() })
    }

    /// The port.
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or(if self.is_https { 443 } else { 80 })
    }
}

impl Checked for MeshTrace {
    fn check(&self, violations: &mut Violations) {
        check_top(self.target_ref.as_ref(), false, violations);
        let Some(conf) = &self.default else { return };
        let backends = conf.backends.as_deref().unwrap_or_default();
        if backends.len() > 1 {
            violations.add("spec.default.backends", "must have zero or one backend defined");
        }
        for (at, backend) in backends.iter().enumerate() {
            check_backend(&format!("spec.default.backends[{at}]"), backend, violations);
        }
        if let Some(sampling) = &conf.sampling {
            let shares =
                [("client", &sampling.client), ("random", &sampling.random), ("overall", &sampling.overall)];
            for (name, share) in shares {
                let path = format!("spec.default.sampling.{name}");
                match share.as_ref().map(IntOrString::as_f64) {
                    Some(None) => violations.add(path, "string must be a valid number"),
                    Some(Some(share)) if !(0.0..=100.0).contains(&share) => {
                        violations.add(path, "must be in inclusive range [0.0, 100.0]");
                    }
                    _ => {}
                }
            }
        }
        for (at, tag) in conf.tags.iter().flatten().enumerate() {
            check_tag(&format!("spec.default.tags[{at}]"), tag, violations);
        }
    }
}

fn check_backend(path: &str, backend: &TraceBackend, violations: &mut Violations) {
    match (backend.r#type, &backend.zipkin, &backend.datadog, &backend.open_telemetry) {
        (TraceBackendType::Zipkin, Some(zipkin), ..) => {
            let path = format!("{path}.zipkin.url");
            match zipkin.url.as_str() {
                "" => violations.add(path, "must not be empty"),
                url if CollectorUrl::parse(url).is_none() => violations.add(path, "must be a valid url"),
                _ => {}
            }
        }
        (TraceBackendType::Datadog, _, Some(datadog), _) => {
            check_datadog_url(&format!("{path}.datadog.url"), &datadog.url, violations);
        }
        (TraceBackendType::OpenTelemetry, .., Some(otel)) => {
            check_backend_ref(&format!("{path}.openTelemetry"), otel.backend_ref.as_ref(), violations);
        }
        (TraceBackendType::Zipkin, ..) => violations.add(format!("{path}.zipkin"), "must be defined"),
        (TraceBackendType::Datadog, ..) => violations.add(format!("{path}.datadog"), "must be defined"),
        (TraceBackendType::OpenTelemetry, ..) => {
            violations.add(format!("{path}.openTelemetry"), "must be defined");
        }
    }
}

fn check_datadog_url(path: &str, url: &str, violations: &mut Violations) {
    if url.is_empty() {
        violations.add(path, "must not be empty");
        return;
    }
    let Some(parts) = CollectorUrl::parse(url) else {
        violations.add(path, "must be a valid url");
        return;
    };
    if parts.is_https {
        violations.add(path, "scheme must be http");
    }
    if parts.port.is_none_or(|port| port == 0) {
        violations.add(path, "port must be defined");
    }
    if !matches!(parts.path, "" | "/") || parts.has_more {
        violations.add(path, "path must not be defined");
    }
}

fn check_tag(path: &str, tag: &TraceTag, violations: &mut Violations) {
    if tag.name.is_empty() {
        violations.add(format!("{path}.name"), "must not be empty");
    }
    match (&tag.literal, &tag.header) {
        (None, None) | (Some(_), Some(_)) => {
            violations.add(path, "tag must have only one type defined: header, literal");
        }
        (Some(literal), None) if literal.is_empty() => {
            violations.add(format!("{path}.literal"), "must not be empty");
        }
        (None, Some(header)) if header.name.is_empty() => {
            violations.add(format!("{path}.header.name"), "must not be empty");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn problems(conf: Value) -> Vec<String> {
        let spec: MeshTrace = serde_json::from_value(json!({"default": conf})).expect("decodes");
        let mut violations = Violations::default();
        spec.check(&mut violations);
        violations.iter().map(|one| format!("{}: {}", one.field, one.message)).collect()
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let conf = json!({
            "backends": [
                {"type": "Zipkin"},
                {"type": "Zipkin", "zipkin": {"url": "zipkin:9411"}},
                {"type": "Datadog", "datadog": {"url": "https://agent/path"}},
                {"type": "OpenTelemetry", "openTelemetry": {}},
            ],
            "sampling": {"overall": "101", "client": "half", "random": 50},
            "tags": [
                {"name": "", "literal": ""},
                {"name": "a"},
                {"name": "b", "literal": "x", "header": {"name": "y"}},
                {"name": "c", "header": {"name": ""}},
            ],
        });
        assert_eq!(
            problems(conf),
            [
                "spec.default.backends: must have zero or one backend defined",
                "spec.default.backends[0].zipkin: must be defined",
                "spec.default.backends[1].zipkin.url: must be a valid url",
                "spec.default.backends[2].datadog.url: scheme must be http",
                "spec.default.backends[2].datadog.url: port must be defined",
                "spec.default.backends[2].datadog.url: path must not be defined",
                "spec.default.backends[3].openTelemetry.backendRef: must be defined",
                "spec.default.sampling.client: string must be a valid number",
                "spec.default.sampling.overall: must be in inclusive range [0.0, 100.0]",
                "spec.default.tags[0].name: must not be empty",
                "spec.default.tags[0].literal: must not be empty",
                "spec.default.tags[1]: tag must have only one type defined: header, literal",
                "spec.default.tags[2]: tag must have only one type defined: header, literal",
                "spec.default.tags[3].header.name: must not be empty",
            ]
        );
    }

    #[test]
    fn urls_are_taken_apart() {
        let url = CollectorUrl::parse("http://zipkin.example:9411/api/v2/spans?x#y").expect("a url");
        assert_eq!((url.host, url.port, url.path), ("zipkin.example", Some(9411), "/api/v2/spans"));
        assert_eq!((url.authority, url.has_more), ("zipkin.example:9411", true));
        let url = CollectorUrl::parse("https://[::1]").expect("a url");
        assert_eq!((url.host, url.port_or_default(), url.path), ("::1", 443, ""));
        for text in ["", "zipkin:9411", "http://", "ftp://a", "http://a:b", "http://a b/"] {
            assert_eq!(CollectorUrl::parse(text), None, "{text}");
        }
    }

    #[test]
    fn defaults_appear_in_what_is_there() {
        let backend: TraceBackend =
            serde_json::from_value(json!({"type": "Zipkin", "zipkin": {"url": "http://a/b"}}))
                .expect("decodes");
        assert_eq!(
            serde_json::to_value(backend).expect("serializes"),
            json!({"type": "Zipkin", "zipkin": {
                "url": "http://a/b", "traceId128bit": false, "apiVersion": "httpJson",
                "sharedSpanContext": true,
            }})
        );
    }
}
