//! Changes to messages: one merged into another, and JSON patches of their JSON form.

pub use json_patch::PatchOperation;
use prost::{Message, Name};
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value as Field,
};
use prost_types::Any;

use crate::canonical;
use crate::json::{self, JsonError};

/// Messages within each other down to which they are merged: what Envoy's decoder accepts.
const MAX_DEPTH: usize = 100;

/// A change that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// What is changed, or what it becomes, is not the message.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// Configuration of one extension cannot be merged into that of another.
    #[error("a {patch} cannot be merged into a {held}")]
    OtherType {
        /// The type that is there.
        held: String,
        /// The type that was to be merged.
        patch: String,
    },
    /// A JSON patch that does not apply.
    #[error("operation {at} ({path}): {reason}")]
    Operation {
        /// Its position in the list.
        at: usize,
        /// Where it was to change something.
        path: String,
        /// Why it does not apply.
        reason: String,
    },
    /// Messages within messages without end.
    #[error("more than {MAX_DEPTH} messages within each other")]
    TooDeep,
}

/// Merges one message into another by the rules of protobuf: fields that are set replace, messages merge, lists are
/// appended, entries of maps replace. Durations and wrapped scalars are values and replace as a whole; an `Any` merges
/// with one of its own type.
///
/// # Errors
/// When an `Any` meets one of another type.
pub fn merge<M: Message + Name + Default>(held: &M, patch: &M) -> Result<M, PatchError> {
    let descriptor = crate::descriptors()
        .get_message_by_name(&M::full_name())
        .ok_or_else(|| JsonError::UnknownType(M::full_name()))?;
    let read = |message: &M| {
        DynamicMessage::decode(descriptor.clone(), message.encode_to_vec().as_slice()).map_err(refused::<M>)
    };
    let mut merged = read(held)?;
    merge_messages(&mut merged, &read(patch)?, 0)?;
    Ok(M::decode(canonical::encode(&merged).as_slice()).map_err(refused::<M>)?)
}

fn refused<M: Name>(error: impl std::fmt::Display) -> JsonError {
    JsonError::Decode { message: M::full_name(), reason: error.to_string() }
}

fn merge_messages(held: &mut DynamicMessage, patch: &DynamicMessage, depth: usize) -> Result<(), PatchError> {
    if depth >= MAX_DEPTH {
        return Err(PatchError::TooDeep);
    }
    for (field, value) in patch.fields() {
        merge_field(held, &field, value, depth)?;
    }
    Ok(())
}

