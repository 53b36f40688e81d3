//! JSON as the peer prints it: indented by one space, with a newline at the end.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};

/// An answer with a JSON document.
pub(crate) fn reply(status: StatusCode, document: &impl Serialize) -> Response {
    match print(document) {
        Ok(text) => {
            let mut response = Response::new(Body::from(text));
            *response.status_mut() = status;
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// 200 with a JSON document.
pub(crate) fn ok(document: &impl Serialize) -> Response {
    reply(StatusCode::OK, document)
}

fn print(document: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut text = Vec::new();
    document.serialize(&mut Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b" ")))?;
    text.push(b'\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_space_and_a_newline() {
        let text = print(&serde_json::json!({"a": {"b": [], "c": "<é>"}})).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "{\n \"a\": {\n  \"b\": [],\n  \"c\": \"<é>\"\n }\n}\n");
    }
}
