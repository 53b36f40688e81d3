//! Defaults that appear in the documents of kinds held as JSON: the peer writes them when it reads a
//! document, so readers of the API expect to find them.

use serde_json::{Value, json};

use crate::Kind;

/// Kind, path in the spec (`[]` is every item of a list) and the value that is missing.
type Row = (&'static str, &'static str, fn() -> Value);

static ROWS: [Row; 8] = [
    ("MeshAccessLog", "rules[].default.backends[].file.format.omitEmptyValues", || json!(false)),
    ("MeshAccessLog", "rules[].default.backends[].tcp.format.omitEmptyValues", || json!(false)),
    ("MeshAccessLog", "to[].default.backends[].file.format.omitEmptyValues", || json!(false)),
    ("MeshAccessLog", "to[].default.backends[].tcp.format.omitEmptyValues", || json!(false)),
    ("MeshTrace", "default.backends[].datadog.splitService", || json!(false)),
    ("MeshTrace", "default.backends[].zipkin.apiVersion", || json!("httpJson")),
    ("MeshTrace", "default.backends[].zipkin.sharedSpanContext", || json!(true)),
    ("MeshTrace", "default.backends[].zipkin.traceId128bit", || json!(false)),
];

/// Fills in what a spec leaves out. Only objects that are there get their defaults.
pub(crate) fn fill(kind: Kind, spec: &mut Value) {
    for (of, path, default) in &ROWS {
        if *of == kind.name {
            set(spec, path, *default);
        }
    }
}

fn set(value: &mut Value, path: &str, default: fn() -> Value) {
    let Some(object) = value.as_object_mut() else { return };
    let Some((head, rest)) = path.split_once('.') else {
        object.entry(path).or_insert_with(default);
        return;
    };
    match head.strip_suffix("[]") {
        Some(list) => {
            for item in object.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                set(item, rest, default);
            }
        }
        None => {
            if let Some(next) = object.get_mut(head) {
                set(next, rest, default);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_in_what_is_there_is_filled() {
        let mut spec = json!({"to": [
            {"default": {"backends": [{"file": {"format": {"type": "Plain"}}}, {"tcp": {}}]}},
            {"default": {"backends": [{"file": {"format": {"omitEmptyValues": true}}}]}},
        ]});
        fill(Kind::MESH_ACCESS_LOG, &mut spec);
        assert_eq!(
            spec,
            json!({"to": [
                {"default": {"backends": [
                    {"file": {"format": {"type": "Plain", "omitEmptyValues": false}}},
                    {"tcp": {}},
                ]}},
                {"default": {"backends": [{"file": {"format": {"omitEmptyValues": true}}}]}},
            ]})
        );
    }

    #[test]
    fn every_row_names_a_kind() {
        for (kind, path, _) in &ROWS {
            assert!(Kind::by_name(kind).is_some(), "{kind}.{path}");
        }
    }
}