fn merge_field(
    held: &mut DynamicMessage,
    field: &FieldDescriptor,
    value: &Field,
    depth: usize,
) -> Result<(), PatchError> {
    let there = held.has_field(field);
    match (value, field.kind()) {
        (Field::List(added), _) if there => {
            if let Some(items) = held.get_field_mut(field).as_list_mut() {
                items.extend(added.iter().cloned());
            }
        }
        (Field::Map(added), _) if there => {
            if let Some(entries) = held.get_field_mut(field).as_map_mut() {
                entries.extend(added.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
        }
        (Field::Message(inner), Kind::Message(descriptor)) if there && !is_value(descriptor.full_name()) => {
            let Some(target) = held.get_field_mut(field).as_message_mut() else { return Ok(()) };
            if descriptor.full_name() == Any::full_name() {
                return merge_wrapped(target, inner, depth);
            }
            merge_messages(target, inner, depth + 1)?;
        }
        _ => held.set_field(field, value.clone()),
    }
    Ok(())
}

/// Whether a message is one value: its parts mean nothing apart from each other, or its zero is a value too.
fn is_value(full_name: &str) -> bool {
    const VALUES: [&str; 11] = [
        "google.protobuf.Duration",
        "google.protobuf.Timestamp",
        "google.protobuf.BoolValue",
        "google.protobuf.BytesValue",
        "google.protobuf.DoubleValue",
        "google.protobuf.FloatValue",
        "google.protobuf.Int32Value",
        "google.protobuf.Int64Value",
        "google.protobuf.StringValue",
        "google.protobuf.UInt32Value",
        "google.protobuf.UInt64Value",
    ];
    VALUES.contains(&full_name)
}

fn merge_wrapped(held: &mut DynamicMessage, patch: &DynamicMessage, depth: usize) -> Result<(), PatchError> {
    let merged = merge_at(&unwrapped(held)?, &unwrapped(patch)?, depth + 1)?;
    let wrapped = DynamicMessage::decode(held.descriptor(), merged.encode_to_vec().as_slice());
    *held = wrapped.map_err(refused::<Any>)?;
    Ok(())
}

fn unwrapped(message: &DynamicMessage) -> Result<Any, PatchError> {
    Ok(Any::decode(message.encode_to_vec().as_slice()).map_err(refused::<Any>)?)
}

/// Merges the configuration of an extension into another one of its type.
///
/// # Errors
/// When they are of different types, or of one that is not known.
pub fn merge_any(held: &Any, patch: &Any) -> Result<Any, PatchError> {
    merge_at(held, patch, 0)
}

fn merge_at(held: &Any, patch: &Any, depth: usize) -> Result<Any, PatchError> {
    let name = type_name(&held.type_url);
    if name != type_name(&patch.type_url) {
        let patch = type_name(&patch.type_url).to_owned();
        return Err(PatchError::OtherType { held: name.to_owned(), patch });
    }
    let descriptor = crate::descriptors()
        .get_message_by_name(name)
        .ok_or_else(|| JsonError::UnknownType(name.to_owned()))?;
    let read = |bytes: &[u8]| {
        DynamicMessage::decode(descriptor.clone(), bytes)
            .map_err(|error| JsonError::Decode { message: name.to_owned(), reason: error.to_string() })
    };
    let mut merged = read(&held.value)?;
    merge_messages(&mut merged, &read(&patch.value)?, depth + 1)?;
    Ok(Any { type_url: held.type_url.clone(), value: canonical::encode(&merged) })
}

fn type_name(type_url: &str) -> &str {
    type_url.rsplit('/').next().unwrap_or(type_url)
}

/// Fields that a document sets to their default where a message has something else: merging does not change them,
/// because protobuf cannot tell them from fields that are left out.
pub fn unheard<M: Message + Name>(document: &serde_json::Value, held: &M) -> Vec<String> {
    let mut found = Vec::new();
    let descriptor = crate::descriptors().get_message_by_name(&M::full_name());
    if let (Some(descriptor), Ok(held)) = (descriptor, json::print_message(held)) {
        find_unheard(&descriptor, document, &held, "", &mut found);
    }
    found
}

fn find_unheard(
    descriptor: &MessageDescriptor,
    document: &serde_json::Value,
    held: &serde_json::Value,
    path: &str,
    found: &mut Vec<String>,
) {
    for (key, said) in document.as_object().into_iter().flatten() {
        let field = descriptor.get_field_by_json_name(key).or_else(|| descriptor.get_field_by_name(key));
        let Some(field) = field.filter(|field| !field.is_list() && !field.is_map()) else { continue };
        let Some(held) = held.get(field.json_name()) else { continue };
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match field.kind() {
            Kind::Message(inner) if inner.full_name() == Any::full_name() => {
                let name = said.get("@type").and_then(serde_json::Value::as_str).map(type_name);
                if let Some(inner) = name.and_then(|name| crate::descriptors().get_message_by_name(name)) {
                    find_unheard(&inner, said, held, &path, found);
                }
            }
            Kind::Message(inner) if inner.full_name().starts_with("google.protobuf.") => {}
            Kind::Message(inner) => find_unheard(&inner, said, held, &path, found),
            kind if !field.supports_presence() && is_zero(&kind, said) => found.push(path),
            _ => {}
        }
    }
}

fn is_zero(kind: &Kind, said: &serde_json::Value) -> bool {
    match said {
        serde_json::Value::Bool(said) => !said,
        serde_json::Value::Number(said) => said.as_f64() == Some(0.0),
        serde_json::Value::String(said) => match kind {
            Kind::Enum(kind) => kind.get_value(0).is_some_and(|zero| zero.name() == said),
            Kind::String | Kind::Bytes => said.is_empty(),
            _ => said.parse() == Ok(0.0),
        },
        _ => false,
    }
}

/// Applies JSON patches to the JSON form of a message, all of them or none.
///
/// # Errors
/// When one does not apply, or what comes out is not the message.
pub fn apply_json<M: Message + Name + Default>(
    message: &M,
    operations: &[PatchOperation],
) -> Result<M, PatchError> {
    let mut document = json::print_message(message)?;
    operate(&mut document, operations)?;
    Ok(json::parse(&document)?)
}

/// [`apply_json`] for the configuration of an extension.
///
/// # Errors
/// As [`apply_json`].
pub fn apply_json_any(any: &Any, operations: &[PatchOperation]) -> Result<Any, PatchError> {
    let mut document = json::print_any(any);
    operate(&mut document, operations)?;
    Ok(json::parse(&document)?)
}

fn operate(document: &mut serde_json::Value, operations: &[PatchOperation]) -> Result<(), PatchError> {
    json_patch::patch(document, operations).map_err(|error| PatchError::Operation {
        at: error.operation,
        path: error.path.to_string(),
        reason: error.kind.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::envoy::config::cluster::v3::Cluster;
    use crate::envoy::config::listener::v3::Filter;
    use crate::envoy::config::listener::v3::filter::ConfigType;
    use crate::json::{parse_yaml, print_message};

    fn merged(held: &str, patch: &str) -> serde_json::Value {
        let held: Cluster = parse_yaml(held).expect("valid");
        let patch: Cluster = parse_yaml(patch).expect("valid");
        print_message(&merge(&held, &patch).expect("merges")).expect("a cluster")
    }

    #[test]
    fn fields_replace_messages_merge_and_lists_are_appended() {
        let held = "
name: a
connectTimeout: 5.5s
type: EDS
edsClusterConfig: {serviceName: a}
healthChecks: [{timeout: 1s, interval: 1s, unhealthyThreshold: 1, healthyThreshold: 1, tcpHealthCheck: {}}]
commonLbConfig: {updateMergeWindow: 1.5s, healthyPanicThreshold: {value: 10}}
perConnectionBufferLimitBytes: 1";
        let patch = "
connect_timeout: 7s
type: STATIC
perConnectionBufferLimitBytes: 0
healthChecks: [{timeout: 2s, interval: 1s, unhealthyThreshold: 1, healthyThreshold: 1, tcpHealthCheck: {}}]
commonLbConfig: {updateMergeWindow: 2s}";
        let found = merged(held, patch);
        assert_eq!(found["connectTimeout"], "7s", "not 7.5s");
        assert_eq!(found["type"], "STATIC");
        assert_eq!(found["edsClusterConfig"]["serviceName"], "a");
        assert_eq!(found["healthChecks"].as_array().map(Vec::len), Some(2));
        let lb = json!({"updateMergeWindow": "2s", "healthyPanicThreshold": {"value": 10.0}});
        assert_eq!(found["commonLbConfig"], lb);
        assert_eq!(found["perConnectionBufferLimitBytes"], 0, "a wrapped zero is a value");
    }

    #[test]
    fn maps_take_the_newer_entry_and_a_oneof_the_newer_choice() {
        let found = merged(
            "name: a\nmetadata: {filterMetadata: {x: {a: 1, b: 2}, y: {c: 1}}}\nringHashLbConfig: {minimumRingSize: 1}",
            "metadata: {filterMetadata: {x: {a: 3}}}\nmaglevLbConfig: {tableSize: 7}",
        );
        assert_eq!(found["metadata"]["filterMetadata"], json!({"x": {"a": 3.0}, "y": {"c": 1.0}}));
        assert!(found.get("ringHashLbConfig").is_none(), "{found}");
        assert_eq!(found["maglevLbConfig"]["tableSize"], "7");
    }

    const PROXY: &str = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
    const RBAC: &str = "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC";

    fn filter(kind: &str, fields: &str) -> Filter {
        parse_yaml(&format!("name: f\ntypedConfig: {{'@type': {kind}, {fields}}}")).expect("valid")
    }

    fn config(filter: &Filter) -> Any {
        match &filter.config_type {
            Some(ConfigType::TypedConfig(any)) => any.clone(),
            _ => panic!("a filter has a configuration"),
        }
    }

    #[test]
    fn configuration_of_extensions_merges_by_type() {
        let held = filter(PROXY, "statPrefix: p, cluster: a");
        let found = merge(&held, &filter(PROXY, "idleTimeout: 3s")).expect("merges");
        let expected = json!({"@type": PROXY, "statPrefix": "p", "cluster": "a", "idleTimeout": "3s"});
        assert_eq!(json::print_any(&config(&found)), expected);
        let error = merge(&held, &filter(RBAC, "statPrefix: x")).expect_err("another type").to_string();
        assert!(error.contains("rbac.v3.RBAC") && error.contains("tcp_proxy.v3.TcpProxy"), "{error}");
    }

    #[test]
    fn json_patches_apply_all_or_not_at_all() {
        let operations = |value: serde_json::Value| -> Vec<PatchOperation> {
            serde_json::from_value(value).expect("operations")
        };
        let any = config(&filter(PROXY, "statPrefix: p, cluster: a, idleTimeout: 1s"));
        let patch = operations(json!([
            {"op": "replace", "path": "/idleTimeout", "value": "10s"},
            {"op": "move", "from": "/statPrefix", "path": "/cluster"},
            {"op": "add", "path": "/statPrefix", "value": "q"},
        ]));
        let found = json::print_any(&apply_json_any(&any, &patch).expect("applies"));
        assert_eq!(found, json!({"@type": PROXY, "statPrefix": "q", "cluster": "p", "idleTimeout": "10s"}));
        for (patch, culprit) in [
            (
                json!([{"op": "remove", "path": "/idleTimeout"}, {"op": "remove", "path": "/none"}]),
                "operation 1 (/none)",
            ),
            (json!([{"op": "add", "path": "/nope", "value": 1}]), "nope"),
            (json!([{"op": "replace", "path": "/idleTimeout", "value": "soon"}]), "duration"),
        ] {
            let error = apply_json_any(&any, &operations(patch)).expect_err(culprit).to_string();
            assert!(error.contains(culprit), "{culprit} is not named in: {error}");
        }
    }

    #[test]
    fn defaults_that_merging_cannot_set_are_found() {
        let held: Cluster = parse_yaml(
            "name: a\nlbPolicy: RANDOM\nignoreHealthOnHostRemoval: true\ndnsRefreshRate: 1s\ncommonLbConfig: {closeConnectionsOnHostSetChange: true}",
        )
        .expect("valid");
        let document = json!({
            "lb_policy": "ROUND_ROBIN", "ignoreHealthOnHostRemoval": false, "dnsRefreshRate": "0s", "altStatName": "",
            "commonLbConfig": {"closeConnectionsOnHostSetChange": false, "ignoreNewHostsUntilFirstHc": false},
        });
        let expected =
            ["commonLbConfig.closeConnectionsOnHostSetChange", "ignoreHealthOnHostRemoval", "lb_policy"];
        assert_eq!(unheard(&document, &held), expected);
        let filter = filter(PROXY, "statPrefix: p, maxConnectAttempts: 2");
        let document = json!({"typedConfig": {"@type": PROXY, "statPrefix": "", "maxConnectAttempts": 0}});
        assert_eq!(unheard(&document, &filter), ["typedConfig.statPrefix"], "a wrapped zero is a value");
    }

    #[test]
    fn merging_into_nothing_gives_the_patch() {
        let patch: Cluster = parse_yaml("name: a\nconnectTimeout: 1s").expect("valid");
        assert_eq!(merge(&Cluster::default(), &patch).expect("merges"), patch);
        assert_eq!(merge(&patch, &Cluster::default()).expect("merges"), patch);
    }
}
