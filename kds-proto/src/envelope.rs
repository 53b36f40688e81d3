//! The envelope of a resource on the wire: a discovery `Resource` that holds a [`KumaResource`] whose spec and
//! status are protobuf or, with an empty type URL, JSON. Bytes of specs pass through unchanged.

use std::collections::BTreeMap;

use prost::{Message, Name};
use prost_types::Any;

use crate::mesh::{KumaResource, kuma_resource::Meta};

/// An encoded spec or status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A protobuf message, by its full name.
    Proto {
        /// For example `kuma.mesh.v1alpha1.Dataplane`.
        message: String,
        /// Encoded message, unknown fields included.
        bytes: Vec<u8>,
    },
    /// UTF-8 JSON.
    Json(Vec<u8>),
}

impl Content {
    fn to_any(&self) -> Any {
        match self {
            Self::Proto { message, bytes } => {
                Any { type_url: format!("type.googleapis.com/{message}"), value: bytes.clone() }
            }
            Self::Json(text) => Any { type_url: String::new(), value: text.clone() },
        }
    }

    fn from_any(any: Any) -> Self {
        match any.type_url.rsplit('/').next() {
            None | Some("") => Self::Json(any.value),
            Some(message) => Self::Proto { message: message.into(), bytes: any.value },
        }
    }
}

/// A resource as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Name, as the receiver is to know it.
    pub name: String,
    /// Mesh; empty for global scope.
    pub mesh: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Spec.
    pub spec: Content,
    /// Status, for kinds that have one.
    pub status: Option<Content>,
}

/// Content that is no resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The discovery resource holds nothing.
    #[error("the resource is empty")]
    Empty,
    /// It holds another message.
    #[error("expected a KumaResource, got {0:?}")]
    WrongType(String),
    /// Its bytes are not the message.
    #[error("not a KumaResource: {0}")]
    Malformed(String),
    /// It does not say which resource it is.
    #[error("the resource has no meta")]
    NoMeta,
    /// It has no spec.
    #[error("the resource {0:?} has no spec")]
    NoSpec(String),
}

impl Envelope {
    /// Encodes the envelope: the same bytes for equal resources.
    pub fn encode(&self) -> Vec<u8> {
        let meta = Meta {
            name: self.name.clone(),
            mesh: self.mesh.clone(),
            version: String::new(),
            labels: self.labels.clone(),
        };
        let status = self.status.as_ref().map(Content::to_any);
        KumaResource { meta: Some(meta), spec: Some(self.spec.to_any()), status }.encode_to_vec()
    }

    /// The encoded envelope as the `resource` of a discovery message.
    pub fn any(bytes: Vec<u8>) -> Any {
        Any { type_url: KumaResource::type_url(), value: bytes }
    }

    /// Reads the `resource` of a discovery message.
    ///
    /// # Errors
    /// When it is not a resource with meta and spec.
    pub fn decode(any: Option<&Any>) -> Result<Self, EnvelopeError> {
        let any = any.ok_or(EnvelopeError::Empty)?;
        if any.type_url.rsplit('/').next() != Some(&KumaResource::full_name()) {
            return Err(EnvelopeError::WrongType(any.type_url.clone()));
        }
        let resource = KumaResource::decode(any.value.as_slice())
            .map_err(|error| EnvelopeError::Malformed(error.to_string()))?;
        let meta = resource.meta.ok_or(EnvelopeError::NoMeta)?;
        let spec = resource.spec.ok_or_else(|| EnvelopeError::NoSpec(meta.name.clone()))?;
        Ok(Self {
            name: meta.name,
            mesh: meta.mesh,
            labels: meta.labels,
            spec: Content::from_any(spec),
            status: resource.status.map(Content::from_any),
        })
    }
}

/// The wire name of a resource: `<name>.<mesh>`; it ends with a dot for global scope.
pub fn wire_name(name: &str, mesh: &str) -> String {
    format!("{name}.{mesh}")
}

/// Splits a wire name at its last dot into name and mesh.
pub fn split_wire_name(wire: &str) -> Option<(&str, &str)> {
    wire.rsplit_once('.').filter(|(name, _)| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn content() -> impl Strategy<Value = Content> {
        prop_oneof![
            any::<Vec<u8>>().prop_map(Content::Json),
            ("[a-z]{1,8}\\.[A-Z][a-z]{1,8}", any::<Vec<u8>>())
                .prop_map(|(message, bytes)| Content::Proto { message, bytes }),
        ]
    }

    proptest! {
        #[test]
        fn envelopes_round_trip(
            name in "[a-z.-]{0,20}", mesh in "[a-z-]{0,20}",
            labels in prop::collection::btree_map("[a-z]{1,5}", "[a-z]{0,5}", 0..6),
            spec in content(), status in prop::option::of(content()),
        ) {
            let envelope = Envelope { name, mesh, labels, spec, status };
            let bytes = envelope.encode();
            prop_assert_eq!(&bytes, &envelope.clone().encode());
            prop_assert_eq!(Envelope::decode(Some(&Envelope::any(bytes))), Ok(envelope));
        }

        #[test]
        fn garbage_is_an_error_and_never_a_panic(bytes in any::<Vec<u8>>()) {
            let _ = Envelope::decode(Some(&Envelope::any(bytes)));
        }

        #[test]
        fn wire_names_split_at_the_last_dot(name in "[a-z][a-z.]{0,10}", mesh in "[a-z-]{0,10}") {
            let wire = wire_name(&name, &mesh);
            prop_assert_eq!(split_wire_name(&wire), Some((name.as_str(), mesh.as_str())));
        }
    }

    #[test]
    fn errors_say_what_is_missing() {
        assert_eq!(Envelope::decode(None), Err(EnvelopeError::Empty));
        let other = Any { type_url: "type.googleapis.com/a.B".into(), value: vec![] };
        assert_eq!(Envelope::decode(Some(&other)), Err(EnvelopeError::WrongType(other.type_url)));
        assert_eq!(Envelope::decode(Some(&Envelope::any(vec![]))), Err(EnvelopeError::NoMeta));
    }
}
