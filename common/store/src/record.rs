//! How a resource is written in a backend: its spec and status as they travel on the wire, with its times and
//! the id of the write that made it.

use model::{Key, Labels, Payload, Resource, Timestamp};
use prost::Message;

/// The stored form. Its key is the backend's key.
#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(btree_map = "string, string", tag = "1")]
    labels: std::collections::BTreeMap<String, String>,
    #[prost(bytes = "bytes", tag = "2")]
    spec: bytes::Bytes,
    #[prost(bytes = "bytes", optional, tag = "3")]
    status: Option<bytes::Bytes>,
    #[prost(message, optional, tag = "4")]
    created: Option<prost_types::Timestamp>,
    #[prost(message, optional, tag = "5")]
    modified: Option<prost_types::Timestamp>,
    /// Lets a writer recognise its own write after an answer that was lost.
    #[prost(string, tag = "6")]
    write_id: String,
}

pub(crate) fn encode(resource: &Resource, write_id: &str) -> Vec<u8> {
    Record {
        labels: resource.labels().clone(),
        spec: resource.raw_spec().bytes().clone(),
        status: resource.raw_status().map(|status| status.bytes().clone()),
        created: Some(resource.created().to_proto()),
        modified: Some(resource.modified().to_proto()),
        write_id: write_id.into(),
    }
    .encode_to_vec()
}

pub(crate) fn decode(key: Key, bytes: &[u8]) -> Result<Resource, prost::DecodeError> {
    let record = Record::decode(bytes)?;
    let time = |time: Option<prost_types::Timestamp>| {
        time.map_or(Timestamp::EPOCH, |time| Timestamp::from_proto(&time))
    };
    let mut builder = Resource::builder(key);
    builder.labels = Labels::from_iter(record.labels);
    builder.spec = Payload::from_bytes(record.spec);
    builder.status = record.status.map(Payload::from_bytes);
    builder.created = time(record.created);
    builder.modified = time(record.modified);
    Ok(builder.build())
}

pub(crate) fn write_id(bytes: &[u8]) -> Option<String> {
    Record::decode(bytes).ok().map(|record| record.write_id)
}

/// Separates the parts of a key in a backend; no name contains it.
const SEPARATOR: char = '/';

/// `<kind>/<mesh>/<name>`.
pub(crate) fn key_text(key: &Key) -> String {
    format!("{}{SEPARATOR}{}{SEPARATOR}{}", key.kind, key.mesh, key.name)
}

pub(crate) fn parse_key(text: &str) -> Option<Key> {
    let mut parts = text.splitn(3, SEPARATOR);
    let kind = model::Kind::by_name(parts.next()?)?;
    let (mesh, name) = (parts.next()?, parts.next()?);
    Some(Key::new(kind, mesh, name))
}
