//! MeshAccessLog: what proxies write down of requests and connections, and where.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Checked;
use super::checks::{DESTINATIONS, check_target, check_top};
use super::common::TargetRef;
use super::inbound::check_peers;
use super::mesh_traffic_permission::PeerMatch;
use super::otel_backend_ref::{OtelBackendRef, check_backend_ref};
use crate::Violations;

/// What the selected proxies write down of requests and connections, and where.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshAccessLog {
    /// Which proxies; all of the mesh where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// Logs of what their applications call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<AccessLogTo>>,
    /// Logs of what comes in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<AccessLogRule>>,
}

/// Logs of calls to a destination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessLogTo {
    /// The destination, or a MeshHTTPRoute to it.
    pub target_ref: TargetRef,
    /// The logs.
    pub default: AccessLogConf,
}

/// Logs of some of what comes in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AccessLogRule {
    /// Whose connections: any of these; all where it is absent. A connection that several rules name is written down
    /// for each of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<Vec<PeerMatch>>,
    /// The logs.
    pub default: AccessLogConf,
}

/// Logs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AccessLogConf {
    /// Where they are written. An empty list switches logs off that a less specific policy asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backends: Option<Vec<AccessLogBackend>>,
}

/// Where logs are written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessLogBackend {
    /// `Tcp`, `File` or `OpenTelemetry`.
    pub r#type: AccessLogBackendType,
    /// A server that takes lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpLog>,
    /// A file where the proxy runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileLog>,
    /// A collector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_telemetry: Option<OtelLog>,
}

/// Kinds of places for logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AccessLogBackendType {
    /// A server that takes lines.
    Tcp,
    /// A file where the proxy runs.
    File,
    /// A collector.
    OpenTelemetry,
}

/// A server that takes lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TcpLog {
    /// How a line looks; a plain line about the request or connection where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<LogFormat>,
    /// `host:port`.
    pub address: String,
}

/// A file where the proxy runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileLog {
    /// How a line looks; a plain line about the request or connection where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<LogFormat>,
    /// Its path.
    pub path: String,
}

/// How a line looks. Texts may hold Envoy's placeholders, such as `%START_TIME%`, and those of the mesh:
/// `%KUMA_MESH%`, `%KUMA_ZONE%`, `%KUMA_WORKLOAD%`, `%KUMA_TRAFFIC_DIRECTION%`, `%KUMA_SOURCE_SERVICE%`,
/// `%KUMA_SOURCE_ADDRESS%`, `%KUMA_SOURCE_ADDRESS_WITHOUT_PORT%` and `%KUMA_DESTINATION_SERVICE%`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogFormat {
    /// `Plain` or `Json`.
    pub r#type: LogFormatType,
    /// The line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plain: Option<String>,
    /// Fields of an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Vec<LogField>>,
    /// Leaves out what has no value, instead of writing `-` or `null`; false where it is absent.
    #[serde(default)]
    pub omit_empty_values: bool,
}

/// Whether a line is text or an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LogFormatType {
    /// Text.
    Plain,
    /// An object.
    Json,
}

/// A named value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogField {
    /// Its name.
    pub key: String,
    /// The value; placeholders are filled in.
    pub value: String,
}

/// Logs that a collector takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OtelLog {
    /// The collector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_ref: Option<OtelBackendRef>,
    /// Attributes of each record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Vec<LogField>>,
    /// Text, or any value of OTLP in its JSON form; a plain line where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
}

impl Checked for MeshAccessLog {
    fn check(&self, violations: &mut Violations) {
        let to = self.to.as_deref().unwrap_or_default();
        let rules = self.rules.as_deref().unwrap_or_default();
        check_top(self.target_ref.as_ref(), !rules.is_empty(), violations);
        match (to.is_empty(), rules.is_empty()) {
            (true, true) => violations.add("spec", "at least one of 'to' or 'rules' has to be defined"),
            (false, false) => violations.add("spec", "field 'to' must be empty when 'rules' is defined"),
            _ => {}
        }
        for (at, item) in to.iter().enumerate() {
            let path = format!("spec.to[{at}]");
            check_target(&format!("{path}.targetRef"), &item.target_ref, &DESTINATIONS, violations);
            check_conf(&format!("{path}.default"), &item.default, violations);
        }
        for (at, rule) in rules.iter().enumerate() {
            let path = format!("spec.rules[{at}]");
            check_peers(&path, rule.matches.as_deref(), violations);
            check_conf(&format!("{path}.default"), &rule.default, violations);
        }
    }
}

fn check_conf(path: &str, conf: &AccessLogConf, violations: &mut Violations) {
    let Some(backends) = &conf.backends else {
        violations.add(format!("{path}.backends"), "must be defined");
        return;
    };
    for (at, backend) in backends.iter().enumerate() {
        check_backend(&format!("{path}.backends[{at}]"), backend, violations);
    }
}

