//! How lines of access logs look: placeholders of the mesh are filled in here, those of Envoy stay.

use std::net::IpAddr;

use envoy_api::envoy::config::core::v3::data_source::Specifier;
use envoy_api::envoy::config::core::v3::substitution_format_string::Format;
use envoy_api::envoy::config::core::v3::{DataSource, SubstitutionFormatString};
use model::spec::{LogField, LogFormat, LogFormatType};
use prost_types::value::Kind;
use prost_types::{Struct, Value};

/// A line about a request.
pub(super) const DEFAULT_HTTP: &str = concat!(
    r#"[%START_TIME%] %KUMA_MESH% "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" "#,
    r#"%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "#,
    r#"%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "#,
    r#""%REQ(X-B3-TRACEID?X-DATADOG-TRACEID)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "#,
    r#""%KUMA_SOURCE_SERVICE%" "%KUMA_DESTINATION_SERVICE%" "%KUMA_SOURCE_ADDRESS_WITHOUT_PORT%" "#,
    r#""%UPSTREAM_HOST%""#,
);

/// A line about a connection.
pub(super) const DEFAULT_TCP: &str = concat!(
    "[%START_TIME%] %RESPONSE_FLAGS% %KUMA_MESH% ",
    "%KUMA_SOURCE_ADDRESS_WITHOUT_PORT%(%KUMA_SOURCE_SERVICE%)->%UPSTREAM_HOST%(%KUMA_DESTINATION_SERVICE%) ",
    "took %DURATION%ms, sent %BYTES_SENT% bytes, received: %BYTES_RECEIVED% bytes",
);

/// Placeholders of the mesh and what stands for them.
#[derive(Clone, Debug)]
pub(super) struct Placeholders(Vec<(&'static str, String)>);

/// What placeholders of the mesh stand for.
pub(super) struct Values<'a> {
    pub(super) mesh: &'a str,
    pub(super) zone: &'a str,
    pub(super) workload: &'a str,
    pub(super) direction: &'a str,
    pub(super) source: &'a str,
    pub(super) source_address: Option<IpAddr>,
    pub(super) destination: &'a str,
}

impl Placeholders {
    pub(super) fn new(values: &Values<'_>) -> Self {
        let address = values.source_address.map(|address| address.to_string()).unwrap_or_default();
        let with_port = match values.source_address {
            Some(IpAddr::V6(_)) => format!("[{address}]:0"),
            _ => format!("{address}:0"),
        };
        Self(vec![
            ("%KUMA_SOURCE_ADDRESS%", with_port),
            ("%KUMA_SOURCE_ADDRESS_WITHOUT_PORT%", address),
            ("%KUMA_SOURCE_SERVICE%", values.source.into()),
            ("%KUMA_DESTINATION_SERVICE%", values.destination.into()),
            ("%KUMA_MESH%", values.mesh.into()),
            ("%KUMA_TRAFFIC_DIRECTION%", values.direction.into()),
            ("%KUMA_ZONE%", values.zone.into()),
            ("%KUMA_WORKLOAD%", values.workload.into()),
        ])
    }

    /// Fills them in.
    pub(super) fn fill(&self, text: &str) -> String {
        if !text.contains("%KUMA_") {
            return text.into();
        }
        self.0.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    }
}

/// A line, text or object.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Line {
    Plain(String),
    Json(Struct),
}

impl Line {
    /// What a policy says of a line, with placeholders filled in.
    pub(super) fn of(format: Option<&LogFormat>, values: &Placeholders, default: &str) -> Self {
        let plain = |text: &str| Self::Plain(format!("{}\n", values.fill(text)));
        match format {
            None => plain(default),
            Some(format) => match format.r#type {
                LogFormatType::Plain => plain(format.plain.as_deref().unwrap_or(default)),
                LogFormatType::Json => Self::Json(fields(format.json.as_deref(), values)),
            },
        }
    }

    /// The line as Envoy writes it.
    pub(super) fn envoy(self, omit_empty_values: bool) -> SubstitutionFormatString {
        let format = match self {
            Self::Plain(text) => Format::TextFormatSource(DataSource {
                specifier: Some(Specifier::InlineString(text)),
                ..DataSource::default()
            }),
            Self::Json(object) => Format::JsonFormat(object),
        };
        SubstitutionFormatString {
            format: Some(format),
            omit_empty_values,
            ..SubstitutionFormatString::default()
        }
    }

    /// The line with the server that takes it, for the program that sends it on.
    pub(super) fn addressed(self, address: &str) -> Self {
        let message = match self {
            Self::Plain(text) => Kind::StringValue(text),
            Self::Json(object) => Kind::StructValue(object),
        };
        let entries = [("address", Kind::StringValue(address.into())), ("message", message)];
        let entry = |(name, kind): (&str, Kind)| (name.to_owned(), Value { kind: Some(kind) });
        Self::Json(Struct { fields: entries.into_iter().map(entry).collect() })
    }
}

fn fields(said: Option<&[LogField]>, values: &Placeholders) -> Struct {
    let fields = said
        .unwrap_or_default()
        .iter()
        .map(|field| (field.key.clone(), Value { kind: Some(Kind::StringValue(values.fill(&field.value))) }));
    Struct { fields: fields.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Placeholders {
        Placeholders::new(&Values {
            mesh: "default",
            zone: "east",
            workload: "kri_wl_default_east__web_",
            direction: "OUTBOUND",
            source: "web",
            source_address: Some(IpAddr::from([10, 0, 0, 1])),
            destination: "backend",
        })
    }

    #[test]
    fn placeholders_of_the_mesh_are_filled_in() {
        let text = "%KUMA_MESH%/%KUMA_ZONE% %KUMA_SOURCE_SERVICE% %KUMA_SOURCE_ADDRESS% %REQ(a)% %KUMA_X%";
        assert_eq!(values().fill(text), "default/east web 10.0.0.1:0 %REQ(a)% %KUMA_X%");
        // Only the percent signs of the placeholder itself go.
        assert_eq!(values().fill("%%KUMA_DESTINATION_SERVICE%%"), "%backend%");
    }

    #[test]
    fn lines_name_the_server_that_takes_them() {
        let line = Line::of(None, &values(), "%KUMA_MESH%");
        assert_eq!(line, Line::Plain("default\n".into()));
        let Line::Json(object) = line.addressed("logs:5000") else { panic!("an object") };
        let text = |name: &str| match &object.fields[name].kind {
            Some(Kind::StringValue(text)) => text.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!((text("address"), text("message")), ("logs:5000".into(), "default\n".into()));
    }
}
