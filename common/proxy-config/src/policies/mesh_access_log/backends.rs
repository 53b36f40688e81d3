//! Where access logs are written: files, servers behind a pipe, collectors of OpenTelemetry.

use envoy_api::envoy::config::accesslog::v3::AccessLog;
use envoy_api::envoy::config::accesslog::v3::access_log::ConfigType;
use envoy_api::envoy::config::core::v3::SubstitutionFormatString;
use envoy_api::envoy::extensions::access_loggers::file::v3::FileAccessLog;
use envoy_api::envoy::extensions::access_loggers::file::v3::file_access_log::AccessLogFormat;
use envoy_api::envoy::extensions::access_loggers::open_telemetry::v3::OpenTelemetryAccessLogConfig;
use envoy_api::opentelemetry::proto::common::v1::any_value::Value as AnyKind;
use envoy_api::opentelemetry::proto::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use model::spec::{AccessLogBackend, AccessLogBackendType, LogField, LogFormat, OtelLog};
use prost::{Message, Name};
use serde_json::Value;

use super::super::otel::{Collector, Exporter, Signal, via_program};
use super::format::{Line, Placeholders, Values};
use crate::draft::Draft;
use crate::generate::Context;
use crate::parts::socket_path;

/// Name of the log at collectors.
const LOG_NAME: &str = "MeshAccessLog";

/// Deepest nesting of a body that is read.
const MAX_DEPTH: usize = 16;

/// Makes what writes to backends.
pub(super) struct Loggers<'a, 'b> {
    context: &'b Context<'a>,
    draft: &'b mut Draft,
    workload: String,
}

impl<'a, 'b> Loggers<'a, 'b> {
    pub(super) fn new(context: &'b Context<'a>, draft: &'b mut Draft) -> Self {
        Self { context, draft, workload: context.workload_kri().unwrap_or_default() }
    }

    /// The name of the proxy itself.
    pub(super) fn own_name(&self) -> &'b str {
        self.context.workload()
    }

    /// What placeholders stand for.
    pub(super) fn placeholders(&self, direction: &str, source: &str, destination: &str) -> Placeholders {
        Placeholders::new(&Values {
            mesh: self.context.view.mesh(),
            zone: self.context.view.zone(),
            workload: &self.workload,
            direction,
            source,
            source_address: self.context.address(),
            destination,
        })
    }

    /// What writes to a backend; `None` for one that cannot be reached.
    pub(super) fn logger(
        &mut self,
        backend: &AccessLogBackend,
        values: &Placeholders,
        default: &str,
    ) -> Option<AccessLog> {
        match backend.r#type {
            AccessLogBackendType::File => {
                let file = backend.file.as_ref()?;
                let line = Line::of(file.format.as_ref(), values, default);
                Some(to_file(&file.path, line.envoy(omits(file.format.as_ref()))))
            }
            AccessLogBackendType::Tcp => {
                let tcp = backend.tcp.as_ref()?;
                let line = Line::of(tcp.format.as_ref(), values, default).addressed(&tcp.address);
                Some(to_file(&self.pipe()?, line.envoy(omits(tcp.format.as_ref()))))
            }
            AccessLogBackendType::OpenTelemetry => {
                self.collected(backend.open_telemetry.as_ref()?, values, default)
            }
        }
    }

    /// The pipe from which the program beside Envoy sends lines to servers.
    fn pipe(&self) -> Option<String> {
        let dataplane = self.context.proxy.dataplane.key();
        let workdir = self.context.proxy.metadata.workdir.as_deref()?;
        Some(socket_path(workdir, &format!("kuma-al-{}-{}", dataplane.name, dataplane.mesh)))
    }

    fn collected(&mut self, said: &OtelLog, values: &Placeholders, default: &str) -> Option<AccessLog> {
        let collector = Collector::of(self.context, said.backend_ref.as_ref())?;
        let cluster = match via_program(self.context) {
            Some(_) => format!("system_meshaccesslog_otel_{}", collector.name()),
            None => format!("system_meshaccesslog_{}", collector.place(self.context)),
        };
        let exporter = collector.export(self.context, self.draft, Signal::Logs, &cluster)?;
        let body = said.body.as_ref().and_then(|body| any_value(body, values, MAX_DEPTH));
        let mut config = OpenTelemetryAccessLogConfig {
            body: body.or_else(|| text(&values.fill(default))),
            attributes: attributes(said.attributes.as_deref(), values),
            resource_attributes: self.resource(),
            log_name: LOG_NAME.into(),
            ..OpenTelemetryAccessLogConfig::default()
        };
        match exporter {
            Exporter::Grpc(service) => config.grpc_service = Some(*service),
            Exporter::Http(service) => config.http_service = Some(service),
        }
        Some(access_log("envoy.access_loggers.open_telemetry", &config))
    }

    fn resource(&self) -> Option<KeyValueList> {
        let known = [
            ("kuma.mesh", self.context.view.mesh()),
            ("kuma.zone", self.context.view.zone()),
            ("kuma.workload", self.workload.as_str()),
        ];
        let known = known.into_iter().filter(|(_, value)| !value.is_empty());
        Some(KeyValueList { values: known.map(|(key, value)| key_value(key, text(value))).collect() })
    }
}

