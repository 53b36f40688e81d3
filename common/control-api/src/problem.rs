//! The error document of the API, and the one conversion of our errors into it.

use auth::access::AccessDenied;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use model::{DecodeError, Violation, Violations};
use serde::Serialize;
use store::StoreError;

use crate::defaults::DefaultsError;
use crate::json;

/// An answer other than success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    status: StatusCode,
    title: String,
    detail: String,
    violations: Vec<Violation>,
}

/// Detail of everything that is about fields.
const NOT_VALID: &str = "Resource is not valid";

impl Problem {
    pub(crate) fn new(status: StatusCode, title: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { status, title: title.into(), detail: detail.into(), violations: Vec::new() }
    }

    /// 400 with the detail as it is.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Bad Request", detail)
    }

    /// 400 for a value that a handler refuses: marked as the peer marks it.
    pub(crate) fn refused(detail: impl std::fmt::Display) -> Self {
        Self::bad_request(format!("bad request: {detail}"))
    }

    pub(crate) fn not_found(title: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, title, "Not found")
    }

    pub(crate) fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Invalid authentication data", detail)
    }

    pub(crate) fn not_allowed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", detail)
    }

    /// 400 with what is wrong, field by field.
    pub(crate) fn invalid(title: impl Into<String>, violations: &Violations) -> Self {
        Self {
            violations: violations.iter().cloned().collect(),
            ..Self::new(StatusCode::BAD_REQUEST, title, NOT_VALID)
        }
    }

    /// 400 with one thing that is wrong.
    pub(crate) fn field(title: &str, detail: &str, field: &str, message: impl Into<String>) -> Self {
        let violation = Violation { field: field.into(), message: message.into() };
        Self { violations: vec![violation], ..Self::new(StatusCode::BAD_REQUEST, title, detail) }
    }

    /// 400 with one field that is not valid.
    pub(crate) fn invalid_field(title: &str, field: &str, message: impl Into<String>) -> Self {
        Self::field(title, NOT_VALID, field, message)
    }

    /// What the store's error means to a caller; `title` says what failed.
    pub(crate) fn store(title: &str, error: &StoreError) -> Self {
        let (status, title) = match error {
            StoreError::Conflict { .. } => (StatusCode::CONFLICT, "Conflict"),
            StoreError::Unavailable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "Service unavailable"),
            StoreError::Full { .. } => (StatusCode::INSUFFICIENT_STORAGE, title),
            StoreError::Refused { .. } | StoreError::Compacted { .. } | StoreError::Corrupt { .. } => {
                return Self::internal(title, error);
            }
        };
        tracing::warn!(%error, "the store did not do as asked");
        Self::new(status, title, error.to_string())
    }

    /// 500: the reason goes to the log only.
    pub(crate) fn internal(title: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "{title}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, title, "Internal Server Error")
    }

    /// A stored resource that does not decode.
    pub(crate) fn undecodable(error: &DecodeError) -> Self {
        Self::internal("Could not read a stored resource", error)
    }

    pub(crate) fn defaults(title: &str, error: &DefaultsError) -> Self {
        match error {
            DefaultsError::Store(error) => Self::store(title, error),
            DefaultsError::Key(_) | DefaultsError::Token(_) => Self::internal(title, error),
        }
    }

    #[cfg(test)]
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }
}

impl From<AccessDenied> for Problem {
    fn from(denied: AccessDenied) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Access Denied", denied.to_string())
    }
}

/// The document: `details` and `causes` repeat `detail` and `invalid_parameters` for older callers.
#[derive(Serialize)]
struct Document<'a> {
    r#type: &'static str,
    status: u16,
    title: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    invalid_parameters: Vec<InvalidParameter<'a>>,
    details: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    causes: &'a [Violation],
}

#[derive(Serialize)]
struct InvalidParameter<'a> {
    field: &'a str,
    reason: &'a str,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = Document {
            r#type: "/std-errors",
            status: self.status.as_u16(),
            title: &self.title,
            detail: &self.detail,
            invalid_parameters: self
                .violations
                .iter()
                .map(|Violation { field, message }| InvalidParameter { field, reason: message })
                .collect(),
            details: &self.detail,
            causes: &self.violations,
        };
        json::reply(self.status, &document)
    }
}
