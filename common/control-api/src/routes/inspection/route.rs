//! Routes of several policies together: rules with the same match become one.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::{Kind, Kri};
use policy::{Policy, merge};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::conf;

/// A rule of a route.
pub(super) struct Rule {
    /// The route that has the last word; none for routes without matches.
    kri: Option<Kri>,
    pub(super) matches: Value,
    pub(super) conf: Value,
}

impl Rule {
    /// As the answer has it.
    pub(super) fn shown(&self) -> Value {
        let kri = self.kri.as_ref().map(ToString::to_string).unwrap_or_default();
        json!({"kri": kri, "matches": self.matches, "conf": conf::shown(&self.conf)})
    }
}

/// The `to` items at positions of policies.
pub(super) fn items(positions: &[(Arc<Policy>, usize)]) -> Vec<(&Policy, &Value)> {
    let items = positions.iter().map(|(policy, index)| (&**policy, policy.items("to").nth(*index)));
    items.filter_map(|(policy, item)| Some((policy, item?))).collect()
}

/// The rules of `to` items given in merge order. The routes with the last word come first, each with its rules
/// in order.
pub(super) fn rules(kind: Kind, items: &[(&Policy, &Value)]) -> Vec<Rule> {
    // Several items of one route stay in their order, so that its first match stays first.
    let mut rules: Vec<Rule> = Vec::new();
    let mut grouped: Vec<(&Kri, Vec<&Value>)> = Vec::new();
    for (policy, item) in items {
        match grouped.iter_mut().find(|(kri, _)| *kri == &policy.kri) {
            Some((_, items)) => items.push(item),
            None => grouped.push((&policy.kri, vec![item])),
        }
    }
    for (kri, items) in grouped.into_iter().rev() {
        for rule in items.into_iter().flat_map(|item| item.get("rules").and_then(Value::as_array)).flatten() {
            add(&mut rules, kind, kri, rule);
        }
    }
    rules
}

/// Adds a rule that has less to say than those that are there.
fn add(rules: &mut Vec<Rule>, kind: Kind, kri: &Kri, rule: &Value) {
    let http = kind == Kind::MESH_HTTP_ROUTE;
    let matches = if http { rule.get("matches").cloned().unwrap_or(Value::Null) } else { Value::Null };
    let weaker = rule.get("default").cloned().unwrap_or(Value::Null);
    match rules.iter_mut().find(|held| held.matches == matches) {
        Some(held) => {
            let mut conf = weaker;
            merge(&mut conf, &held.conf);
            held.conf = conf;
        }
        None => rules.push(Rule { kri: http.then(|| kri.clone()), matches, conf: weaker }),
    }
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
