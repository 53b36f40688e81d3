//! Merging configurations: JSON merge patch (RFC 7396), except that lists whose name starts with `append` add up.

use serde_json::{Map, Value};

/// Fields with this prefix hold lists to which later policies add.
const APPEND: &str = "append";

/// Applies `patch` to `target`.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (name, value) in patch {
        match value {
            Value::Null => {
                fields.remove(name);
            }
            Value::Array(added) if name.starts_with(APPEND) => append(fields, name, added),
            _ => merge(fields.entry(name.clone()).or_insert(Value::Null), value),
        }
    }
}

fn append(fields: &mut Map<String, Value>, name: &str, added: &[Value]) {
    match fields.get_mut(name) {
        Some(Value::Array(held)) => held.extend_from_slice(added),
        _ => {
            fields.insert(name.to_owned(), Value::Array(added.to_vec()));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn merged(mut target: Value, patch: &Value) -> Value {
        merge(&mut target, patch);
        target
    }

    #[test]
    fn follows_the_examples_of_the_rfc() {
        for (target, patch, want) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            assert_eq!(merged(target, &patch), want, "{patch}");
        }
    }

    #[test]
    fn lists_named_append_add_up() {
        let first = json!({"appendMatch": [1], "other": [1]});
        let second = json!({"appendMatch": [2], "other": [2]});
        assert_eq!(merged(first, &second), json!({"appendMatch": [1, 2], "other": [2]}));
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<bool>().prop_map(Value::from), any::<u8>().prop_map(Value::from)];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[a-c]", inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn merging_twice_is_merging_once(target in document(), patch in document()) {
            let once = merged(target, &patch);
            prop_assert_eq!(merged(once.clone(), &patch), once);
        }

        #[test]
        fn anything_merged_into_nothing_is_itself(patch in document()) {
            prop_assert_eq!(merged(Value::Null, &patch), patch);
        }
    }
}
