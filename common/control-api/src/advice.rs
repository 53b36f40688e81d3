//! Warnings about documents that are valid and yet hardly what their author wants. They travel in the answer's
//! body, where the peer's clients print them.

use model::Kind;
use serde_json::Value;

/// Statuses below this number are no errors.
const FIRST_ERROR_STATUS: u64 = 400;

/// What to tell the author of a spec.
pub(crate) fn warnings(kind: Kind, spec: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    if kind == Kind::MESH_SERVICE && !has_selector(spec) {
        warnings
            .push("spec.selector: without dataplaneRef or dataplaneLabels no proxy serves this".to_owned());
    }
    if kind == Kind::MESH_SERVICE || kind == Kind::MESH_MULTI_ZONE_SERVICE {
        for (at, port) in spec.get("ports").and_then(Value::as_array).into_iter().flatten().enumerate() {
            if port.get("name").and_then(Value::as_str).is_some_and(|name| name.contains('.')) {
                warnings.push(format!(
                    "spec.ports[{at}].name: with a dot in its name the port cannot be reached from other zones"
                ));
            }
        }
    }
    if kind == Kind::MESH_RATE_LIMIT {
        for list in ["to", "rules"] {
            for (at, item) in spec.get(list).and_then(Value::as_array).into_iter().flatten().enumerate() {
                let status = item.pointer("/default/local/http/onRateLimit/status").and_then(Value::as_u64);
                if status.is_some_and(|status| status < FIRST_ERROR_STATUS) {
                    warnings.push(format!(
                        "spec.{list}[{at}].default.local.http.onRateLimit.status: a status below 400 tells the client that all is well"
                    ));
                }
            }
        }
    }
    warnings
}

fn has_selector(spec: &Value) -> bool {
    ["dataplaneRef", "dataplaneLabels"]
        .iter()
        .any(|field| spec.pointer(&format!("/selector/{field}")).is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_cannot_be_meant_is_told() {
        let fields = |kind: Kind, spec: Value| -> Vec<String> {
            let warnings = warnings(kind, &spec);
            warnings.iter().map(|text| text.split(':').next().unwrap_or_default().to_owned()).collect()
        };
        let service = json!({"selector": {}, "ports": [{"name": "a"}, {"name": "a.b"}]});
        assert_eq!(fields(Kind::MESH_SERVICE, service), ["spec.selector", "spec.ports[1].name"]);
        let good = json!({"selector": {"dataplaneLabels": {"matchLabels": {}}}, "ports": [{"port": 1}]});
        assert!(fields(Kind::MESH_SERVICE, good).is_empty());
        let limit = json!({"rules": [{"default": {"local": {"http": {"onRateLimit": {"status": 200}}}}}]});
        let want = ["spec.rules[0].default.local.http.onRateLimit.status"];
        assert_eq!(fields(Kind::MESH_RATE_LIMIT, limit), want);
        assert!(fields(Kind::MESH_TIMEOUT, json!({})).is_empty());
    }
}
