//! Routes as these answers show them.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::Kind;
use policy::{Policy, RoutedRule};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::conf;

/// A rule as the answer has it. Rules of routes without matches are of all of them, and of none.
pub(super) fn shown(kind: Kind, rule: &RoutedRule) -> Value {
    let named = kind == Kind::MESH_HTTP_ROUTE;
    let kri = if named { rule.route.kri.to_string() } else { String::new() };
    json!({"kri": kri, "matches": rule.matches, "conf": conf::shown(&rule.conf)})
}

/// The `to` items at positions of policies.
pub(super) fn items(positions: &[(Arc<Policy>, usize)]) -> impl Iterator<Item = (&Policy, &Value)> {
    let items = positions.iter().map(|(policy, index)| (&**policy, policy.items("to").nth(*index)));
    items.filter_map(|(policy, item)| Some((policy, item?)))
}

/// The name of a match in statistics and identifiers: a hash over its JSON, keys in the peer's order.
pub(super) fn hash(matches: &Value) -> String {
    STANDARD.encode(Sha256::digest(canonical(matches)))
}

fn canonical(matches: &Value) -> String {
    let items = matches.as_array().map(Vec::as_slice).unwrap_or_default();
    let items: Vec<_> =
        items.iter().map(|item| in_order(item, &["path", "method", "queryParams", "headers"])).collect();
    format!("[{}]", items.join(","))
}

fn in_order(value: &Value, keys: &[&str]) -> String {
    let empty = Map::new();
    let fields = value.as_object().unwrap_or(&empty);
    let fields: Vec<_> = keys
        .iter()
        .filter_map(|key| Some((key, fields.get(*key)?)))
        .map(|(key, value)| {
            let text = match *key {
                "path" => in_order(value, &["value", "type"]),
                "queryParams" | "headers" => {
                    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
                    let items: Vec<_> =
                        items.iter().map(|item| in_order(item, &["type", "name", "value"])).collect();
                    format!("[{}]", items.join(","))
                }
                _ => value.to_string(),
            };
            format!("\"{key}\":{text}")
        })
        .collect();
    format!("{{{}}}", fields.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_has_the_peers_hash() {
        let matches = json!([{"path": {"type": "Exact", "value": "/"}}]);
        assert_eq!(hash(&matches), "JNNc6//C3P17nUsOJm5f4kqG+U3v8pXhS0od9C3+oss=");
    }

    #[test]
    fn method_and_headers_have_their_place() {
        let matches = json!([{"headers": [{"name": "a", "value": "b", "type": "Exact"}], "method": "GET"}]);
        assert_eq!(
            canonical(&matches),
            r#"[{"method":"GET","headers":[{"type":"Exact","name":"a","value":"b"}]}]"#
        );
    }
}