fn check_backend(path: &str, backend: &AccessLogBackend, violations: &mut Violations) {
    match (backend.r#type, &backend.tcp, &backend.file, &backend.open_telemetry) {
        (AccessLogBackendType::Tcp, Some(tcp), ..) => {
            let path = format!("{path}.tcp");
            if !is_host_and_port(&tcp.address) {
                violations.add(format!("{path}.address"), "tcp backend requires valid address");
            }
            check_format(&path, tcp.format.as_ref(), violations);
        }
        (AccessLogBackendType::File, _, Some(file), _) => {
            let path = format!("{path}.file");
            if file.path.is_empty() || file.path.ends_with('/') || file.path.contains('\0') {
                violations.add(format!("{path}.path"), "file backend requires a valid path");
            }
            check_format(&path, file.format.as_ref(), violations);
        }
        (AccessLogBackendType::OpenTelemetry, .., Some(otel)) => {
            let path = format!("{path}.openTelemetry");
            check_backend_ref(&path, otel.backend_ref.as_ref(), violations);
            for (at, attribute) in otel.attributes.iter().flatten().enumerate() {
                if !is_attribute(&attribute.key) {
                    let message = r"in body should match '^[a-z]([a-z0-9]|[._][a-z0-9])*$'";
                    violations.add(format!("{path}.attributes[{at}].key"), message);
                }
            }
        }
        (AccessLogBackendType::Tcp, ..) => violations.add(format!("{path}.tcp"), "must be defined"),
        (AccessLogBackendType::File, ..) => violations.add(format!("{path}.file"), "must be defined"),
        (AccessLogBackendType::OpenTelemetry, ..) => {
            violations.add(format!("{path}.openTelemetry"), "must be defined");
        }
    }
}

fn check_format(path: &str, format: Option<&LogFormat>, violations: &mut Violations) {
    let Some(format) = format else { return };
    let path = format!("{path}.format");
    if format.plain.is_some() && format.json.is_some() {
        violations.add(&*path, "format must have only one type defined: plain, json");
    }
    match format.r#type {
        LogFormatType::Plain => match format.plain.as_deref() {
            None => violations.add(format!("{path}.plain"), "must be defined"),
            Some("") => violations.add(format!("{path}.plain"), "must not be empty"),
            Some(_) => {}
        },
        LogFormatType::Json => match format.json.as_deref() {
            None => violations.add(format!("{path}.json"), "must be defined"),
            Some([]) => violations.add(format!("{path}.json"), "must not be empty"),
            Some(fields) => {
                for (at, _) in fields.iter().enumerate().filter(|(_, field)| field.key.is_empty()) {
                    violations.add(format!("{path}.json[{at}].key"), "must not be empty");
                }
            }
        },
    }
}

fn is_host_and_port(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let is_plain = !host.is_empty() && !host.contains([':', '[', ']', '/', ' ']);
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_v6 = bracketed.is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    (is_plain || is_v6) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Words of small letters and digits, joined by single dots or underscores, the first beginning with a letter.
fn is_attribute(key: &str) -> bool {
    key.starts_with(|c: char| c.is_ascii_lowercase())
        && key.split(['.', '_']).all(|word| {
            !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problems(spec: Value) -> Vec<String> {
        let spec: MeshAccessLog = serde_json::from_value(spec).expect("decodes");
        let mut violations = Violations::default();
        spec.check(&mut violations);
        violations.iter().map(|one| format!("{}: {}", one.field, one.message)).collect()
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let to = json!([
            {"targetRef": {"kind": "Mesh"}, "default": {}},
            {"targetRef": {"kind": "Dataplane"}, "default": {"backends": [
                {"type": "Tcp"},
                {"type": "Tcp", "tcp": {"address": "logs", "format": {"type": "Plain"}}},
                {"type": "File", "file": {"path": "", "format": {"type": "Json", "json": []}}},
                {"type": "File", "file": {"path": "/a", "format":
                    {"type": "Plain", "plain": "", "json": [{"key": "", "value": "x"}]}}},
                {"type": "OpenTelemetry", "openTelemetry": {"attributes": [
                    {"key": "A b", "value": ""}, {"key": "kuma.mesh_1", "value": "x"},
                ]}},
            ]}},
        ]);
        assert_eq!(
            problems(json!({"to": to})),
            [
                "spec.to[0].default.backends: must be defined",
                "spec.to[1].targetRef.kind: value 'Dataplane' is not supported",
                "spec.to[1].default.backends[0].tcp: must be defined",
                "spec.to[1].default.backends[1].tcp.address: tcp backend requires valid address",
                "spec.to[1].default.backends[1].tcp.format.plain: must be defined",
                "spec.to[1].default.backends[2].file.path: file backend requires a valid path",
                "spec.to[1].default.backends[2].file.format.json: must not be empty",
                "spec.to[1].default.backends[3].file.format: format must have only one type defined: plain, json",
                "spec.to[1].default.backends[3].file.format.plain: must not be empty",
                "spec.to[1].default.backends[4].openTelemetry.backendRef: must be defined",
                r"spec.to[1].default.backends[4].openTelemetry.attributes[0].key: in body should match '^[a-z]([a-z0-9]|[._][a-z0-9])*$'",
            ]
        );
    }

    #[test]
    fn a_policy_says_something() {
        assert_eq!(problems(json!({})), ["spec: at least one of 'to' or 'rules' has to be defined"]);
        let off = json!({"rules": [{"matches": [{}], "default": {"backends": []}}]});
        assert_eq!(
            problems(off),
            ["spec.rules[0].matches[0]: must have at least one defined: spiffeID, sni"]
        );
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for address in ["logs:5000", "127.0.0.1:1", "[::1]:5000"] {
            assert!(is_host_and_port(address), "{address}");
        }
        for address in ["", "logs", ":1", "logs:0", "logs:70000", "::1:5000", "http://logs:1"] {
            assert!(!is_host_and_port(address), "{address}");
        }
    }
}
