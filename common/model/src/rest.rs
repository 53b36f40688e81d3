//! The REST document of a resource: protobuf kinds have their fields at the top, JSON kinds under `spec`
//! and `status`.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

use crate::payload::DecodeError;
use crate::resource::{Builder, Labels};
use crate::schema::{UnknownField, unknown_fields};
use crate::{Key, Kind, Payload, Resource, Timestamp, sni};

/// Keys of a document that are not fields of a protobuf spec.
const META: [&str; 7] = ["type", "mesh", "name", "labels", "creationTime", "modificationTime", "kri"];

/// A document that is no resource.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseError {
    /// Not a mapping.
    #[error("a resource is an object with the keys type, name and, for most kinds, mesh")]
    NotAnObject,
    /// No `type`.
    #[error("the key \"type\" is missing")]
    NoType,
    /// A `type` that no kind has.
    #[error("unknown type {name:?}{}", nearest.map(|kind| format!("; did you mean {kind:?}?")).unwrap_or_default())]
    UnknownType {
        /// The type.
        name: String,
        /// The nearest kind.
        nearest: Option<&'static str>,
    },
    /// A key with a value of the wrong shape.
    #[error("{field}: {message}")]
    Field {
        /// The key.
        field: &'static str,
        /// What it must be.
        message: String,
    },
    /// A spec or status that does not fit its kind.
    #[error("invalid {kind} object: {reason}")]
    Payload {
        /// The kind.
        kind: Kind,
        /// Why.
        reason: DecodeError,
    },
}

/// A resource read from a document.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The resource as the document has it: no label is computed.
    pub resource: Builder,
    /// Fields that the kind does not know.
    pub unknown: Vec<UnknownField>,
}

/// Reads a resource from a REST document. Specs of typed kinds are written again from their type: unknown
/// fields fall away and defaults appear, as REST promises; use [`Payload`] directly to keep bytes.
///
/// # Errors
/// When it has no known `type`, or a key of the wrong shape.
pub fn parse(document: &Value) -> Result<Parsed, ParseError> {
    let object = document.as_object().ok_or(ParseError::NotAnObject)?;
    let name = object.get("type").and_then(Value::as_str).ok_or(ParseError::NoType)?;
    let kind = Kind::by_name(name).ok_or_else(|| ParseError::UnknownType {
        name: name.into(),
        nearest: Kind::nearest(name).map(|kind| kind.info().name),
    })?;
    parse_as(kind, object)
}

/// Reads a document whose kind is known from elsewhere, for example its URL.
///
/// # Errors
/// When a key has the wrong shape.
pub fn parse_as(kind: Kind, object: &Map<String, Value>) -> Result<Parsed, ParseError> {
    let mesh = text(object, "mesh")?;
    let mesh = if mesh.is_empty() && kind.is_mesh_scoped() { "default" } else { mesh };
    let mut resource = Builder::new(Key::new(kind, mesh, text(object, "name")?));
    resource.labels = labels(object)?;
    let time = |field| Ok(Timestamp::parse(text(object, field)?).unwrap_or(Timestamp::EPOCH));
    resource.created = time("creationTime")?;
    resource.modified = time("modificationTime")?;
    let (path, spec) = if kind.is_json() {
        ("spec", object.get("spec").cloned().unwrap_or_else(|| Value::Object(Map::new())))
    } else {
        (
            "",
            Value::Object(
                object.iter().filter(|(key, _)| !META.contains(&key.as_str())).map(clone_entry).collect(),
            ),
        )
    };
    let unknown = unknown_fields(kind, path, &spec);
    resource.spec = encode_spec(kind, &spec).map_err(|reason| ParseError::Payload { kind, reason })?;
    if let (Some(_), Some(status)) = (kind.empty_status, object.get("status")) {
        resource.status = Some(Payload::from_bytes(status.to_string()));
    }
    Ok(Parsed { resource, unknown })
}

fn clone_entry((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

fn encode_spec(kind: Kind, spec: &Value) -> Result<Payload, DecodeError> {
    match kind.json() {
        Some(codec) => Ok(Payload::from_document(&(codec.normalise)(spec)?)),
        None => Payload::from_json(kind.format, spec),
    }
}

fn text<'a>(object: &'a Map<String, Value>, field: &'static str) -> Result<&'a str, ParseError> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(ParseError::Field { field, message: "must be a string".into() }),
    }
}

