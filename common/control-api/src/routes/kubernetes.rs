//! A resource as a Kubernetes object, for people who move to or from a Kubernetes zone.

use axum::response::{IntoResponse, Response};
use model::{Kind, Resource, labels};
use serde_json::{Map, Value, json};

use crate::json;
use crate::problem::Problem;

/// Namespace of what has none of its own: where the peer is installed by default.
const SYSTEM_NAMESPACE: &str = "kuma-system";

/// Kinds without a namespace on Kubernetes.
const CLUSTER_SCOPED: [Kind; 5] =
    [Kind::MESH, Kind::MESH_INSIGHT, Kind::ZONE, Kind::ZONE_INSIGHT, Kind::SERVICE_INSIGHT];

/// The answer with a resource as a Kubernetes object, in the namespace given or the system's.
pub(super) fn document(resource: &Resource, namespace: Option<&str>) -> Response {
    match object(resource, namespace) {
        Ok(object) => json::ok(&object),
        Err(problem) => problem.into_response(),
    }
}

fn object(resource: &Resource, namespace: Option<&str>) -> Result<Value, Problem> {
    let kind = resource.kind();
    let spec = resource.raw_spec().to_json(kind.format).map_err(|error| Problem::undecodable(&error))?;
    let mut metadata = Map::from_iter([("name".to_owned(), json!(resource.name()))]);
    if !CLUSTER_SCOPED.contains(&kind) {
        metadata.insert("namespace".into(), json!(namespace.unwrap_or(SYSTEM_NAMESPACE)));
    }
    metadata.insert("creationTimestamp".into(), Value::Null);
    if kind == Kind::SECRET || kind == Kind::GLOBAL_SECRET {
        return Ok(secret(resource, metadata, &spec));
    }
    let mut object = Map::from_iter([
        ("apiVersion".to_owned(), json!("kuma.io/v1alpha1")),
        ("kind".to_owned(), json!(kind.name)),
    ]);
    if kind.is_mesh_scoped() {
        if kind.is_json() {
            metadata.insert("labels".into(), json!({labels::MESH: resource.mesh()}));
        } else {
            object.insert("mesh".into(), json!(resource.mesh()));
        }
    }
    object.insert("metadata".into(), Value::Object(metadata));
    object.insert("spec".into(), spec);
    if let Some(status) = resource.raw_status() {
        let status = status.to_document().map_err(|error| Problem::undecodable(&error))?;
        object.insert("status".into(), status);
    }
    Ok(Value::Object(object))
}

fn secret(resource: &Resource, mut metadata: Map<String, Value>, spec: &Value) -> Value {
    let scope = if resource.kind() == Kind::SECRET {
        metadata.insert("labels".into(), json!({labels::MESH: resource.mesh()}));
        "secret"
    } else {
        "global-secret"
    };
    let value = spec.get("data").cloned().unwrap_or_else(|| json!(""));
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "data": {"value": value},
        "type": format!("system.kuma.io/{scope}"),
    })
}
