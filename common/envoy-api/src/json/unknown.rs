//! Keeps a document printable: an `Any` that cannot be expanded stands for bytes while the rest is printed, and
//! gets its own type back afterwards.

use prost::Message;
use prost_reflect::{DynamicMessage, ReflectMessage, Value as Field};
use serde_json::Value;

/// Appended to the type URL of an `Any` that is shown as bytes. Expansion looks at what follows the last slash, so
/// the URL resolves to `BytesValue` and what is before it is kept. INVARIANT: [`hide`] also marks a URL that ends
/// with the mark already, so that [`restore`] takes away exactly what was added.
const MARK: &str = "//google.protobuf.BytesValue";

/// Messages within each other, through `Any` or not, down to which an `Any` is expanded. The decoder bounds one
/// encoding to 100 levels; this bounds encodings within encodings, and with it the stack.
const MAX_DEPTH: usize = 100;

/// Turns each `Any` that cannot be expanded, at any depth, into marked bytes. Says whether there was one.
pub(super) fn hide(message: &mut DynamicMessage) -> bool {
    hide_at(message, 0)
}

fn hide_at(message: &mut DynamicMessage, depth: usize) -> bool {
    if message.descriptor().full_name() == "google.protobuf.Any" {
        return hide_any(message, depth);
    }
    let mut hidden = false;
    for (_, field) in message.fields_mut() {
        match field {
            Field::Message(inner) => hidden |= hide_at(inner, depth + 1),
            Field::List(items) => {
                for inner in items.iter_mut().filter_map(Field::as_message_mut) {
                    hidden |= hide_at(inner, depth + 1);
                }
            }
            Field::Map(entries) => {
                for inner in entries.values_mut().filter_map(Field::as_message_mut) {
                    hidden |= hide_at(inner, depth + 1);
                }
            }
            _ => {}
        }
    }
    hidden
}

fn hide_any(message: &mut DynamicMessage, depth: usize) -> bool {
    let url = text(message, "type_url");
    let content = bytes(message, "value");
    let (url, content) = match expand(&url, &content, depth) {
        Some(mut inner) => {
            if !hide_at(&mut inner, depth + 1) {
                return false;
            }
            (url, inner.encode_to_vec())
        }
        None => (format!("{url}{MARK}"), content.encode_to_vec()),
    };
    message.set_field_by_name("type_url", Field::String(url));
    message.set_field_by_name("value", Field::Bytes(content.into()));
    true
}

fn expand(url: &str, content: &[u8], depth: usize) -> Option<DynamicMessage> {
    if depth >= MAX_DEPTH || url.ends_with(MARK) {
        return None;
    }
    let (_, name) = url.rsplit_once('/')?;
    DynamicMessage::decode(crate::descriptors().get_message_by_name(name)?, content).ok()
}

fn text(message: &DynamicMessage, field: &str) -> String {
    message.get_field_by_name(field).and_then(|field| field.as_str().map(str::to_owned)).unwrap_or_default()
}

fn bytes(message: &DynamicMessage, field: &str) -> Vec<u8> {
    message
        .get_field_by_name(field)
        .and_then(|field| field.as_bytes().map(|b| b.to_vec()))
        .unwrap_or_default()
}

/// Gives the types that [`hide`] marked back.
pub(super) fn restore(document: &mut Value) {
    match document {
        Value::Object(fields) => {
            if let Some(Value::String(url)) = fields.get_mut("@type")
                && let Some(own) = url.strip_suffix(MARK)
            {
                *url = own.to_owned();
            }
            fields.values_mut().for_each(restore);
        }
        Value::Array(items) => items.iter_mut().for_each(restore),
        _ => {}
    }
}
