//! Encoded specs and statuses. A payload keeps the bytes that arrived, so that what a peer sent and we do
//! not understand goes on unchanged; typed views decode from it and are never the stored form.

use std::fmt;

use bytes::Bytes;
use prost::{Message, Name};
use prost_reflect::{DynamicMessage, SerializeOptions};
use serde_json::Value;

use crate::Violations;
use crate::spec::Checked;

/// How a kind's spec is encoded on the wire and in the store.
#[derive(Clone, Copy)]
pub enum SpecFormat {
    /// A protobuf message, in JSON by the proto3 mapping.
    Proto(ProtoCodec),
    /// UTF-8 JSON.
    Json(JsonCodec),
}

/// The type that holds a kind's JSON spec.
#[derive(Clone, Copy)]
pub struct JsonCodec {
    /// Its JSON schema.
    pub schema: fn() -> schemars::Schema,
    /// Reads a document and writes it again: unknown fields fall away, defaults appear.
    pub normalise: fn(&Value) -> Result<Value, DecodeError>,
    /// Checks a document, one that does not decode too.
    pub validate: fn(&Value, &mut Violations),
}

pub(crate) const fn json<T: Checked + schemars::JsonSchema>() -> SpecFormat {
    fn normalise<T: Checked>(document: &Value) -> Result<Value, DecodeError> {
        let typed = T::deserialize(document).map_err(|e| DecodeError::Json(e.to_string()))?;
        serde_json::to_value(typed).map_err(|e| DecodeError::Json(e.to_string()))
    }
    fn validate<T: Checked>(document: &Value, violations: &mut Violations) {
        match T::deserialize(document) {
            Ok(typed) => typed.check(violations),
            Err(error) => violations.add("spec", error.to_string()),
        }
    }
    SpecFormat::Json(JsonCodec {
        schema: || schemars::schema_for!(T),
        normalise: normalise::<T>,
        validate: validate::<T>,
    })
}

/// The protobuf message that holds a kind's spec.
#[derive(Clone, Copy)]
pub struct ProtoCodec {
    package: &'static str,
    message: &'static str,
    /// Decodes and encodes again with ordered maps.
    canonical: fn(&[u8]) -> Result<Vec<u8>, prost::DecodeError>,
}

pub(crate) const fn proto<T: Message + Name + Default>() -> SpecFormat {
    fn canonical<T: Message + Default>(bytes: &[u8]) -> Result<Vec<u8>, prost::DecodeError> {
        T::decode(bytes).map(|message| message.encode_to_vec())
    }
    SpecFormat::Proto(ProtoCodec { package: T::PACKAGE, message: T::NAME, canonical: canonical::<T> })
}

impl fmt::Debug for SpecFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proto(codec) => write!(f, "Proto({})", codec.full_name()),
            Self::Json(_) => f.write_str("Json"),
        }
    }
}

impl ProtoCodec {
    /// Full message name, for example `kuma.mesh.v1alpha1.Dataplane`.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.package, self.message)
    }

    fn descriptor(&self) -> prost_reflect::MessageDescriptor {
        kds_proto::descriptors()
            .get_message_by_name(&self.full_name())
            .expect("every proto kind of the table is in the descriptor set of kds-proto")
    }
}

/// A payload that is not what its kind says.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes are not the protobuf message.
    #[error("not a {message} message: {reason}")]
    Proto {
        /// Full message name.
        message: String,
        /// What the decoder says.
        reason: String,
    },
    /// The text is not the JSON document.
    #[error("{0}")]
    Json(String),
    /// A spec of one kind was read as another's.
    #[error("a {0} has no such typed view")]
    WrongKind(&'static str),
}

/// An encoded spec or status: protobuf bytes or JSON text, as its kind's [`SpecFormat`] says.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Payload(Bytes);

impl Payload {
    /// Wraps bytes as they came from a store or a peer.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// The encoded bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// Encodes a JSON document as its text: statuses, and the specs of JSON kinds.
    pub fn from_document(document: &Value) -> Self {
        Self(document.to_string().into())
    }

