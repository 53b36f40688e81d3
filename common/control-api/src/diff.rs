//! The difference of two documents as JSON patch operations (RFC 6902). A changed value is tested, removed and
//! added, never replaced: so the patch can be read backwards, and callers of the peer expect it.

use serde_json::{Value, json};

/// The operations that make `after` of `before`.
pub(crate) fn operations(before: &Value, after: &Value) -> Vec<Value> {
    let mut operations = Vec::new();
    walk("", before, after, &mut operations);
    operations
}

fn walk(path: &str, before: &Value, after: &Value, operations: &mut Vec<Value>) {
    if before == after {
        return;
    }
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in old {
                let path = format!("{path}/{}", escape(key));
                match new.get(key) {
                    Some(kept) => walk(&path, value, kept, operations),
                    None => remove(&path, value, operations),
                }
            }
            for (key, value) in new.iter().filter(|(key, _)| !old.contains_key(*key)) {
                add(&format!("{path}/{}", escape(key)), value, operations);
            }
        }
        (Value::Array(old), Value::Array(new)) => walk_items(path, old, new, operations),
        _ => {
            remove(path, before, operations);
            add(path, after, operations);
        }
    }
}

/// What both lists begin and end with stays; what is between is compared one by one.
fn walk_items(path: &str, old: &[Value], new: &[Value], operations: &mut Vec<Value>) {
    let same = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old_rest, new_rest) = (old.get(same..).unwrap_or_default(), new.get(same..).unwrap_or_default());
    let tail = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(a, b)| a == b).count();
    let old_mid = old_rest.get(..old_rest.len() - tail).unwrap_or_default();
    let new_mid = new_rest.get(..new_rest.len() - tail).unwrap_or_default();
    let both = old_mid.len().min(new_mid.len());
    for (at, (a, b)) in old_mid.iter().zip(new_mid).enumerate() {
        walk(&format!("{path}/{}", same + at), a, b, operations);
    }
    // From the end, so that positions stay true.
    for (at, value) in old_mid.iter().enumerate().skip(both).rev() {
        remove(&format!("{path}/{}", same + at), value, operations);
    }
    for (at, value) in new_mid.iter().enumerate().skip(both) {
        add(&format!("{path}/{}", same + at), value, operations);
    }
}

fn remove(path: &str, value: &Value, operations: &mut Vec<Value>) {
    operations.push(json!({"op": "test", "path": path, "value": value}));
    operations.push(json!({"op": "remove", "path": path}));
}

fn add(path: &str, value: &Value, operations: &mut Vec<Value>) {
    operations.push(json!({"op": "add", "path": path, "value": value}));
}

fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Applies a patch, as far as it consists of what `operations` writes.
    fn apply(document: &mut Value, operations: &[Value]) {
        for operation in operations {
            let text = |key: &str| operation[key].as_str().unwrap_or_default().to_owned();
            let (parent, last) =
                text("path").rsplit_once('/').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
            let key = last.replace("~1", "/").replace("~0", "~");
            match (text("op").as_str(), document.pointer_mut(&parent).unwrap()) {
                ("test", parent) => match parent {
                    Value::Array(items) => {
                        assert_eq!(items[key.parse::<usize>().unwrap()], operation["value"])
                    }
                    parent => assert_eq!(parent[&key], operation["value"]),
                },
                ("remove", Value::Object(fields)) => drop(fields.remove(&key)),
                ("remove", Value::Array(items)) => drop(items.remove(key.parse().unwrap())),
                ("add", Value::Object(fields)) => drop(fields.insert(key, operation["value"].clone())),
                ("add", Value::Array(items)) => {
                    items.insert(key.parse().unwrap(), operation["value"].clone())
                }
                (op, _) => panic!("{op}"),
            }
        }
    }

    #[test]
    fn a_difference_leads_to_its_target() {
        for (before, after) in [
            (json!({"a": 1, "b": {"c": [1, 2, 3]}}), json!({"a": 2, "b": {"c": [1, 3]}, "d/e~": {}})),
            (json!({"a": [1, 2, 3, 4]}), json!({"a": [4]})),
            (json!({"a": []}), json!({"a": [{"x": 1}, {"y": 2}]})),
            (json!({"a": [{"x": 1}, {"y": 2}]}), json!({"a": [{"x": 2}, {"z": 1}, {"y": 2}]})),
            (json!({"a": {"b": 1}}), json!({})),
        ] {
            let operations = operations(&before, &after);
            let mut patched = before.clone();
            apply(&mut patched, &operations);
            assert_eq!(patched, after, "{operations:?}");
        }
    }

    #[test]
    fn a_changed_value_is_tested_removed_and_added() {
        let operations = operations(&json!({"t/x": {"n": 1}}), &json!({"t/x": {"n": 2}}));
        assert_eq!(
            operations,
            [
                json!({"op": "test", "path": "/t~1x/n", "value": 1}),
                json!({"op": "remove", "path": "/t~1x/n"}),
                json!({"op": "add", "path": "/t~1x/n", "value": 2}),
            ]
        );
    }
}
