//! The envelope of one resource between the planes: `KumaResource` in the `Resource` of a delta response.
//!
//! A spec stays the bytes that arrived, whatever it holds: fields and kinds that this build does not know go on
//! to the next plane unchanged.

use std::collections::BTreeMap;

use prost::{Message, Name};
use prost_types::Any;

use crate::discovery::Resource;
use crate::mesh::KumaResource;
use crate::mesh::kuma_resource::Meta;

/// Prefix of the type URL of an `Any`; the full message name follows.
pub const TYPE_URL_PREFIX: &str = "type.googleapis.com/";

/// An encoded spec or status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// A protobuf message.
    Proto {
        /// Type URL as it is on the wire, `type.googleapis.com/` and the full message name.
        type_url: String,
        /// The message.
        bytes: Vec<u8>,
    },
    /// UTF-8 JSON: on the wire, an `Any` without a type URL.
    Json {
        /// The document.
        bytes: Vec<u8>,
    },
}

impl Payload {
    /// Encodes a message.
    pub fn proto<T: Message + Name>(message: &T) -> Self {
        Self::Proto { type_url: T::type_url(), bytes: message.encode_to_vec() }
    }

    /// Wraps an encoded message of the full name `type_name`.
    pub fn proto_bytes(type_name: &str, bytes: Vec<u8>) -> Self {
        Self::Proto { type_url: format!("{TYPE_URL_PREFIX}{type_name}"), bytes }
    }

    /// Wraps a JSON document.
    pub fn json(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Json { bytes: bytes.into() }
    }

    /// Full name of the protobuf message; `None` for JSON.
    pub fn type_name(&self) -> Option<&str> {
        match self {
            Self::Proto { type_url, .. } => Some(type_url.rsplit('/').next().unwrap_or_default()),
            Self::Json { .. } => None,
        }
    }

    /// The encoded content.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Proto { bytes, .. } | Self::Json { bytes } => bytes,
        }
    }
}

impl From<Any> for Payload {
    fn from(any: Any) -> Self {
        if any.type_url.is_empty() {
            Self::Json { bytes: any.value }
        } else {
            Self::Proto { type_url: any.type_url, bytes: any.value }
        }
    }
}

impl From<Payload> for Any {
    fn from(payload: Payload) -> Self {
        match payload {
            Payload::Proto { type_url, bytes } => Self { type_url, value: bytes },
            Payload::Json { bytes } => Self { type_url: String::new(), value: bytes },
        }
    }
}

/// A resource as it travels between the planes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireResource {
    /// Name without the mesh.
    pub name: String,
    /// Mesh; empty for a resource of global scope.
    pub mesh: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Spec.
    pub spec: Payload,
    /// Status, for kinds that have one.
    pub status: Option<Payload>,
}

/// An envelope that is not a resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The `Any` holds another message.
    #[error("expected {}, found {found:?}", KumaResource::type_url())]
    TypeUrl {
        /// Type URL that was found.
        found: String,
    },
    /// The bytes are not a `KumaResource`.
    #[error("not a KumaResource: {0}")]
    Bytes(#[source] prost::DecodeError),
    /// Part of the resource is absent.
    #[error("the resource {name:?} has no {field}")]
    Missing {
        /// Wire name of the resource as far as it is known.
        name: String,
        /// What is absent.
        field: &'static str,
    },
    /// A delta response has a resource without content.
    #[error("the entry {name:?} has no resource")]
    NoResource {
        /// Name of the entry.
        name: String,
    },
    /// A name on the wire has no dot between name and mesh.
    #[error("the wire name {0:?} has no dot between name and mesh")]
    Name(String),
}

/// Name of a resource on the wire: the name, a dot, the mesh. Names of global scope end with the dot.
pub fn wire_name(name: &str, mesh: &str) -> String {
    format!("{name}.{mesh}")
}

/// Splits a name on the wire into name and mesh, at the last dot.
///
/// # Errors
/// Fails without a dot.
pub fn split_wire_name(wire: &str) -> Result<(&str, &str), DecodeError> {
    wire.rsplit_once('.').ok_or_else(|| DecodeError::Name(wire.to_owned()))
}

/// Encodes a resource; equal resources become equal bytes.
pub fn encode(resource: &WireResource) -> Any {
    let message = KumaResource {
        meta: Some(Meta {
            name: resource.name.clone(),
            mesh: resource.mesh.clone(),
            version: String::new(),
            labels: resource.labels.clone(),
        }),
        spec: Some(resource.spec.clone().into()),
        status: resource.status.clone().map(Into::into),
    };
    Any { type_url: KumaResource::type_url(), value: message.encode_to_vec() }
}

/// Encodes a resource as an entry of a delta response.
pub fn encode_entry(resource: &WireResource, version: String) -> Resource {
    Resource {
        name: wire_name(&resource.name, &resource.mesh),
        version,
        resource: Some(encode(resource)),
        ..Resource::default()
    }
}

