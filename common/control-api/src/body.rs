//! The body of a write: read with a limit, and turned into an object.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use model::Kind;
use serde_json::{Map, Value};

use crate::problem::Problem;
use crate::syntax;

/// Largest body of a write: more than a KDS message of our own can carry (10 MiB less envelope) is of no
/// use, and etcd takes 1.5 MiB.
const MAX_BODY: usize = 4 << 20;
/// How much of a body that is too large is still read, so that its sender reads our answer instead of a
/// connection reset.
const MAX_DISCARDED: usize = 64 << 20;

/// Reads a body.
pub(crate) async fn read(body: Body) -> Result<Bytes, Problem> {
    let mut body = body;
    let mut kept = BytesMut::new();
    let mut seen = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Problem::refused(format!("the body ended early: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        seen = seen.saturating_add(data.len());
        if seen <= MAX_BODY {
            kept.extend_from_slice(&data);
        } else if seen > MAX_DISCARDED {
            break;
        }
    }
    if seen <= MAX_BODY {
        return Ok(kept.freeze());
    }
    let detail = format!("the body is larger than {MAX_BODY} bytes");
    Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "Request body too large", detail))
}

/// Refuses a content type other than JSON, as the peer's router does.
pub(crate) fn require_json(headers: &HeaderMap) -> Result<(), StatusCode> {
    let Some(given) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let media = given.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if media.eq_ignore_ascii_case("application/json") || media == "*/*" {
        return Ok(());
    }
    Err(StatusCode::UNSUPPORTED_MEDIA_TYPE)
}

/// The object in a body that should describe a resource of a kind.
pub(crate) fn object(kind: Kind, body: &[u8]) -> Result<Map<String, Value>, Problem> {
    let invalid = |reason: &str| Problem::bad_request(format!("invalid {kind} object: {reason:?}"));
    if let Some(error) = syntax::error(body) {
        return Err(invalid(&error));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => {
            let shape = shape(&other);
            Err(invalid(&format!("json: cannot unmarshal {shape} into Go value of type rest.JSON")))
        }
        Err(error) => Err(invalid(&error.to_string())),
    }
}

/// Checks the keys that every resource has, for kinds without a schema of their own.
pub(crate) fn check_meta(kind: Kind, object: &Map<String, Value>) -> Result<(), Problem> {
    let mismatch = |value: &Value, key: &str, want: &str| {
        let shape = shape(value);
        let field =
            format!("json: cannot unmarshal {shape} into Go struct field ResourceMeta.{key} of type {want}");
        Problem::bad_request(format!("invalid {kind} object: {field:?}"))
    };
    for key in ["type", "mesh", "name"] {
        if let Some(value) = object.get(key).filter(|value| !value.is_string() && !value.is_null()) {
            return Err(mismatch(value, key, "string"));
        }
    }
    match object.get("labels") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Object(labels)) => {
            match labels.values().find(|value| !value.is_string() && !value.is_null()) {
                Some(value) => Err(mismatch(value, "labels", "string")),
                None => Ok(()),
            }
        }
        Some(value) => Err(mismatch(value, "labels", "map[string]string")),
    }
}

/// What a JSON value is called.
pub(crate) fn shape(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;

    #[test]
    fn bodies_that_are_no_object_are_refused_in_words() {
        let detail = |body: &str| object(Kind::MESH, body.as_bytes()).unwrap_err().detail().to_owned();
        assert_eq!(
            detail("{,"),
            "invalid Mesh object: \"invalid character ',' looking for beginning of object key string\""
        );
        assert!(detail("[]").contains("cannot unmarshal array"));
        let named = serde_json::json!({"labels": {"a": 1}});
        let problem = check_meta(Kind::MESH, named.as_object().unwrap()).unwrap_err();
        assert!(problem.detail().contains("ResourceMeta.labels of type string"), "{problem:?}");
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_is_read_and_refused() {
        assert_eq!(read(Body::from(vec![b' '; MAX_BODY])).await.unwrap().len(), MAX_BODY);
        let problem = read(Body::from(vec![b' '; 20 << 20])).await.unwrap_err();
        assert_eq!(problem.into_response().status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
}
