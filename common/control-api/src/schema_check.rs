//! Whether a document has the shape its kind's schema describes: types, alternatives, required fields and
//! ranges, in the words of the peer's schema validator. What the values mean is checked elsewhere.

use model::{Kind, Violations};
use serde_json::{Map, Value, json};

use crate::body::shape;

/// Steps from a schema to the one it stands for: an optional's branch, a reference, and one to be safe.
const MAX_REFERENCES: usize = 4;

/// Everything in a document of a JSON kind that its schema forbids, ordered by message.
pub(crate) fn check(kind: Kind, object: &Map<String, Value>) -> Violations {
    let mut problems = Vec::new();
    let meta = json!({"properties": {
        "type": {"type": "string", "enum": [kind.name]},
        "mesh": {"type": "string"},
        "name": {"type": "string"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "spec": {"type": "object"},
    }});
    let document = Value::Object(object.clone());
    walk(&meta, &meta, "", &document, &mut problems);
    if let Some(spec) = object.get("spec") {
        if let Some(typed) = kind.json() {
            let schema = (typed.schema)().to_value();
            walk(&schema, &schema, "spec", spec, &mut problems);
        }
        if kind.policy.is_some() {
            let schema = top_target_ref();
            walk(&schema, &schema, "spec", spec, &mut problems);
        }
    }
    problems.sort();
    problems.dedup();
    let mut violations = Violations::default();
    for problem in problems {
        match problem.split_once(' ') {
            Some((field, rest)) if field.starts_with("spec.") => violations.add(field, rest),
            _ => violations.add("", problem),
        }
    }
    violations
}

/// What a policy is attached to: the same for all of them.
fn top_target_ref() -> Value {
    json!({"properties": {"targetRef": {"type": "object", "properties": {
        "kind": {"type": "string", "enum": ["Mesh", "Dataplane"]},
        "sectionName": {"type": "string"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
    }}}})
}

fn walk(root: &Value, schema: &Value, path: &str, value: &Value, problems: &mut Vec<String>) {
    let schema = resolve(root, schema);
    // A field that is null counts as left out.
    if value.is_null() {
        return;
    }
    if !has_type(schema, value) {
        let wanted = types(schema).collect::<Vec<_>>().join(",");
        problems.push(format!("{path} in body must be of type {wanted}: {:?}", shape(value)));
        return;
    }
    check_alternatives(schema, path, value, problems);
    check_range(schema, path, value, problems);
    match value {
        Value::Array(items) => {
            let Some(schema) = schema.get("items") else { return };
            for (at, item) in items.iter().enumerate() {
                walk(root, schema, &format!("{path}[{at}]"), item, problems);
            }
        }
        Value::Object(fields) => check_fields(root, schema, path, fields, problems),
        _ => {}
    }
}

fn check_fields(
    root: &Value,
    schema: &Value,
    path: &str,
    fields: &Map<String, Value>,
    problems: &mut Vec<String>,
) {
    let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    for required in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
        let name = required.as_str().unwrap_or_default();
        if fields.get(name).is_none_or(Value::is_null) {
            problems.push(format!("{} in body is required", join(name)));
        }
    }
    let known = schema.get("properties").and_then(Value::as_object);
    let others = schema.get("additionalProperties").filter(|schema| schema.is_object());
    for (name, value) in fields {
        if let Some(schema) = known.and_then(|known| known.get(name)).or(others) {
            walk(root, schema, &join(name), value, problems);
        }
    }
}

fn check_alternatives(schema: &Value, path: &str, value: &Value, problems: &mut Vec<String>) {
    let listed = schema.get("enum").and_then(Value::as_array);
    let constants = || {
        let branches = schema.get("oneOf").and_then(Value::as_array)?;
        branches.iter().map(|branch| branch.get("const").cloned()).collect::<Option<Vec<_>>>()
    };
    let Some(allowed) = listed.cloned().or_else(constants) else { return };
    if !allowed.contains(value) {
        let names: Vec<_> = allowed.iter().map(|one| one.as_str().unwrap_or_default()).collect();
        problems.push(format!("{path} in body should be one of [{}]", names.join(" ")));
    }
}

fn check_range(schema: &Value, path: &str, value: &Value, problems: &mut Vec<String>) {
    let Some(number) = value.as_f64() else { return };
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    if let Some(least) = bound("minimum").filter(|least| number < *least) {
        problems.push(format!("{path} in body should be greater than or equal to {least}"));
    }
    if let Some(most) = bound("maximum").filter(|most| number > *most) {
        problems.push(format!("{path} in body should be less than or equal to {most}"));
    }
}

/// The types that a schema names, `null` apart.
fn types(schema: &Value) -> impl Iterator<Item = &str> {
    let (one, many) = match schema.get("type") {
        Some(Value::String(one)) => (Some(one.as_str()), None),
        Some(Value::Array(many)) => (None, Some(many)),
        _ => (None, None),
    };
    one.into_iter().chain(many.into_iter().flatten().filter_map(Value::as_str)).filter(|one| *one != "null")
}

fn has_type(schema: &Value, value: &Value) -> bool {
    let mut types = types(schema).peekable();
    types.peek().is_none()
        || types.any(|one| match one {
            "integer" => value.is_i64() || value.is_u64(),
            "boolean" => value.is_boolean(),
            other => shape(value) == other,
        })
}

/// Follows references and the branch of an optional that is not null.
fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let mut schema = schema;
    for _ in 0..MAX_REFERENCES {
        let next = if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            root.pointer(reference.trim_start_matches('#'))
        } else if let Some([one, other]) = schema.get("anyOf").and_then(Value::as_array).map(Vec::as_slice) {
            let is_null = |branch: &Value| branch.get("type").and_then(Value::as_str) == Some("null");
            if is_null(other) { Some(one) } else { Some(other).filter(|_| is_null(one)) }
        } else {
            None
        };
        match next {
            Some(next) => schema = next,
            None => break,
        }
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(kind: Kind, document: Value) -> Vec<String> {
        let violations = check(kind, document.as_object().unwrap());
        violations.iter().map(|one| format!("{}|{}", one.field, one.message)).collect()
    }

    #[test]
    fn shapes_are_checked_with_their_path() {
        assert_eq!(
            report(
                Kind::MESH_TRAFFIC_PERMISSION,
                json!({"type": "MeshTrafficPermission", "spec": {
                    "targetRef": {"kind": "MeshService", "sectionName": 2},
                    "rules": [{"default": {"allow": {}}}],
                }})
            ),
            [
                "spec.rules[0].default.allow|in body must be of type array: \"object\"",
                "spec.targetRef.kind|in body should be one of [Mesh Dataplane]",
                "spec.targetRef.sectionName|in body must be of type string: \"number\"",
            ]
        );
        assert_eq!(
            report(Kind::MESH_SERVICE, json!({"type": "MeshService", "spec": {"ports": [{"port": "80"}]}})),
            ["spec.ports[0].port|in body must be of type integer: \"string\""]
        );
        assert_eq!(
            report(Kind::MESH_SERVICE, json!({"spec": {"ports": [{"targetPort": 1}], "state": "Maybe"}})),
            [
                "spec.ports[0].port|in body is required",
                "spec.state|in body should be one of [Available Unavailable]"
            ]
        );
    }

    #[test]
    fn meta_is_checked_without_a_field() {
        assert_eq!(
            report(Kind::MESH_TIMEOUT, json!({"type": "Timeout", "labels": {"a": 1}, "name": 1})),
            [
                "|labels.a in body must be of type string: \"number\"",
                "|name in body must be of type string: \"number\"",
                "|type in body should be one of [MeshTimeout]",
            ]
        );
    }

    #[test]
    fn documents_of_the_peer_pass() {
        let service = json!({"type": "MeshService", "mesh": "m", "name": "a", "spec": {
            "state": "Available",
            "selector": {"dataplaneLabels": {"matchLabels": {"app": "a"}}, "dataplaneTags": {"a": "b"}},
            "ports": [{"port": 80, "targetPort": "http", "appProtocol": "http"}, {"port": 81, "targetPort": 8080}],
            "identities": [{"type": "SpiffeID", "value": "spiffe://a/b"}],
        }, "status": {}});
        assert_eq!(report(Kind::MESH_SERVICE, service), Vec::<String>::new());
    }
}
