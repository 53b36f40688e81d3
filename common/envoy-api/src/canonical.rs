//! One encoding for equal messages. The generated messages have ordered maps; reflection does not, also not inside
//! the bytes of an `Any`. What is parsed or patched through reflection passes here before it is sent or hashed.

use std::collections::BTreeSet;

use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, ReflectMessage};
use prost_types::Any;

/// Messages within each other down to which maps are ordered; what is deeper stays as it is. Twice what the decoder
/// lets through in one encoding.
const MAX_DEPTH: usize = 200;

/// Encodes a message with each map ordered by key, inside every `Any` of a known type too.
pub fn encode(message: &DynamicMessage) -> Vec<u8> {
    let bytes = message.encode_to_vec();
    ordered(&message.descriptor(), &bytes, 0).unwrap_or(bytes)
}

/// A field as it is encoded.
struct Record {
    number: u32,
    bytes: Vec<u8>,
    /// Says nothing that its absence would not say, where presence is not told apart.
    is_default: bool,
    /// For an entry of a map: the field, and the key to order by.
    entry: Option<(u32, Vec<u8>)>,
}

/// A field as it is read.
struct Raw<'a> {
    number: u32,
    whole: &'a [u8],
    /// Of a length-delimited field.
    content: Option<&'a [u8]>,
}

/// `None` where the bytes are not a message.
fn ordered(descriptor: &MessageDescriptor, bytes: &[u8], depth: usize) -> Option<Vec<u8>> {
    if depth >= MAX_DEPTH {
        return Some(bytes.to_vec());
    }
    if descriptor.full_name() == "google.protobuf.Any" {
        return wrapped(bytes, depth);
    }
    let mut rest = bytes;
    let mut records = Vec::new();
    while !rest.is_empty() {
        let Raw { number, whole, content } = next(&mut rest)?;
        let field = descriptor.get_field(number);
        let kind = field.as_ref().map(|field| field.kind());
        records.push(match (content, kind) {
            (Some(content), Some(Kind::Message(inner))) => {
                let is_map = field.is_some_and(|field| field.is_map());
                let entry = if is_map { Some((number, map_key(content)?)) } else { None };
                let content = ordered(&inner, content, depth + 1)?;
                Record { number, bytes: delimited(number, &content), is_default: content.is_empty(), entry }
            }
            _ => {
                Record { number, bytes: whole.to_vec(), is_default: is_default(whole, content), entry: None }
            }
        });
    }
    if descriptor.is_map_entry() {
        drop_defaults(&mut records);
    }
    order_maps(&mut records);
    Some(records.into_iter().flat_map(|record| record.bytes).collect())
}

/// The generated messages leave an empty key or value of a map out, reflection writes it.
fn drop_defaults(entry: &mut Vec<Record>) {
    let numbers: BTreeSet<u32> = entry.iter().map(|record| record.number).collect();
    // Where a field is there twice the later one counts, also when it is empty.
    if numbers.len() == entry.len() {
        entry.retain(|record| !record.is_default);
    }
}

fn is_default(mut field: &[u8], content: Option<&[u8]>) -> bool {
    match content {
        Some(content) => content.is_empty(),
        None => decode_key(&mut field).is_ok() && field.iter().all(|byte| *byte == 0),
    }
}

/// An `Any` of an unknown type, or whose value is not of its type, stays as it is.
fn wrapped(bytes: &[u8], depth: usize) -> Option<Vec<u8>> {
    let mut any = Any::decode(bytes).ok()?;
    let known =
        any.type_url.rsplit_once('/').and_then(|(_, name)| crate::descriptors().get_message_by_name(name));
    if let Some(value) = known.and_then(|descriptor| ordered(&descriptor, &any.value, depth + 1)) {
        any.value = value;
    }
    Some(any.encode_to_vec())
}

/// Puts the entries of each map, by key, into the places that they hold together.
fn order_maps(records: &mut [Record]) {
    let maps: BTreeSet<u32> = records.iter().filter_map(|record| Some(record.entry.as_ref()?.0)).collect();
    for map in maps {
        let mut places: Vec<&mut Record> = records
            .iter_mut()
            .filter(|record| record.entry.as_ref().is_some_and(|(number, _)| *number == map))
            .collect();
        let mut entries: Vec<_> =
            places.iter_mut().map(|place| (place.entry.take(), std::mem::take(&mut place.bytes))).collect();
        // Stable: of two entries with one key the later one counts.
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        for (place, (_, bytes)) in places.into_iter().zip(entries) {
            place.bytes = bytes;
        }
    }
}