    /// The JSON document that the bytes are the text of. An empty payload is an empty object.
    ///
    /// # Errors
    /// When the bytes are not JSON.
    pub fn to_document(&self) -> Result<Value, DecodeError> {
        decode_json(self)
    }

    /// Encodes a JSON document in a kind's format.
    ///
    /// # Errors
    /// When the document does not fit the kind's protobuf message; unknown fields are dropped there.
    pub fn from_json(format: SpecFormat, document: &Value) -> Result<Self, DecodeError> {
        match format {
            SpecFormat::Json(_) => Ok(Self::from_document(document)),
            SpecFormat::Proto(codec) => {
                let options = prost_reflect::DeserializeOptions::new().deny_unknown_fields(false);
                let message =
                    DynamicMessage::deserialize_with_options(codec.descriptor(), document, &options)
                        .map_err(|error| DecodeError::Json(error.to_string()))?;
                let bytes = (codec.canonical)(&message.encode_to_vec()).map_err(|e| codec.error(&e))?;
                Ok(Self(bytes.into()))
            }
        }
    }

    /// The payload as a JSON document: proto3 JSON mapping, defaults left out.
    ///
    /// # Errors
    /// When the bytes are not what the format says.
    pub fn to_json(&self, format: SpecFormat) -> Result<Value, DecodeError> {
        match format {
            SpecFormat::Json(_) => self.to_document(),
            SpecFormat::Proto(codec) => {
                let message = DynamicMessage::decode(codec.descriptor(), self.0.clone())
                    .map_err(|e| codec.error(&e))?;
                message
                    .serialize_with_options(serde_json::value::Serializer, &SerializeOptions::new())
                    .map_err(|error| DecodeError::Json(error.to_string()))
            }
        }
    }

    /// Whether both say the same in a kind's format; JSON texts are compared as documents.
    pub fn same(&self, other: &Self, format: SpecFormat) -> bool {
        match format {
            SpecFormat::Json(_) => self.same_document(other),
            SpecFormat::Proto(_) => self == other,
        }
    }

    /// Whether both are the same JSON document.
    pub fn same_document(&self, other: &Self) -> bool {
        self == other || matches!((self.to_document(), other.to_document()), (Ok(a), Ok(b)) if a == b)
    }
}

impl ProtoCodec {
    fn error(&self, reason: &prost::DecodeError) -> DecodeError {
        DecodeError::Proto { message: self.full_name(), reason: reason.to_string() }
    }
}

/// Payloads may hold secrets: their content is never shown.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

/// A typed view of a spec or status.
pub trait Typed: Send + Sync + Sized + 'static {
    /// Reads the encoded form.
    ///
    /// # Errors
    /// When the payload is not of this type.
    fn decode(payload: &Payload) -> Result<Self, DecodeError>;

    /// Writes the encoded form, the same bytes for equal values.
    fn encode(&self) -> Payload;
}

impl<T: Checked> Typed for T {
    fn decode(payload: &Payload) -> Result<Self, DecodeError> {
        decode_json(payload)
    }

    fn encode(&self) -> Payload {
        Payload::from_document(
            &serde_json::to_value(self).expect("specs have string keys and finite numbers"),
        )
    }
}

/// Decodes a protobuf payload: the body of [`Typed`] for prost messages.
pub(crate) fn decode_proto<T: Message + Name + Default>(payload: &Payload) -> Result<T, DecodeError> {
    T::decode(payload.bytes().clone())
        .map_err(|error| DecodeError::Proto { message: T::full_name(), reason: error.to_string() })
}

/// Decodes a JSON payload; an empty one is an empty object.
fn decode_json<T: serde::de::DeserializeOwned>(payload: &Payload) -> Result<T, DecodeError> {
    let bytes: &[u8] = if payload.bytes().is_empty() { b"{}" } else { payload.bytes() };
    serde_json::from_slice(bytes).map_err(|error| DecodeError::Json(error.to_string()))
}
