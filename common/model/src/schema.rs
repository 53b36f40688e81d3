//! Fields that a kind does not know: they are accepted, as the wire demands, and reported with the nearest
//! known field. [`document_schema`] describes every kind.

mod document;

use prost_reflect::{FieldDescriptor, Kind as FieldKind, MessageDescriptor};
use serde_json::Value;

use crate::Kind;
use crate::payload::SpecFormat;

pub use document::{document_schema, spec_schema};

/// A field that no schema knows, with the nearest one that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownField {
    /// Its path, for example `spec.ports[0].protocol`.
    pub path: String,
    /// The nearest known field beside it.
    pub nearest: Option<String>,
}

impl std::fmt::Display for UnknownField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unknown field {:?} is ignored", self.path)?;
        match &self.nearest {
            Some(nearest) => write!(f, "; did you mean {nearest:?}?"),
            None => Ok(()),
        }
    }
}

/// Lowest similarity (Jaro-Winkler, 0 to 1) at which a name is suggested.
const NEAR: f64 = 0.8;

/// The candidate nearest to a misspelt name, if any is near.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let score = |candidate: &str| strsim::jaro_winkler(&name.to_lowercase(), &candidate.to_lowercase());
    candidates
        .into_iter()
        .map(|candidate| (score(candidate), candidate))
        .filter(|(score, _)| *score >= NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Fields of a spec that its kind does not know. `path` is where the spec stands in the document (`spec`, or
/// empty for kinds whose fields are inlined).
pub fn unknown_fields(kind: Kind, path: &str, spec: &Value) -> Vec<UnknownField> {
    let mut found = Vec::new();
    match kind.format {
        SpecFormat::Proto(codec) => {
            if let Some(message) = kds_proto::descriptors().get_message_by_name(&codec.full_name()) {
                walk_message(&message, path, spec, &mut found);
            }
        }
        SpecFormat::Json(codec) => {
            let root = (codec.schema)().to_value();
            walk_schema(&root, &root, path, spec, &mut found);
        }
    }
    found
}

fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.into() } else { format!("{path}.{field}") }
}

fn walk_message(message: &MessageDescriptor, path: &str, value: &Value, found: &mut Vec<UnknownField>) {
    // Well-known types have JSON forms of their own.
    if message.full_name().starts_with("google.protobuf.") {
        return;
    }
    let Value::Object(fields) = value else { return };
    for (name, value) in fields {
        let at = join(path, name);
        match message.get_field_by_json_name(name).or_else(|| message.get_field_by_name(name)) {
            Some(field) => walk_field(&field, &at, value, found),
            None => {
                let known: Vec<_> = message.fields().map(|field| field.json_name().to_owned()).collect();
                let nearest = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
                found.push(UnknownField { path: at, nearest });
            }
        }
    }
}

fn walk_field(field: &FieldDescriptor, path: &str, value: &Value, found: &mut Vec<UnknownField>) {
    let FieldKind::Message(message) = field.kind() else { return };
    match value {
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                walk_message(&message, &format!("{path}[{at}]"), item, found);
            }
        }
        Value::Object(entries) if field.is_map() => {
            let FieldKind::Message(entry) = message.map_entry_value_field().kind() else { return };
            for (key, item) in entries {
                walk_message(&entry, &format!("{path}[{key:?}]"), item, found);
            }
        }
        _ => walk_message(&message, path, value, found),
    }
}

fn walk_schema(root: &Value, schema: &Value, path: &str, value: &Value, found: &mut Vec<UnknownField>) {
    let schema = resolve(root, schema);
    match value {
        Value::Array(items) => {
            let Some(item_schema) = schema.get("items") else { return };
            for (at, item) in items.iter().enumerate() {
                walk_schema(root, item_schema, &format!("{path}[{at}]"), item, found);
            }
        }
        Value::Object(fields) => {
            let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
            for (name, value) in fields {
                let at = join(path, name);
                match properties.get(name) {
                    Some(schema) => walk_schema(root, schema, &at, value, found),
                    None => {
                        let nearest = nearest(name, properties.keys().map(String::as_str)).map(str::to_owned);
                        found.push(UnknownField { path: at, nearest });
                    }
                }
            }
        }
        _ => {}
    }
}

/// Follows `$ref` and the non-null branch of an optional.
fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let mut schema = schema;
    // A schema refers at most through an optional to a definition: two steps, and one more to be safe.
    for _ in 0..3 {
        let next = if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            root.pointer(reference.trim_start_matches('#'))
        } else if let Some(branches) = schema.get("anyOf").and_then(Value::as_array) {
            branches.iter().find(|branch| branch.get("type").and_then(Value::as_str) != Some("null"))
        } else {
            None
        };
        match next {
            Some(next) => schema = next,
            None => break,
        }
    }
    schema
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(kind: Kind, path: &str, spec: &Value) -> Vec<String> {
        unknown_fields(kind, path, spec).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn misspelt_fields_of_json_kinds_name_the_nearest() {
        let spec = json!({"ports": [{"port": 80, "appProtocl": "http"}], "selector": {"dataplaneLabel": {}}});
        assert_eq!(
            report(Kind::MESH_SERVICE, "spec", &spec),
            [
                r#"unknown field "spec.ports[0].appProtocl" is ignored; did you mean "appProtocol"?"#,
                r#"unknown field "spec.selector.dataplaneLabel" is ignored; did you mean "dataplaneLabels"?"#,
            ]
        );
    }

    #[test]
    fn misspelt_fields_of_proto_kinds_name_the_nearest() {
        let spec = json!({"networking": {"adress": "127.0.0.1", "inbound": [{"port": 1, "zzz": 1}]}});
        assert_eq!(
            report(Kind::DATAPLANE, "", &spec),
            [
                r#"unknown field "networking.adress" is ignored; did you mean "address"?"#,
                r#"unknown field "networking.inbound[0].zzz" is ignored"#,
            ]
        );
    }

    #[test]
    fn known_fields_and_free_maps_are_silent() {
        let spec = json!({"selector": {"dataplaneLabels": {"matchLabels": {"any": "thing"}}}});
        assert!(report(Kind::MESH_SERVICE, "spec", &spec).is_empty());
        assert!(report(Kind::DATAPLANE_INSIGHT, "", &json!({"metadata": {"free": {"form": 1}}})).is_empty());
    }
}
