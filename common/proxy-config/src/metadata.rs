//! What a proxy says about itself when it connects: the metadata of its node, also kept in its insight.

use std::collections::{BTreeMap, BTreeSet};

use prost_types::value::Kind;
use prost_types::{Struct, Value};

use crate::generate::Transparent;

/// What the program beside Envoy can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// Redirected connections are let in on declared ports only.
    StrictInboundPorts,
    /// Several sockets may listen on one port.
    ReusePort,
    /// Virtual addresses are bound instead of redirected to.
    BindOutbounds,
    /// The redirection is described in the metadata.
    TransparentProxyInMetadata,
    /// Lines for servers that take logs are written into a pipe.
    TcpAccessLogViaNamedPipe,
    /// Signals of OpenTelemetry are sent on.
    OtelViaProgram,
}

impl Feature {
    const ALL: [Self; 6] = [
        Self::StrictInboundPorts,
        Self::ReusePort,
        Self::BindOutbounds,
        Self::TransparentProxyInMetadata,
        Self::TcpAccessLogViaNamedPipe,
        Self::OtelViaProgram,
    ];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::StrictInboundPorts => "feature-strict-inbound-ports",
            Self::ReusePort => "feature-reuse-port",
            Self::BindOutbounds => "feature-bind-outbounds",
            Self::TransparentProxyInMetadata => "feature-transparent-proxy-in-dataplane-metadata",
            Self::TcpAccessLogViaNamedPipe => "feature-tcp-accesslog-via-named-pipe",
            Self::OtelViaProgram => "feature-otel-via-kuma-dp",
        }
    }
}

/// What a proxy says about itself. What it does not say, or says in another form than expected, is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The Dataplane it brought along, as JSON text.
    pub dataplane_resource: Option<String>,
    /// Port of the admin listener.
    pub admin_port: Option<u32>,
    /// Where Envoy serves its admin endpoint, when not on a socket.
    pub admin_address: Option<String>,
    /// The socket on which Envoy serves its admin endpoint.
    pub admin_socket: Option<String>,
    /// Port of the DNS proxy.
    pub dns_port: Option<u32>,
    /// Port that tells whether the proxy is ready.
    pub readiness_port: Option<u32>,
    /// Directory of its sockets.
    pub workdir: Option<String>,
    /// Bundle of the system's authorities.
    pub system_ca_path: Option<String>,
    /// Whether IPv6 works where it runs.
    pub ipv6: bool,
    /// What the program beside Envoy can do.
    pub features: BTreeSet<Feature>,
    /// Certificate with which it serves metrics.
    pub metrics_certificate: Option<String>,
    /// Key of that certificate.
    pub metrics_key: Option<String>,
    /// Address of the machine that it runs on, where that is known.
    pub host_ip: Option<String>,
    /// What its environment says of OpenTelemetry: names of settings for all signals (`shared`) and for one, such as
    /// `traces`.
    pub otel_environment: BTreeMap<String, BTreeSet<String>>,
    pub(crate) transparent: Option<Transparent>,
}

impl Metadata {
    /// Reads the metadata of a node or of an insight.
    pub fn from_struct(metadata: &Struct) -> Self {
        let text = |key: &str| text(metadata, key);
        let mut read = Self {
            dataplane_resource: text("dataplane.resource"),
            admin_port: port(metadata, "dataplane.admin.port"),
            admin_address: text("dataplane.admin.address"),
            admin_socket: text("dataplane.admin.socketPath"),
            dns_port: port(metadata, "dataplane.dns.port"),
            readiness_port: port(metadata, "dataplane.readinessReporter.port"),
            workdir: text("workdir"),
            system_ca_path: text("systemCaPath"),
            ipv6: boolean(metadata, "ipv6Enabled").unwrap_or(false),
            features: features(metadata),
            metrics_certificate: text("metricsCertPath"),
            metrics_key: text("metricsKeyPath"),
            host_ip: object(metadata, "dynamicMetadata").and_then(|told| self::text(told, "hostIP")),
            otel_environment: otel_environment(metadata),
            transparent: None,
        };
        if read.has(Feature::TransparentProxyInMetadata) {
            read.transparent = object(metadata, "transparentProxy").and_then(redirection);
        }
        read
    }

    /// Whether the program beside Envoy can do something.
    pub fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }
}

fn value<'a>(fields: &'a Struct, key: &str) -> Option<&'a Kind> {
    fields.fields.get(key).and_then(|Value { kind }| kind.as_ref())
}

fn text(fields: &Struct, key: &str) -> Option<String> {
    match value(fields, key)? {
        Kind::StringValue(text) if !text.is_empty() => Some(text.clone()),
        _ => None,
    }
}

/// A port as text or number; zero and what is no port are absent.
fn port(fields: &Struct, key: &str) -> Option<u32> {
    let port: u16 = match value(fields, key)? {
        Kind::StringValue(text) => text.parse().ok()?,
        Kind::NumberValue(number) => number.to_string().parse().ok()?,
        _ => return None,
    };
    (port != 0).then_some(u32::from(port))
}

fn boolean(fields: &Struct, key: &str) -> Option<bool> {
    match value(fields, key)? {
        Kind::BoolValue(value) => Some(*value),
        Kind::StringValue(text) => text.parse().ok(),
        _ => None,
    }
}

fn object<'a>(fields: &'a Struct, key: &str) -> Option<&'a Struct> {
    match value(fields, key)? {
        Kind::StructValue(fields) => Some(fields),
        _ => None,
    }
}

fn features(fields: &Struct) -> BTreeSet<Feature> {
    let Some(Kind::ListValue(list)) = value(fields, "features") else { return BTreeSet::new() };
    let named = |value: &Value| match &value.kind {
        Some(Kind::StringValue(name)) => Feature::ALL.into_iter().find(|feature| feature.name() == name),
        _ => None,
    };
    list.values.iter().filter_map(named).collect()
}