fn omits(format: Option<&LogFormat>) -> bool {
    format.is_some_and(|format| format.omit_empty_values)
}

fn access_log<M: Message + Name>(name: &str, config: &M) -> AccessLog {
    let config = ConfigType::TypedConfig(envoy_api::pack(config));
    AccessLog { name: name.into(), filter: None, config_type: Some(config) }
}

fn to_file(path: &str, format: SubstitutionFormatString) -> AccessLog {
    let config =
        FileAccessLog { path: path.into(), access_log_format: Some(AccessLogFormat::LogFormat(format)) };
    access_log("envoy.access_loggers.file", &config)
}

fn key_value(key: &str, value: Option<AnyValue>) -> KeyValue {
    KeyValue { key: key.into(), value, ..KeyValue::default() }
}

fn text(text: &str) -> Option<AnyValue> {
    Some(AnyValue { value: Some(AnyKind::StringValue(text.into())) })
}

fn attributes(said: Option<&[LogField]>, values: &Placeholders) -> Option<KeyValueList> {
    let said = said.filter(|said| !said.is_empty())?;
    let pair = |field: &LogField| key_value(&field.key, text(&values.fill(&field.value)));
    Some(KeyValueList { values: said.iter().map(pair).collect() })
}

/// A value of OTLP in its JSON form (OpenTelemetry Protocol, JSON Protobuf encoding); bare text is text.
fn any_value(said: &Value, values: &Placeholders, depth: usize) -> Option<AnyValue> {
    let depth = depth.checked_sub(1)?;
    let Value::Object(fields) = said else {
        return said.as_str().and_then(|said| text(&values.fill(said)));
    };
    let (name, value) = fields.iter().next()?;
    let items = || value.get("values").and_then(Value::as_array).into_iter().flatten();
    let kind = match name.as_str() {
        "stringValue" => AnyKind::StringValue(values.fill(value.as_str()?)),
        "boolValue" => AnyKind::BoolValue(value.as_bool()?),
        "intValue" => AnyKind::IntValue(value.as_i64().or_else(|| value.as_str()?.parse().ok())?),
        "doubleValue" => AnyKind::DoubleValue(value.as_f64()?),
        "arrayValue" => {
            let values = items().filter_map(|item| any_value(item, values, depth)).collect();
            AnyKind::ArrayValue(ArrayValue { values })
        }
        "kvlistValue" => {
            let pair = |item: &Value| {
                let value = any_value(item.get("value")?, values, depth);
                Some(key_value(item.get("key")?.as_str()?, value))
            };
            AnyKind::KvlistValue(KeyValueList { values: items().filter_map(pair).collect() })
        }
        _ => return None,
    };
    Some(AnyValue { value: Some(kind) })
}
