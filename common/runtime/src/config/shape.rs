//! The known keys: paths, their environment variables, and the nearest one to a misspelt name.

use serde_json::Value;

use super::ENV_PREFIX;

/// Less similar than this is no help: `jaro_winkler` of unrelated words of equal length is about 0.5.
const SIMILAR: f64 = 0.75;

/// `a` and `b` as `a.b`; the root has an empty path.
pub(super) fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

/// Every key that is not a section, with its value. An empty map is a key.
pub(super) fn leaves<'a>(tree: &'a Value, path: &str, out: &mut Vec<(String, &'a Value)>) {
    match tree {
        Value::Object(section) if !section.is_empty() => {
            for (key, value) in section {
                leaves(value, &join(path, key), out);
            }
        }
        _ => out.push((path.to_owned(), tree)),
    }
}

/// The value at a dotted path.
pub(super) fn get<'a>(tree: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(tree, |node, key| node.get(key))
}

/// Sets the value at a dotted path, making sections on the way.
pub(super) fn set(tree: &mut Value, path: &str, value: Value) {
    let mut node = tree;
    for key in path.split('.') {
        if !node.is_object() {
            *node = Value::Object(serde_json::Map::new());
        }
        let Value::Object(section) = node else { return };
        node = section.entry(key).or_insert(Value::Null);
    }
    *node = value;
}

/// `kds.zoneAuth` as `ISTHMUS_KDS_ZONE_AUTH`.
pub(super) fn variable(path: &str) -> String {
    let mut name = String::from(ENV_PREFIX);
    let mut after_lower = false;
    for c in path.chars() {
        if c == '.' {
            name.push('_');
        } else {
            if c.is_ascii_uppercase() && after_lower {
                name.push('_');
            }
            name.push(c.to_ascii_uppercase());
        }
        after_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
    }
    name
}

/// The candidate most similar to a name, if any is similar at all. Case does not count.
pub(super) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a String>) -> Option<&'a String> {
    let name = name.to_ascii_lowercase();
    candidates
        .map(|candidate| (strsim::jaro_winkler(&name, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(score, _)| *score >= SIMILAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