fn labels(object: &Map<String, Value>) -> Result<Labels, ParseError> {
    match object.get("labels") {
        None | Some(Value::Null) => Ok(Labels::new()),
        Some(labels) => serde_json::from_value(labels.clone())
            .map_err(|error| ParseError::Field { field: "labels", message: error.to_string() }),
    }
}

/// The REST document of a resource, keys in the order people expect.
pub struct Document<'a> {
    resource: &'a Resource,
    spec: Value,
    status: Option<Value>,
}

impl<'a> Document<'a> {
    /// Prepares a resource to be written as a document.
    ///
    /// # Errors
    /// When its spec or status is not what its kind says.
    pub fn of(resource: &'a Resource) -> Result<Self, DecodeError> {
        let spec = resource.raw_spec().to_json(resource.kind().format)?;
        let status = resource.raw_status().map(Payload::to_document).transpose()?;
        Ok(Self { resource, spec, status })
    }
}

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let resource = self.resource;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", resource.kind().info().name)?;
        if resource.kind().is_mesh_scoped() {
            map.serialize_entry("mesh", resource.mesh())?;
        }
        map.serialize_entry("name", resource.name())?;
        map.serialize_entry("creationTime", &resource.created())?;
        map.serialize_entry("modificationTime", &resource.modified())?;
        if !resource.labels().is_empty() {
            map.serialize_entry("labels", resource.labels())?;
        }
        if let Some(kri) = resource.kri() {
            map.serialize_entry("kri", &kri)?;
        }
        if resource.kind().is_json() {
            if let Some(snis) = sni::entries(resource).filter(|snis| !snis.is_empty()) {
                map.serialize_entry("snis", &snis)?;
            }
            map.serialize_entry("spec", &self.spec)?;
            if let Some(status) = &self.status {
                map.serialize_entry("status", status)?;
            }
        } else if let Value::Object(fields) = &self.spec {
            for (key, value) in fields {
                map.serialize_entry(key, value)?;
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn round_trip(document: Value) -> Value {
        let resource = parse(&document).expect("the test's own document").resource.build();
        serde_json::to_value(Document::of(&resource).expect("just parsed")).expect("a document")
    }

    #[test]
    fn json_kinds_keep_spec_and_status_apart() {
        let document = round_trip(json!({
            "type": "MeshService", "mesh": "m", "name": "redis",
            "labels": {"kuma.io/zone": "east"},
            "spec": {"ports": [{"port": 6379, "protocl": "x"}]},
        }));
        assert_eq!(document["kri"], "kri_msvc_m_east__redis_");
        assert_eq!(document["snis"], json!([{"port": 6379, "sni": "sni.msvc.m.east.redis.6379"}]));
        assert_eq!(
            document["spec"],
            json!({"state": "Unavailable", "selector": {}, "ports": [{"port": 6379, "appProtocol": "tcp"}]})
        );
        assert_eq!(document["status"], json!({"tls": {}, "dataplaneProxies": {}}));
    }

    #[test]
    fn proto_kinds_have_their_fields_at_the_top() {
        let document = round_trip(json!({
            "type": "Dataplane", "mesh": "m", "name": "dp",
            "networking": {"address": "127.0.0.1", "inbound": [{"port": 80, "state": "NotReady"}]},
        }));
        assert_eq!(document["networking"]["inbound"][0], json!({"port": 80, "state": "NotReady"}));
    }

    #[test]
    fn a_secret_is_base64_and_never_debug() {
        let document = json!({"type": "Secret", "mesh": "m", "name": "s", "data": "c2VjcmV0"});
        assert_eq!(round_trip(document.clone())["data"], "c2VjcmV0");
        let resource = parse(&document).expect("the test's own document").resource;
        let shown = format!("{resource:?}");
        assert!(shown.contains("Payload(") && !shown.contains("secret"), "only the size is shown: {shown}");
    }

    #[test]
    fn unknown_types_suggest_the_nearest() {
        let error = parse(&json!({"type": "MeshServic", "name": "x"})).expect_err("no such type");
        assert_eq!(error.to_string(), r#"unknown type "MeshServic"; did you mean "MeshService"?"#);
        assert_eq!(parse(&json!([])).err(), Some(ParseError::NotAnObject));
    }
}