/// Takes one field off.
fn next<'a>(rest: &mut &'a [u8]) -> Option<Raw<'a>> {
    let start = *rest;
    let (number, wire) = decode_key(rest).ok()?;
    let content = match wire {
        WireType::Varint => {
            decode_varint(rest).ok()?;
            None
        }
        WireType::SixtyFourBit => {
            take(rest, 8)?;
            None
        }
        WireType::ThirtyTwoBit => {
            take(rest, 4)?;
            None
        }
        WireType::LengthDelimited => {
            let length = usize::try_from(decode_varint(rest).ok()?).ok()?;
            Some(take(rest, length)?)
        }
        // Proto3 has no groups.
        WireType::StartGroup | WireType::EndGroup => return None,
    };
    let (whole, _) = start.split_at_checked(start.len().checked_sub(rest.len())?)?;
    Some(Raw { number, whole, content })
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

/// The key of an encoded entry, comparable with others of the same map: strings by bytes, as the generated messages
/// order them; numbers by their encoded value.
fn map_key(mut entry: &[u8]) -> Option<Vec<u8>> {
    let mut key = Vec::new();
    while !entry.is_empty() {
        let Raw { number, whole, content } = next(&mut entry)?;
        if number == 1 {
            key = content.map_or_else(|| number_key(whole), <[u8]>::to_vec);
        }
    }
    Some(key)
}

fn number_key(mut field: &[u8]) -> Vec<u8> {
    let value = match decode_key(&mut field) {
        Ok((_, WireType::Varint)) => decode_varint(&mut field).unwrap_or_default(),
        _ => return field.to_vec(),
    };
    value.to_be_bytes().to_vec()
}

fn delimited(number: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(content.len() + 8);
    encode_key(number, WireType::LengthDelimited, &mut bytes);
    encode_varint(content.len() as u64, &mut bytes);
    bytes.extend_from_slice(content);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envoy::config::cluster::v3::Cluster;
    use crate::envoy::config::core::v3::Metadata;
    use proptest::prelude::*;
    use prost::Name;

    fn metadata(keys: &[String]) -> Metadata {
        let fields = |value: &str| {
            let kind = Some(prost_types::value::Kind::StringValue(value.into()));
            keys.iter().map(|key| (key.clone(), prost_types::Value { kind: kind.clone() })).collect()
        };
        let filter_metadata =
            keys.iter().map(|key| (key.clone(), prost_types::Struct { fields: fields(key) })).collect();
        let typed_filter_metadata = keys.iter().map(|key| (key.clone(), Any::default())).collect();
        Metadata { filter_metadata, typed_filter_metadata }
    }

    fn dynamic<M: Message + Name>(message: &M) -> DynamicMessage {
        let descriptor = crate::descriptors().get_message_by_name(&M::full_name()).expect("known");
        DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).expect("its own bytes")
    }

    proptest! {
        #[test]
        fn reflection_encodes_as_the_generated_message_does(keys in prop::collection::vec("[a-z]{1,6}", 0..12)) {
            let cluster = Cluster { name: "c".into(), metadata: Some(metadata(&keys)), ..Default::default() };
            prop_assert_eq!(encode(&dynamic(&cluster)), cluster.encode_to_vec());
        }

        #[test]
        fn maps_in_wrapped_messages_have_one_order(keys in prop::collection::vec("[a-z]{1,6}", 0..12)) {
            let typed = crate::pack(&metadata(&keys));
            let shuffled = Any { value: dynamic(&metadata(&keys)).encode_to_vec(), ..typed.clone() };
            prop_assert_eq!(encode(&dynamic(&shuffled)), typed.encode_to_vec());
        }

        #[test]
        fn ordering_does_not_change_the_meaning(
            first in prop::collection::vec("[a-c]{0,2}", 0..6), second in prop::collection::vec("[a-c]{0,2}", 0..6),
            damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        ) {
            // One after the other is a valid message too, in which keys are there twice.
            let mut value = [metadata(&first).encode_to_vec(), metadata(&second).encode_to_vec()].concat();
            if let (Some((at, with)), false) = (damage, value.is_empty()) {
                let at = at.index(value.len());
                value[at] = with;
            }
            let wrapped = Any { type_url: Metadata::type_url(), value };
            let again = Any::decode(encode(&dynamic(&wrapped)).as_slice()).expect("an Any");
            let read = |any: &Any| Metadata::decode(any.value.as_slice()).ok().map(|m| m.encode_to_vec());
            prop_assert_eq!(read(&again), read(&wrapped));
        }
    }
}
