//! Envoy configuration as JSON for people: proto3 mapping with `@type`, in a stable order.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use prost::{Message, Name};
use prost_reflect::{DynamicMessage, SerializeOptions};
use serde_json::{Value, json};

mod unknown;

/// A document that is not the message it should be.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// A type that is not in the descriptors.
    #[error("unknown message type {0:?}")]
    UnknownType(String),
    /// Bytes that are not the message.
    #[error("not a {message}: {reason}")]
    Decode {
        /// Full message name.
        message: String,
        /// What the decoder says.
        reason: String,
    },
    /// A document that does not fit the message.
    #[error("{message}: {reason}")]
    Parse {
        /// Full message name.
        message: String,
        /// What does not fit.
        reason: String,
    },
}

/// How fields are called in a document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldNames {
    /// `connectTimeout`, as proto3 JSON has it.
    #[default]
    LowerCamel,
    /// `connect_timeout`, as Envoy's documentation and its admin endpoint write it.
    Proto,
}

/// Prints an encoded message by its type URL or full name. Each nested `Any` is expanded with its `@type`; one
/// that cannot be is shown as `{"@type", "value": base64}` and does not fail the rest.
///
/// # Errors
/// When the outer type is not known or the bytes are not of it.
pub fn print(type_url: &str, bytes: &[u8]) -> Result<Value, JsonError> {
    print_with(type_url, bytes, FieldNames::default())
}

/// [`print()`] with the names of fields to choose.
///
/// # Errors
/// As [`print()`].
pub fn print_with(type_url: &str, bytes: &[u8], names: FieldNames) -> Result<Value, JsonError> {
    let name = type_url.rsplit('/').next().unwrap_or(type_url);
    let descriptor =
        crate::descriptors().get_message_by_name(name).ok_or_else(|| JsonError::UnknownType(name.into()))?;
    let failed = |reason: String| JsonError::Decode { message: name.into(), reason };
    let mut message = DynamicMessage::decode(descriptor, bytes).map_err(|error| failed(error.to_string()))?;
    let hidden = unknown::hide(&mut message);
    let options = SerializeOptions::new().use_proto_field_name(names == FieldNames::Proto);
    let mut document = message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|error| failed(error.to_string()))?;
    if hidden {
        unknown::restore(&mut document);
    }
    Ok(document)
}

/// Prints a typed message.
///
/// # Errors
/// When a value in it has no JSON form, such as a duration out of range.
pub fn print_message<M: Message + Name>(message: &M) -> Result<Value, JsonError> {
    print(&M::full_name(), &message.encode_to_vec())
}

/// Prints an `Any` with its `@type`; one that cannot be expanded as base64.
pub fn print_any(any: &prost_types::Any) -> Value {
    print_any_with(any, FieldNames::default())
}

/// [`print_any`] with the names of fields to choose.
pub fn print_any_with(any: &prost_types::Any, names: FieldNames) -> Value {
    print_with(&prost_types::Any::full_name(), &any.encode_to_vec(), names)
        .unwrap_or_else(|_| json!({"@type": any.type_url, "value": BASE64_STANDARD.encode(&any.value)}))
}

/// Reads a typed message from a document; lowerCamel and proto field names are both understood.
///
/// # Errors
/// When a field, an enum value or an `@type` is not known, or a value does not fit.
pub fn parse<M: Message + Name + Default>(document: &Value) -> Result<M, JsonError> {
    let name = M::full_name();
    let descriptor = crate::descriptors()
        .get_message_by_name(&name)
        .ok_or_else(|| JsonError::UnknownType(name.clone()))?;
    let message = DynamicMessage::deserialize(descriptor, document)
        .map_err(|error| JsonError::Parse { message: name.clone(), reason: error.to_string() })?;
    // The typed message orders its own maps, but not those in the bytes of an `Any`.
    M::decode(crate::canonical::encode(&message).as_slice())
        .map_err(|error| JsonError::Decode { message: name, reason: error.to_string() })
}

