//! `/openapi.json`: the description of the API (OpenAPI 3.1), made of the table of paths and the table of kinds,
//! and a page that shows it.

use std::sync::LazyLock;

use axum::http::HeaderValue;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use model::{Kind, schema};
use serde_json::{Map, Value, json};

use crate::endpoint::{Content, Endpoint, Operation};
use crate::json;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| describe(&super::endpoints()));

/// GET of the description.
pub(super) async fn document() -> Response {
    json::ok(&*DOCUMENT)
}

/// GET of the page that shows it.
pub(super) async fn page() -> Response {
    let mut response = include_str!("openapi.html").into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    let policy =
        "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'";
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    response
}

fn describe(endpoints: &[Endpoint]) -> Value {
    let mut paths = Map::new();
    for endpoint in endpoints {
        for (path, kind) in expand(endpoint) {
            let entry = paths.entry(path.clone()).or_insert_with(|| json!({}));
            for operation in endpoint.operations.iter().filter(|one| is_served(one, kind)) {
                if let Some(methods) = entry.as_object_mut() {
                    methods.entry(operation.method).or_insert_with(|| describe_one(&path, kind, operation));
                }
            }
        }
    }
    paths.retain(|_, methods| methods.as_object().is_some_and(|methods| !methods.is_empty()));
    let mut schemas = Map::new();
    for kind in Kind::all().filter(|kind| kind.path.is_some()) {
        add_schemas(kind, &mut schemas);
    }
    schemas.insert("Error".into(), error_schema());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Isthmus",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The API of a control plane, global or of a zone. Names and shapes are those of Kuma 3.0; \
                paths that begin with an underscore and are unknown there are additions.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description":
                "A user token. Callers on the host of the control plane need none unless that is switched off."}},
            "responses": {"Error": {"description": "What is wrong, field by field where it is about fields.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}},
            "schemas": schemas,
        },
    })
}

/// The paths that an endpoint serves, with the kind that each is about.
fn expand(endpoint: &Endpoint) -> Vec<(String, Option<Kind>)> {
    if !endpoint.path.contains("{path}") {
        let kind = endpoint.path.split('/').filter(|segment| *segment != "meshes").find_map(kind_of);
        return vec![(endpoint.path.clone(), kind)];
    }
    let kinds = Kind::all().filter(|kind| (endpoint.kinds)(*kind));
    kinds.map(|kind| (endpoint.path.replace("{path}", kind.path.unwrap_or_default()), Some(kind))).collect()
}

fn kind_of(segment: &str) -> Option<Kind> {
    Kind::by_path(segment.trim_end_matches("+insights"))
}

fn is_served(operation: &Operation, kind: Option<Kind>) -> bool {
    !(operation.writes && kind.is_some_and(|kind| kind.read_only))
}

fn describe_one(path: &str, kind: Option<Kind>, operation: &Operation) -> Value {
    let in_path = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<_> = in_path
        .map(|name| json!({"in": "path", "name": name, "required": true, "schema": {"type": "string"}}))
        .collect();
    parameters.extend(operation.query.iter().map(|parameter| {
        json!({"in": "query", "name": parameter.name, "description": parameter.about,
            "schema": {"type": parameter.shape}})
    }));
    let mut told = json!({
        "operationId": operation_id(path, kind, operation),
        "summary": operation.summary,
        "tags": [kind.map_or("Control plane", |kind| kind.info().name)],
        "parameters": parameters,
        "responses": {
            "200": {"description": "Success", "content": content(operation.answers, kind)},
            "default": {"$ref": "#/components/responses/Error"},
        },
    });
    if operation.method == "put" {
        told["responses"]["201"] =
            json!({"description": "Created", "content": content(operation.answers, kind)});
    }
    if operation.takes != Content::None {
        told["requestBody"] = json!({"required": true, "content": content(operation.takes, kind)});
    }
    if operation.deprecated {
        told["deprecated"] = true.into();
    }
    told
}

fn content(content: Content, kind: Option<Kind>) -> Value {
    let resource = || match kind {
        Some(kind) => json!({"$ref": format!("#/components/schemas/{}Item", kind.name)}),
        None => json!({"type": "object"}),
    };
    let schema = match content {
        Content::None => return json!({}),
        Content::Resource => resource(),
        Content::Page => json!({"type": "object", "required": ["total", "items", "next"], "properties": {
            "total": {"type": "integer", "description": "Resources that the filters select, on all pages."},
            "items": {"type": "array", "items": resource()},
            "next": {"type": ["string", "null"], "description": "URL of the next page."},
        }}),
        Content::Events => json!({"type": "object", "required": ["type"], "properties": {
            "type": {"type": "string", "enum": ["ADDED", "MODIFIED", "DELETED", "SYNCED"]},
            "object": resource(),
        }}),
        Content::Object => json!({"type": "object"}),
        Content::Text | Content::TextOrJson | Content::Html => json!({"type": "string"}),
    };
    let media = content.media().iter().map(|media| ((*media).to_owned(), json!({"schema": schema})));
    Value::Object(media.collect())
}