/// Settings that are there; how they are told differs between programs: as a list of names, or as an object.
fn otel_environment(fields: &Struct) -> BTreeMap<String, BTreeSet<String>> {
    let told = object(fields, "otelEnvInventory");
    let layers = told.into_iter().flat_map(|told| &told.fields);
    let settings = |value: &Value| match &value.kind {
        Some(Kind::StructValue(settings)) => {
            let said = settings.fields.iter().filter(|(_, value)| is_said(value));
            said.map(|(name, _)| name.clone()).collect()
        }
        Some(Kind::ListValue(names)) => {
            let name = |value: &Value| match &value.kind {
                Some(Kind::StringValue(name)) => Some(name.clone()),
                _ => None,
            };
            names.values.iter().filter_map(name).collect()
        }
        _ => BTreeSet::new(),
    };
    let layers = layers.map(|(layer, value)| (layer.clone(), settings(value)));
    layers.filter(|(_, settings)| !settings.is_empty()).collect()
}

fn is_said(value: &Value) -> bool {
    match &value.kind {
        Some(Kind::BoolValue(value)) => *value,
        Some(Kind::StringValue(text)) => !text.is_empty(),
        Some(Kind::NumberValue(number)) => *number != 0.0,
        Some(Kind::StructValue(fields)) => !fields.fields.is_empty(),
        Some(Kind::ListValue(list)) => !list.values.is_empty(),
        Some(Kind::NullValue(_)) | None => false,
    }
}

fn redirection(told: &Struct) -> Option<Transparent> {
    let redirect = object(told, "redirect")?;
    let inbound = object(redirect, "inbound");
    let outbound = object(redirect, "outbound");
    let dns = object(redirect, "dns").and_then(|dns| boolean(dns, "enabled"));
    Some(Transparent {
        inbound_port: inbound.and_then(|inbound| port(inbound, "port"))?,
        outbound_port: outbound.and_then(|outbound| port(outbound, "port"))?,
        ipv6: text(told, "ipFamilyMode").is_none_or(|mode| !mode.eq_ignore_ascii_case("ipv4")),
        dns: dns.unwrap_or(false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(entries: &[(&str, Kind)]) -> Struct {
        let entry = |(key, kind): &(&str, Kind)| ((*key).to_owned(), Value { kind: Some(kind.clone()) });
        Struct { fields: entries.iter().map(entry).collect() }
    }

    fn string(text: &str) -> Kind {
        Kind::StringValue(text.into())
    }

    #[test]
    fn ports_are_text_or_numbers_and_never_zero() {
        let metadata = Metadata::from_struct(&fields(&[
            ("dataplane.admin.port", string("9901")),
            ("dataplane.dns.port", Kind::NumberValue(15053.0)),
            ("dataplane.readinessReporter.port", string("0")),
        ]));
        assert_eq!(metadata.admin_port, Some(9901));
        assert_eq!(metadata.dns_port, Some(15053));
        assert_eq!(metadata.readiness_port, None);
    }

    #[test]
    fn what_has_another_form_is_absent() {
        let metadata = Metadata::from_struct(&fields(&[
            ("dataplane.admin.port", string("70000")),
            ("workdir", Kind::BoolValue(true)),
            ("features", string("feature-reuse-port")),
        ]));
        assert_eq!(metadata, Metadata::default());
    }

    #[test]
    fn unknown_features_are_left_out() {
        let names = ["feature-reuse-port", "feature-of-tomorrow"];
        let values = names.map(|name| Value { kind: Some(string(name)) }).to_vec();
        let list = Kind::ListValue(prost_types::ListValue { values });
        let metadata = Metadata::from_struct(&fields(&[("features", list)]));
        assert_eq!(metadata.features, BTreeSet::from([Feature::ReusePort]));
    }

    #[test]
    fn settings_of_the_environment_are_named() {
        let shared =
            Kind::StructValue(fields(&[("endpoint", string("x")), ("headers", Kind::BoolValue(false))]));
        let list = vec![Value { kind: Some(string("protocol")) }];
        let traces = Kind::ListValue(prost_types::ListValue { values: list });
        let told = fields(&[("shared", shared), ("traces", traces), ("pipeEnabled", Kind::BoolValue(true))]);
        let metadata = Metadata::from_struct(&fields(&[("otelEnvInventory", Kind::StructValue(told))]));
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let wanted =
            [("shared".to_owned(), names(&["endpoint"])), ("traces".to_owned(), names(&["protocol"]))];
        assert_eq!(metadata.otel_environment, BTreeMap::from(wanted));
    }

    #[test]
    fn redirection_is_read_only_with_its_feature() {
        let port = |port| Kind::StructValue(fields(&[("port", Kind::NumberValue(port))]));
        let redirect = fields(&[("inbound", port(15006.0)), ("outbound", port(15001.0))]);
        let proxy = Kind::StructValue(fields(&[("redirect", Kind::StructValue(redirect))]));
        let without = Metadata::from_struct(&fields(&[("transparentProxy", proxy.clone())]));
        assert_eq!(without.transparent, None);
        let feature = Value { kind: Some(string(Feature::TransparentProxyInMetadata.name())) };
        let list = Kind::ListValue(prost_types::ListValue { values: vec![feature] });
        let with = Metadata::from_struct(&fields(&[("transparentProxy", proxy), ("features", list)]));
        let read = with.transparent.expect("described");
        assert_eq!((read.inbound_port, read.outbound_port, read.ipv6, read.dns), (15006, 15001, true, false));
    }
}