/// Reads a typed message from YAML.
///
/// # Errors
/// As [`parse`], and when the text is no YAML.
pub fn parse_yaml<M: Message + Name + Default>(text: &str) -> Result<M, JsonError> {
    let document: Value = serde_saphyr::from_str(text)
        .map_err(|error| JsonError::Parse { message: M::full_name(), reason: error.to_string() })?;
    parse(&document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envoy::config::cluster::v3::Cluster;
    use crate::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter::ConfigType};
    use crate::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier};

    fn listener(any: prost_types::Any) -> Listener {
        let filter = Filter { name: "tcp".into(), config_type: Some(ConfigType::TypedConfig(any)) };
        let chain = FilterChain { filters: vec![filter], ..Default::default() };
        Listener { name: "l".into(), filter_chains: vec![chain], ..Default::default() }
    }

    #[test]
    fn nested_configuration_round_trips() {
        let proxy = TcpProxy {
            stat_prefix: "p".into(),
            cluster_specifier: Some(ClusterSpecifier::Cluster("c".into())),
            ..Default::default()
        };
        let typed = listener(crate::pack(&proxy));
        let document = print_message(&typed).expect("known types");
        let config = &document["filterChains"][0]["filters"][0]["typedConfig"];
        assert_eq!(
            config["@type"],
            "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
        );
        assert_eq!(parse::<Listener>(&document).expect("its own output"), typed);
    }

    #[test]
    fn an_unknown_nested_type_does_not_hide_the_rest() {
        let any = prost_types::Any { type_url: "type.googleapis.com/nope.X".into(), value: vec![1, 2, 3] };
        let document = print_message(&listener(any)).expect("shown as bytes");
        assert_eq!(document["name"], "l");
        assert_eq!(document["filterChains"][0]["filters"][0]["typedConfig"]["value"], "AQID");
    }

    #[test]
    fn misspelt_fields_are_refused_by_name() {
        let error = parse_yaml::<Cluster>("name: c\nconnect_timout: 5s").expect_err("misspelt");
        assert!(error.to_string().contains("connect_timout"), "{error}");
    }

    #[test]
    fn maps_encode_in_one_order() {
        let cluster = |keys: &[&str]| {
            let mut cluster = Cluster::default();
            for key in keys {
                cluster.typed_extension_protocol_options.insert((*key).into(), prost_types::Any::default());
            }
            cluster.encode_to_vec()
        };
        assert_eq!(cluster(&["a", "b", "c"]), cluster(&["c", "a", "b"]));
    }

    const NOPE: &str = "type.googleapis.com/nope.X";

    fn nope() -> prost_types::Any {
        prost_types::Any { type_url: NOPE.into(), value: vec![1, 2, 3] }
    }

    #[test]
    fn an_unknown_type_keeps_its_name() {
        let document = print_message(&listener(nope())).expect("shown as bytes");
        let config = &document["filterChains"][0]["filters"][0]["typedConfig"];
        assert_eq!(config, &json!({"@type": NOPE, "value": "AQID"}));
    }

    #[test]
    fn an_unknown_type_inside_a_known_one_does_not_hide_it() {
        use crate::envoy::extensions::filters::network::http_connection_manager::v3 as http;
        let filter = http::HttpFilter {
            name: "odd".into(),
            config_type: Some(http::http_filter::ConfigType::TypedConfig(nope())),
            ..Default::default()
        };
        let manager = http::HttpConnectionManager {
            stat_prefix: "p".into(),
            http_filters: vec![filter],
            ..Default::default()
        };
        let document = print_message(&listener(crate::pack(&manager))).expect("shown");
        let config = &document["filterChains"][0]["filters"][0]["typedConfig"];
        assert_eq!(config["statPrefix"], "p");
        assert_eq!(config["httpFilters"][0]["typedConfig"], json!({"@type": NOPE, "value": "AQID"}));
    }

    #[test]
    fn maps_inside_typed_configuration_parse_into_one_order() {
        let labels: serde_json::Map<_, _> = (0..12).map(|i| (format!("k{i}"), json!("v"))).collect();
        let document = json!({"name": "l", "filterChains": [{"filters": [{"name": "f", "typedConfig": {
            "@type": "type.googleapis.com/envoy.config.core.v3.Metadata",
            "filterMetadata": {"a": labels}
        }}]}]});
        let first = parse::<Listener>(&document).expect("valid").encode_to_vec();
        for _ in 0..20 {
            assert_eq!(parse::<Listener>(&document).expect("valid").encode_to_vec(), first);
        }
    }

    #[test]
    fn unknown_types_may_look_like_the_mark() {
        let url = format!("{NOPE}//google.protobuf.BytesValue");
        let odd = prost_types::Any { type_url: url.clone(), value: vec![1, 2, 3] };
        assert_eq!(print_any(&odd), json!({"@type": url, "value": "AQID"}));
        let plain = prost_types::Any { type_url: "nope".into(), value: vec![1, 2, 3] };
        assert_eq!(print_any(&plain), json!({"@type": "nope", "value": "AQID"}));
    }

    #[test]
    fn content_that_is_not_of_its_type_is_shown_as_bytes() {
        let broken = prost_types::Any { type_url: TcpProxy::type_url(), value: vec![0xff] };
        let document = print_message(&listener(broken.clone())).expect("shown as bytes");
        let shown = json!({"@type": TcpProxy::type_url(), "value": "/w=="});
        assert_eq!(document["filterChains"][0]["filters"][0]["typedConfig"], shown);
        assert_eq!(print_any(&broken), shown);
    }

    #[test]
    fn any_within_any_does_not_exhaust_the_stack() {
        let mut any = nope();
        for _ in 0..2000 {
            any = crate::pack(&any);
        }
        assert_eq!(print_any(&any)["@type"], "type.googleapis.com/google.protobuf.Any");
        let bytes = any.encode_to_vec();
        let descriptor = crate::descriptors().get_message_by_name("google.protobuf.Any").expect("known");
        let dynamic = DynamicMessage::decode(descriptor, bytes.as_slice()).expect("its own bytes");
        assert_eq!(crate::canonical::encode(&dynamic), bytes);
    }

    #[test]
    fn well_known_types_are_wrapped_in_value() {
        let kind = Some(prost_types::value::Kind::BoolValue(true));
        let fields = prost_types::Struct { fields: [("a".into(), prost_types::Value { kind })].into() };
        let type_url = "type.googleapis.com/google.protobuf.Struct";
        let wrapped = prost_types::Any { type_url: type_url.into(), value: fields.encode_to_vec() };
        assert_eq!(print_any(&wrapped), json!({"@type": type_url, "value": {"a": true}}));
        let duration = prost_types::Duration { seconds: 5, nanos: 0 };
        let document = print_any(&crate::pack(&duration));
        assert_eq!(document, json!({"@type": "type.googleapis.com/google.protobuf.Duration", "value": "5s"}));
        assert_eq!(parse::<prost_types::Any>(&document).expect("its own output"), crate::pack(&duration));
    }

    #[test]
    fn names_of_fields_are_a_choice() {
        let any = crate::pack(&TcpProxy { stat_prefix: "p".into(), ..Default::default() });
        let bytes = listener(any).encode_to_vec();
        let document =
            print_with("envoy.config.listener.v3.Listener", &bytes, FieldNames::Proto).expect("known");
        assert_eq!(document["filter_chains"][0]["filters"][0]["typed_config"]["stat_prefix"], "p");
        assert_eq!(parse::<Listener>(&document).expect("its own output").encode_to_vec(), bytes);
    }

    #[test]
    fn fields_are_printed_in_one_order() {
        let text =
            print_message(&Cluster { name: "c".into(), alt_stat_name: "a".into(), ..Default::default() })
                .expect("known")
                .to_string();
        assert_eq!(text, r#"{"altStatName":"a","name":"c"}"#);
    }

    #[test]
    fn extensions_without_code_are_known_to_users() {
        let kind = "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer";
        let text = format!("name: f\ntyped_config: {{'@type': {kind}, max_request_bytes: 5}}");
        let typed: Filter = parse_yaml(&text).expect("known");
        let document = print_message(&typed).expect("known");
        assert_eq!(document["typedConfig"], json!({"@type": kind, "maxRequestBytes": 5}));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let proxy = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
        let typed = |fields: &str| {
            format!("name: l\nfilter_chains: [{{filters: [{{name: f, typed_config: {{{fields}}}}}]}}]")
        };
        for (text, culprit) in [
            (typed(&format!("'@type': {proxy}, stat_prefx: p")), "stat_prefx"),
            (typed("'@type': type.googleapis.com/nope.X"), "nope.X"),
            ("name: l\ntraffic_direction: SIDEWAYS".to_owned(), "SIDEWAYS"),
            ("name: l\nname: m".to_owned(), "name"),
            ("name: [l]".to_owned(), "string"),
        ] {
            let error = parse_yaml::<Listener>(&text).expect_err(&text).to_string();
            assert!(error.contains(culprit), "{culprit} is not named in: {error}");
        }
    }

    #[test]
    fn a_listener_with_http_round_trips() {
        use crate::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
        let text = "
name: inbound
filter_chains:
- filters:
  - name: http
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      statPrefix: inbound
      stream_idle_timeout: 1800s
      route_config:
        name: r
        virtual_hosts:
        - { name: v, domains: ['*'], routes: [{ match: { prefix: / }, route: { cluster: c } }] }
      http_filters:
      - name: router
        typed_config: { '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
";
        let typed: Listener = parse_yaml(text).expect("valid");
        let Some(ConfigType::TypedConfig(config)) = &typed.filter_chains[0].filters[0].config_type else {
            panic!("the filter has a configuration");
        };
        let manager = HttpConnectionManager::decode(config.value.as_slice()).expect("of its type");
        assert_eq!(manager.stream_idle_timeout, Some(prost_types::Duration { seconds: 1800, nanos: 0 }));
        assert_eq!(manager.encode_to_vec(), config.value, "as the generated message encodes it");
        let document = print_message(&typed).expect("known types");
        assert_eq!(parse::<Listener>(&document).expect("its own output"), typed);
    }
}