/// A name for an operation that generated clients call it by: `getMeshTimeout`, `getMeshTimeoutList`.
fn operation_id(path: &str, kind: Option<Kind>, operation: &Operation) -> String {
    let mut id = operation.method.to_owned();
    let Some(kind) = kind else {
        let words = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        let before = id.len();
        words.for_each(|word| id.push_str(&capitalised(word)));
        return if id.len() == before { id + "Index" } else { id };
    };
    id.push_str(kind.name);
    let at = path
        .split('/')
        .position(|segment| Kind::by_path(segment.trim_end_matches("+insights")) == Some(kind));
    let rest: Vec<_> = path.split('/').skip(at.map_or(0, |at| at + 1)).collect();
    let names_one = rest.first().is_some_and(|segment| segment.starts_with('{'));
    if !names_one {
        id.push_str("List");
    }
    for segment in rest.iter().skip(usize::from(names_one)) {
        let words = segment.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        words.for_each(|word| id.push_str(&capitalised(word)));
    }
    if operation.deprecated {
        id.push_str("Older");
    }
    if kind.is_mesh_scoped() && !path.starts_with("/meshes/{mesh}") {
        id.push_str("OfAllMeshes");
    }
    id
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

/// Adds the schema of a kind, and its shared parts under names of their own.
fn add_schemas(kind: Kind, schemas: &mut Map<String, Value>) {
    let mut document = schema::document_schema(kind);
    let parts = document.as_object_mut().and_then(|document| document.remove("$defs"));
    let prefix = format!("#/components/schemas/{}.", kind.name);
    if let Some(Value::Object(parts)) = parts {
        for (name, mut part) in parts {
            move_references(&mut part, &prefix);
            schemas.insert(format!("{}.{name}", kind.name), part);
        }
    }
    move_references(&mut document, &prefix);
    schemas.insert(format!("{}Item", kind.name), document);
}

fn move_references(schema: &mut Value, prefix: &str) {
    match schema {
        Value::Object(fields) => {
            fields.remove("$schema");
            for (name, value) in fields.iter_mut() {
                match value {
                    Value::String(target) if name == "$ref" => {
                        *target = target.replacen("#/$defs/", prefix, 1);
                    }
                    other => move_references(other, prefix),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| move_references(item, prefix)),
        _ => {}
    }
}

fn error_schema() -> Value {
    json!({"type": "object", "required": ["type", "status", "title", "detail"], "properties": {
        "type": {"type": "string"},
        "status": {"type": "integer", "description": "The status of the answer."},
        "title": {"type": "string", "description": "What could not be done."},
        "detail": {"type": "string", "description": "Why."},
        "instance": {"type": "string", "description": "Trace id of the request."},
        "invalid_parameters": {"type": "array", "items": {"type": "object", "required": ["field", "reason"],
            "properties": {"field": {"type": "string"}, "reason": {"type": "string"}}}},
    }})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn operations() -> Vec<(&'static str, &'static str, &'static Value)> {
        let paths = DOCUMENT["paths"].as_object().unwrap();
        let of_path = |(path, methods): (&'static String, &'static Value)| {
            let methods = methods.as_object().unwrap();
            methods.iter().map(move |(method, one)| (path.as_str(), method.as_str(), one)).collect::<Vec<_>>()
        };
        paths.iter().flat_map(of_path).collect()
    }

    #[test]
    fn operations_have_names_of_their_own() {
        let mut seen = BTreeSet::new();
        for (path, method, operation) in operations() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(seen.insert(id), "{method} {path}: {id}");
        }
        for id in ["getMeshTimeout", "putMeshTimeout", "deleteMeshTimeout", "getMeshTimeoutList", "getIndex"]
        {
            assert!(seen.contains(id), "{id}");
        }
    }

    #[test]
    fn every_kind_is_described_by_its_own_schema() {
        for kind in Kind::all() {
            let Some(path) = kind.path else { continue };
            let one = match kind.scope {
                model::Scope::Global => format!("/{path}/{{name}}"),
                model::Scope::Mesh => format!("/meshes/{{mesh}}/{path}/{{name}}"),
            };
            let operation = &DOCUMENT["paths"][&one];
            let schema =
                &operation["get"]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"];
            assert_eq!(schema, &json!(format!("#/components/schemas/{}Item", kind.name)), "{one}");
            assert_eq!(operation["put"].is_object(), !kind.read_only, "{one}");
        }
    }

    #[test]
    fn references_end_somewhere() {
        fn check(value: &Value) {
            match value {
                Value::Object(fields) => {
                    if let Some(target) = fields.get("$ref").and_then(Value::as_str) {
                        assert!(DOCUMENT.pointer(target.trim_start_matches('#')).is_some(), "{target}");
                    }
                    fields.values().for_each(check);
                }
                Value::Array(items) => items.iter().for_each(check),
                _ => {}
            }
        }
        check(&DOCUMENT);
    }
}
