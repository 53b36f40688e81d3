//! Questions about a document that parsing does not answer.

use model::Kind;
use model::rest::parse_as;
use model::schema::{UnknownField, nearest};
use serde_json::{Map, Value};

/// Keys that documents of JSON kinds have.
const KEYS: [&str; 10] =
    ["type", "mesh", "name", "labels", "creationTime", "modificationTime", "kri", "snis", "spec", "status"];

/// Top-level keys of a JSON kind's document that nobody knows. Kinds whose spec is at the top are looked at
/// as a whole elsewhere.
pub(crate) fn unknown_keys(kind: Kind, object: &Map<String, Value>) -> Vec<UnknownField> {
    if !kind.is_json() {
        return Vec::new();
    }
    let unknown = object.keys().filter(|key| !KEYS.contains(&key.as_str()));
    unknown
        .map(|key| UnknownField { path: key.clone(), nearest: nearest(key, KEYS).map(str::to_owned) })
        .collect()
}

/// How often a document is read to find the place of an error: enough for a page of YAML, and no burden when
/// somebody sends a large one.
const MAX_READINGS: usize = 200;
/// Largest document (as text) in which a place is looked for.
const MAX_SEARCHED: usize = 64 << 10;

/// The path of the value that keeps a document from being read: the one without which it can be. Empty, or
/// `spec`, when there are several or none.
pub(crate) fn place_of_error(kind: Kind, object: &Map<String, Value>) -> String {
    let document = Value::Object(object.clone());
    let mut readings = if document.to_string().len() > MAX_SEARCHED { 0 } else { MAX_READINGS };
    let mut readable = |document: &Value| {
        readings = readings.saturating_sub(1);
        readings > 0 && document.as_object().is_some_and(|object| parse_as(kind, object).is_ok())
    };
    let mut path: Vec<Step> = Vec::new();
    while let Some(step) = steps(at(&document, &path)).find(|step| {
        let mut without = document.clone();
        remove(&mut without, &path, step) && readable(&without)
    }) {
        path.push(step);
    }
    if path.is_empty() && kind.is_json() { "spec".into() } else { text(&path) }
}

#[derive(Clone, Debug)]
enum Step {
    Field(String),
    Item(usize),
}

fn text(path: &[Step]) -> String {
    path.iter().fold(String::new(), |text, step| match step {
        Step::Field(name) if text.is_empty() => name.clone(),
        Step::Field(name) => format!("{text}.{name}"),
        Step::Item(at) => format!("{text}[{at}]"),
    })
}

fn at<'a>(document: &'a Value, path: &[Step]) -> &'a Value {
    path.iter().fold(document, |value, step| {
        let next = match step {
            Step::Field(name) => value.get(name),
            Step::Item(at) => value.get(at),
        };
        next.unwrap_or(&Value::Null)
    })
}

fn steps(value: &Value) -> Box<dyn Iterator<Item = Step> + '_> {
    match value {
        Value::Object(fields) => Box::new(fields.keys().cloned().map(Step::Field)),
        Value::Array(items) => Box::new((0..items.len()).map(Step::Item)),
        _ => Box::new(std::iter::empty()),
    }
}

fn remove(document: &mut Value, path: &[Step], last: &Step) -> bool {
    let parent = path.iter().try_fold(document, |value, step| match step {
        Step::Field(name) => value.get_mut(name),
        Step::Item(at) => value.get_mut(at),
    });
    match (parent, last) {
        (Some(Value::Object(fields)), Step::Field(name)) => fields.remove(name).is_some(),
        (Some(Value::Array(items)), Step::Item(at)) if *at < items.len() => {
            items.remove(*at);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_place_of_an_error_is_found() {
        let place = |kind: Kind, document: Value| place_of_error(kind, document.as_object().unwrap());
        let document = json!({"type": "Dataplane", "networking": {
            "address": "127.0.0.1", "inbound": [{"port": 80}, {"port": "many"}],
        }});
        assert_eq!(place(Kind::DATAPLANE, document), "networking.inbound[1].port");
        let two = json!({"networking": {"address": 1, "inbound": 2}});
        assert_eq!(place(Kind::DATAPLANE, two), "networking");
    }

    #[test]
    fn misspelt_keys_are_named() {
        let document = json!({"type": "MeshTimeout", "specs": {}});
        let unknown = unknown_keys(Kind::MESH_TIMEOUT, document.as_object().unwrap());
        let text: Vec<_> = unknown.iter().map(ToString::to_string).collect();
        assert_eq!(text, [r#"unknown field "specs" is ignored; did you mean "spec"?"#]);
    }
}
