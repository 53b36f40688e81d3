//! The JSON schema of every kind: from the type for JSON kinds, from the message for protobuf kinds.

use prost_reflect::{FieldDescriptor, FileDescriptor, Kind as FieldKind, MessageDescriptor};
use serde_json::{Map, Value, json};

use crate::payload::SpecFormat;
use crate::{Kind, Scope};

/// The schema of a kind's spec. Shared parts are under `$defs` and referred to as `#/$defs/NAME`.
pub fn spec_schema(kind: Kind) -> Value {
    match kind.format {
        SpecFormat::Json(codec) => (codec.schema)().to_value(),
        SpecFormat::Proto(codec) => match kds_proto::descriptors().get_message_by_name(&codec.full_name()) {
            Some(message) => {
                let mut definitions = Map::new();
                let mut schema = object(&message, &mut definitions);
                if !definitions.is_empty() {
                    insert(&mut schema, "$defs", Value::Object(definitions));
                }
                schema
            }
            None => json!({"type": "object"}),
        },
    }
}

/// The schema of a kind's REST document: its names and labels with the spec where the kind has it.
pub fn document_schema(kind: Kind) -> Value {
    let mut spec = spec_schema(kind);
    let definitions = spec.as_object_mut().and_then(|spec| spec.remove("$defs"));
    let mut properties = meta(kind);
    let mut required = vec!["type", "name"];
    if kind.is_json() {
        required.push("spec");
        properties.insert("spec".into(), spec.clone());
        if kind.empty_status.is_some() {
            properties.insert(
                "status".into(),
                json!({"type": "object", "readOnly": true, "description": "What control planes observe; ignored when written."}),
            );
        }
    } else if let Some(Value::Object(fields)) = spec.get_mut("properties").map(Value::take) {
        properties.extend(fields);
    }
    let mut schema = json!({"type": "object", "required": required, "properties": properties});
    if let Some(about) = spec.get("description") {
        insert(&mut schema, "description", about.clone());
    }
    if let Some(definitions) = definitions {
        insert(&mut schema, "$defs", definitions);
    }
    schema
}

fn meta(kind: Kind) -> Map<String, Value> {
    let read_only = |about: &str| json!({"type": "string", "readOnly": true, "description": about});
    let mut fields = Map::new();
    let mut add = |name: &str, schema: Value| fields.insert(name.to_owned(), schema);
    add("type", json!({"type": "string", "enum": [kind.name], "description": "The kind of the resource."}));
    if kind.scope == Scope::Mesh {
        add(
            "mesh",
            json!({"type": "string", "default": "default", "description": "The mesh it belongs to."}),
        );
    }
    add("name", json!({"type": "string", "description": "Its name, unique among its kind in its mesh."}));
    add(
        "labels",
        json!({"type": "object", "additionalProperties": {"type": "string"},
            "description": "Labels; those of `kuma.io/` that say where it comes from are computed."}),
    );
    if kind.short.is_some() {
        add("kri", read_only("Its identifier across zones."));
    }
    add("creationTime", read_only("When it was created, RFC 3339."));
    add("modificationTime", read_only("When it was last changed, RFC 3339."));
    fields
}

fn insert(schema: &mut Value, key: &str, value: Value) {
    if let Some(schema) = schema.as_object_mut() {
        schema.insert(key.to_owned(), value);
    }
}

fn object(message: &MessageDescriptor, definitions: &mut Map<String, Value>) -> Value {
    let mut properties = Map::new();
    for field in message.fields() {
        let mut schema = of_field(&field, definitions);
        if let Some(about) = comment(&message.parent_file(), field.path()) {
            insert(&mut schema, "description", about.into());
        }
        properties.insert(field.json_name().to_owned(), schema);
    }
    let mut schema = json!({"type": "object", "properties": properties});
    if let Some(about) = comment(&message.parent_file(), message.path()) {
        insert(&mut schema, "description", about.into());
    }
    schema
}

fn of_field(field: &FieldDescriptor, definitions: &mut Map<String, Value>) -> Value {
    let FieldKind::Message(entry) = field.kind() else { return repeated(field, scalar(&field.kind())) };
    if field.is_map() {
        let value = match entry.map_entry_value_field().kind() {
            FieldKind::Message(message) => reference(&message, definitions),
            other => scalar(&other),
        };
        return json!({"type": "object", "additionalProperties": value});
    }
    repeated(field, reference(&entry, definitions))
}

