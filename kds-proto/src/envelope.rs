//! The envelope of a resource on the wire: a discovery `Resource` that holds a [`KumaResource`] whose spec and
//! status are protobuf or, with an empty type URL, JSON. Bytes of specs pass through unchanged.

use std::collections::BTreeMap;

use prost::{Message, Name};
use prost_types::Any;

use crate::mesh::{KumaResource, kuma_resource::Meta};

const TYPE_PREFIX: &str = "type.googleapis.com/";

/// An encoded spec or status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A protobuf message, by its full name.
    Proto {
        /// For example `kuma.mesh.v1alpha1.Dataplane`; the whole type URL where a type that is not ours has
        /// another prefix than `type.googleapis.com/`, so that it leaves as it came.
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
            Self::Proto { message, bytes } if message.contains('/') => {
                Any { type_url: message.clone(), value: bytes.clone() }
            }
            Self::Proto { message, bytes } => {
                Any { type_url: format!("{TYPE_PREFIX}{message}"), value: bytes.clone() }
            }
            Self::Json(text) => Any { type_url: String::new(), value: text.clone() },
        }
    }

    /// Only an empty type URL means JSON: a URL without a name is damage, not JSON.
    fn from_any(any: Any) -> Result<Self, EnvelopeError> {
        if any.type_url.is_empty() {
            return Ok(Self::Json(any.value));
        }
        let message = match any.type_url.rsplit_once('/') {
            Some((_, "")) => return Err(EnvelopeError::NoTypeName(any.type_url)),
            Some((_, name)) if crate::descriptors().get_message_by_name(name).is_some() => name.into(),
            Some(_) => match any.type_url.strip_prefix(TYPE_PREFIX) {
                Some(name) if !name.contains('/') => name.into(),
                _ => any.type_url,
            },
            None => return Err(EnvelopeError::NoTypeName(any.type_url)),
        };
        Ok(Self::Proto { message, bytes: any.value })
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
    /// A spec or a status has a type URL that names no message.
    #[error("the type URL {0:?} has no message name after a slash")]
    NoTypeName(String),
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
    /// When it is not a resource with meta and spec, or one of its type URLs names no message.
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
            spec: Content::from_any(spec)?,
            status: resource.status.map(Content::from_any).transpose()?,
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

    fn resource(type_url: &str, value: &[u8]) -> Any {
        let spec = Any { type_url: type_url.into(), value: value.into() };
        let meta = Meta { name: "a".into(), mesh: "m".into(), ..Default::default() };
        Envelope::any(KumaResource { meta: Some(meta), spec: Some(spec), status: None }.encode_to_vec())
    }

    #[test]
    fn known_and_unknown_types_leave_as_they_came() {
        for url in
            ["type.googleapis.com/kuma.mesh.v1alpha1.Mesh", "type.googleapis.com/a.B", "x/a.B", "x/y/a.B"]
        {
            let any = resource(url, b"\xff\x01");
            let envelope = Envelope::decode(Some(&any)).expect("a resource");
            assert_eq!(Envelope::any(envelope.encode()), any, "{url}");
        }
    }

    #[test]
    fn a_known_type_is_recognised_behind_any_prefix() {
        let envelope =
            Envelope::decode(Some(&resource("x/kuma.mesh.v1alpha1.Mesh", b""))).expect("a resource");
        let message = "kuma.mesh.v1alpha1.Mesh".into();
        assert_eq!(envelope.spec, Content::Proto { message, bytes: vec![] });
    }

    #[test]
    fn a_type_url_without_a_name_is_not_json() {
        for url in ["type.googleapis.com/", "/", "kuma.mesh.v1alpha1.Mesh"] {
            let error = Envelope::decode(Some(&resource(url, b"{}"))).expect_err(url);
            assert_eq!(error, EnvelopeError::NoTypeName(url.into()));
        }
    }

    #[test]
    fn fields_of_a_newer_peer_survive() {
        // Field 1000, which Mesh does not have, beside field 8, which it has.
        let spec = b"\x42\x01*\xc2\x3e\x03new";
        let url = "type.googleapis.com/kuma.mesh.v1alpha1.Mesh";
        let envelope = Envelope::decode(Some(&resource(url, spec))).expect("a resource");
        assert!(matches!(&envelope.spec, Content::Proto { bytes, .. } if bytes == spec));
    }

    #[test]
    fn the_layout_is_that_of_the_peer() {
        let labels = [("b", "2"), ("a", "1")].map(|(key, value)| (key.into(), value.into()));
        let envelope = Envelope {
            name: "n".into(),
            mesh: "m".into(),
            labels: labels.into(),
            spec: Content::Json(b"{}".into()),
            status: None,
        };
        // Meta: 1 name, 2 mesh, 6 labels by key. Spec: an Any without type URL, 2 value.
        let meta = b"\x0a\x16\x0a\x01n\x12\x01m\x32\x06\x0a\x01a\x12\x011\x32\x06\x0a\x01b\x12\x012";
        let spec = b"\x12\x04\x12\x02{}";
        assert_eq!(envelope.encode(), [meta.as_slice(), spec].concat());
    }

    proptest! {
        #[test]
        fn damage_is_an_error_and_never_a_panic(
            spec in content(), at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<bool>(),
        ) {
            let labels = [("k".into(), "v".into())].into();
            let envelope = Envelope { name: "n".into(), mesh: "m".into(), labels, spec, status: None };
            let mut bytes = envelope.encode();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] = with }
            if let Ok(read) = Envelope::decode(Some(&Envelope::any(bytes))) {
                let again = Envelope::any(read.encode());
                prop_assert_eq!(Envelope::decode(Some(&again)), Ok(read));
            }
        }

        #[test]
        fn equal_messages_are_equal_bytes(
            tags in prop::collection::hash_map("[a-z]{1,5}", "[a-z]{0,5}", 0..12),
        ) {
            use crate::mesh::Selector;
            let forward = Selector { r#match: tags.clone().into_iter().collect() };
            let mut sorted: Vec<_> = tags.into_iter().collect();
            sorted.sort();
            let backward = Selector { r#match: sorted.into_iter().rev().collect() };
            prop_assert_eq!(forward.encode_to_vec(), backward.encode_to_vec());
        }
    }
}