/// Decodes a resource.
///
/// # Errors
/// Fails when the `Any` is another message, its bytes are malformed, or name or spec are absent.
pub fn decode(any: &Any) -> Result<WireResource, DecodeError> {
    let expected = KumaResource::full_name();
    if any.type_url.rsplit('/').next() != Some(expected.as_str()) {
        return Err(DecodeError::TypeUrl { found: any.type_url.clone() });
    }
    let message = KumaResource::decode(any.value.as_slice()).map_err(DecodeError::Bytes)?;
    let meta = message.meta.unwrap_or_default();
    let missing = |field| DecodeError::Missing { name: wire_name(&meta.name, &meta.mesh), field };
    if meta.name.is_empty() {
        return Err(missing("name"));
    }
    let spec = message.spec.ok_or_else(|| missing("spec"))?.into();
    let status = message.status.map(Payload::from);
    Ok(WireResource { name: meta.name, mesh: meta.mesh, labels: meta.labels, spec, status })
}

/// Decodes an entry of a delta response. The names in the envelope count, not the name of the entry.
///
/// # Errors
/// Fails like [`decode`], and when the entry is empty.
pub fn decode_entry(entry: &Resource) -> Result<WireResource, DecodeError> {
    let any = entry.resource.as_ref().ok_or_else(|| DecodeError::NoResource { name: entry.name.clone() })?;
    decode(any)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mesh::Dataplane;

    fn payload() -> impl Strategy<Value = Payload> {
        prop_oneof![
            (r"type\.googleapis\.com/[a-zA-Z.]{1,20}", any::<Vec<u8>>())
                .prop_map(|(type_url, bytes)| Payload::Proto { type_url, bytes }),
            any::<Vec<u8>>().prop_map(|bytes| Payload::Json { bytes }),
        ]
    }

    fn resource() -> impl Strategy<Value = WireResource> {
        (
            "[a-z][a-z0-9.-]{0,20}",
            "[a-z]{0,8}",
            prop::collection::btree_map("[a-z./-]{1,12}", "[a-z0-9]{0,8}", 0..6),
            payload(),
            prop::option::of(payload()),
        )
            .prop_map(|(name, mesh, labels, spec, status)| WireResource {
                name,
                mesh,
                labels,
                spec,
                status,
            })
    }

    proptest! {
        #[test]
        fn round_trip(resource in resource()) {
            let entry = encode_entry(&resource, "v".into());
            prop_assert_eq!(decode_entry(&entry), Ok(resource.clone()));
            prop_assert_eq!(split_wire_name(&entry.name), Ok((resource.name.as_str(), resource.mesh.as_str())));
        }

        #[test]
        fn order_of_labels_does_not_reach_the_wire(resource in resource()) {
            let mut reversed = resource.clone();
            reversed.labels = resource.labels.clone().into_iter().rev().collect();
            prop_assert_eq!(encode(&resource), encode(&reversed));
        }

        #[test]
        fn garbage_does_not_panic(value in any::<Vec<u8>>(), name in ".*") {
            let _ = decode(&Any { type_url: KumaResource::type_url(), value });
            let _ = split_wire_name(&name);
        }
    }

    #[test]
    fn unknown_fields_of_a_spec_survive() {
        let mut bytes = Dataplane::default().encode_to_vec();
        // Field 1000, varint, value 7.
        bytes.extend([0xc0, 0x3e, 0x07]);
        let resource = WireResource {
            name: "web".into(),
            mesh: "default".into(),
            labels: BTreeMap::new(),
            spec: Payload::proto_bytes("kuma.mesh.v1alpha1.Dataplane", bytes.clone()),
            status: None,
        };
        let decoded = decode(&encode(&resource)).expect("round trip");
        assert_eq!(decoded.spec.bytes(), bytes);
        assert_eq!(decoded.spec.type_name(), Some("kuma.mesh.v1alpha1.Dataplane"));
    }

    #[test]
    fn names_split_at_the_last_dot() {
        assert_eq!(split_wire_name("a.b.default"), Ok(("a.b", "default")));
        assert_eq!(split_wire_name("default."), Ok(("default", "")));
        assert_eq!(split_wire_name("plain"), Err(DecodeError::Name("plain".into())));
    }

    #[test]
    fn errors_say_what_was_wrong() {
        let other = Any { type_url: "type.googleapis.com/x.Y".into(), value: Vec::new() };
        let error = decode(&other).expect_err("another message").to_string();
        assert!(error.contains("KumaResource") && error.contains("x.Y"), "{error}");

        let meta = Meta { name: "web".into(), mesh: "default".into(), ..Meta::default() };
        let message = KumaResource { meta: Some(meta), spec: None, status: None };
        let any = Any { type_url: KumaResource::type_url(), value: message.encode_to_vec() };
        let error = decode(&any).expect_err("no spec").to_string();
        assert_eq!(error, r#"the resource "web.default" has no spec"#);

        let empty = Resource { name: "x.y".into(), ..Resource::default() };
        assert_eq!(decode_entry(&empty), Err(DecodeError::NoResource { name: "x.y".into() }));
    }
}