fn repeated(field: &FieldDescriptor, item: Value) -> Value {
    if field.is_list() { json!({"type": "array", "items": item}) } else { item }
}

fn reference(message: &MessageDescriptor, definitions: &mut Map<String, Value>) -> Value {
    let full_name = message.full_name();
    if let Some(name) = full_name.strip_prefix("google.protobuf.") {
        return well_known(name, message);
    }
    let name = full_name.rsplit_once(".v1alpha1.").map_or(full_name, |(_, name)| name);
    if !definitions.contains_key(name) {
        // Holds the name, for messages that contain themselves.
        definitions.insert(name.to_owned(), Value::Null);
        let schema = object(message, definitions);
        definitions.insert(name.to_owned(), schema);
    }
    json!({"$ref": format!("#/$defs/{name}")})
}

/// The JSON forms of protobuf's own types.
fn well_known(name: &str, message: &MessageDescriptor) -> Value {
    match name {
        "Duration" => json!({"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"}),
        "Timestamp" => json!({"type": "string", "format": "date-time"}),
        "Value" => json!({}),
        "ListValue" => json!({"type": "array"}),
        _ if name.ends_with("Value") => {
            message.get_field_by_name("value").map_or_else(|| json!({}), |value| scalar(&value.kind()))
        }
        _ => json!({"type": "object"}),
    }
}

fn scalar(kind: &FieldKind) -> Value {
    match kind {
        FieldKind::Double | FieldKind::Float => json!({"type": "number"}),
        FieldKind::Uint32 | FieldKind::Fixed32 => json!({"type": "integer", "minimum": 0}),
        FieldKind::Int32 | FieldKind::Sint32 | FieldKind::Sfixed32 => json!({"type": "integer"}),
        FieldKind::Int64 | FieldKind::Sint64 | FieldKind::Sfixed64 => json!({"type": ["integer", "string"]}),
        FieldKind::Uint64 | FieldKind::Fixed64 => json!({"type": ["integer", "string"], "minimum": 0}),
        FieldKind::Bool => json!({"type": "boolean"}),
        FieldKind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
        FieldKind::Enum(values) => {
            let names: Vec<_> = values.values().map(|value| value.name().to_owned()).collect();
            json!({"type": "string", "enum": names})
        }
        FieldKind::String | FieldKind::Message(_) => json!({"type": "string"}),
    }
}

/// The comment before a declaration, as one paragraph.
fn comment(file: &FileDescriptor, path: &[i32]) -> Option<String> {
    let info = file.file_descriptor_proto().source_code_info.as_ref()?;
    let place = info.location.iter().find(|location| location.path == path)?;
    let words: Vec<_> = place.leading_comments.as_deref()?.split_whitespace().collect();
    (!words.is_empty()).then(|| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_document_whose_references_end_somewhere() {
        fn references(schema: &Value, found: &mut Vec<String>) {
            match schema {
                Value::Object(fields) => {
                    if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                        found.push(reference.trim_start_matches('#').to_owned());
                    }
                    fields.values().for_each(|value| references(value, found));
                }
                Value::Array(items) => items.iter().for_each(|item| references(item, found)),
                _ => {}
            }
        }
        for kind in Kind::all() {
            let schema = document_schema(kind);
            let mut found = Vec::new();
            references(&schema, &mut found);
            for reference in found {
                let target = schema.pointer(&reference);
                assert!(target.is_some_and(Value::is_object), "{kind}: {reference}");
            }
        }
    }

    #[test]
    fn kinds_of_messages_are_described_by_their_comments() {
        let schema = document_schema(Kind::DATAPLANE);
        let inbound = &schema["$defs"]["Dataplane.Networking.Inbound"]["properties"];
        assert_eq!(inbound["port"]["type"], "integer");
        assert_eq!(inbound["port"]["description"], "Port of the proxy.");
        assert_eq!(inbound["state"]["enum"], json!(["Ready", "NotReady", "Ignored"]));
        assert_eq!(schema["properties"]["networking"]["$ref"], "#/$defs/Dataplane.Networking");
    }

    #[test]
    fn kinds_of_documents_have_their_spec() {
        let schema = document_schema(Kind::MESH_TIMEOUT);
        assert!(schema["properties"]["spec"]["properties"]["to"].is_object(), "{schema}");
        assert_eq!(schema["required"], json!(["type", "name", "spec"]));
    }
}
