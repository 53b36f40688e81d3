//! Envoy configuration as JSON for people: proto3 mapping with `@type`, in a stable order.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use prost::{Message, Name};
use prost_reflect::{DynamicMessage, ReflectMessage, SerializeOptions, Value as Field};
use serde_json::{Value, json};

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

/// Prints an encoded message by its type URL or full name. Nested messages whose type is not known are shown
/// as base64 and do not fail the rest.
///
/// # Errors
/// When the outer type is not known or the bytes are not of it.
pub fn print(type_url: &str, bytes: &[u8]) -> Result<Value, JsonError> {
    let name = type_url.rsplit('/').next().unwrap_or(type_url);
    let descriptor =
        crate::descriptors().get_message_by_name(name).ok_or_else(|| JsonError::UnknownType(name.into()))?;
    let mut message = DynamicMessage::decode(descriptor, bytes)
        .map_err(|error| JsonError::Decode { message: name.into(), reason: error.to_string() })?;
    let options = SerializeOptions::new();
    if let Ok(value) = message.serialize_with_options(serde_json::value::Serializer, &options) {
        return Ok(value);
    }
    hide_unknown(&mut message);
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|error| JsonError::Decode { message: name.into(), reason: error.to_string() })
}

/// Prints a typed message.
///
/// # Errors
/// When a nested message is not what its type says.
pub fn print_message<M: Message + Name>(message: &M) -> Result<Value, JsonError> {
    print(&M::full_name(), &message.encode_to_vec())
}

/// Prints an `Any` with its `@type`; an unknown one as base64.
pub fn print_any(any: &prost_types::Any) -> Value {
    match print(&any.type_url, &any.value) {
        Ok(Value::Object(mut fields)) => {
            fields.insert("@type".into(), Value::String(any.type_url.clone()));
            Value::Object(fields)
        }
        Ok(value) => json!({"@type": any.type_url, "value": value}),
        Err(_) => json!({"@type": any.type_url, "value": BASE64_STANDARD.encode(&any.value)}),
    }
}

/// Replaces every `Any` that cannot be expanded by a `BytesValue` of its content.
fn hide_unknown(message: &mut DynamicMessage) {
    if message.descriptor().full_name() == "google.protobuf.Any" {
        let url = message.get_field_by_name("type_url").and_then(|field| field.as_str().map(str::to_owned));
        let name = url.as_deref().and_then(|url| url.rsplit('/').next()).unwrap_or_default();
        if crate::descriptors().get_message_by_name(name).is_none() {
            let content = message.get_field_by_name("value").and_then(|field| field.as_bytes().cloned());
            let wrapped = content.unwrap_or_default().encode_to_vec();
            message.set_field_by_name(
                "type_url",
                Field::String("type.googleapis.com/google.protobuf.BytesValue".into()),
            );
            message.set_field_by_name("value", Field::Bytes(wrapped.into()));
        }
        return;
    }
    for (_, field) in message.fields_mut() {
        match field {
            Field::Message(inner) => hide_unknown(inner),
            Field::List(items) => items.iter_mut().filter_map(Field::as_message_mut).for_each(hide_unknown),
            Field::Map(entries) => {
                entries.values_mut().filter_map(Field::as_message_mut).for_each(hide_unknown)
            }
            _ => {}
        }
    }
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
    // Encoding through the typed message restores the order of maps.
    M::decode(message.encode_to_vec().as_slice())
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
}
