//! What handlers take from every request, and how their results become answers.

use std::convert::Infallible;

use auth::access::User;
use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use model::{Kind, Scope};

use crate::authn::Proof;
use crate::problem::Problem;
use crate::query::{Place, Query};

/// Whether the connection is encrypted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OverTls(pub(crate) bool);

/// Who asks, and for what.
pub(crate) struct Call {
    pub(crate) user: User,
    /// What the user was proven by.
    pub(crate) proof: Proof,
    pub(crate) query: Query,
    pub(crate) place: Place,
}

impl<S: Sync> FromRequestParts<S> for Call {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let tls = parts.extensions.get::<OverTls>().is_some_and(|tls| tls.0);
        Ok(Self {
            user: parts.extensions.get::<User>().cloned().unwrap_or_else(User::anonymous),
            proof: parts.extensions.get::<Proof>().cloned().unwrap_or_default(),
            query: Query::of(&parts.uri),
            place: Place::of(&parts.uri, &parts.headers, tls),
        })
    }
}

/// Why a handler does not answer with a document.
pub(crate) enum Failure {
    /// An error document.
    Problem(Problem),
    /// One of the router's own errors.
    Plain(StatusCode),
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Problem(problem) => problem.into_response(),
            Self::Plain(status) => plain(status),
        }
    }
}

/// The router's own errors are plain text, as the peer's are.
pub(crate) fn plain(status: StatusCode) -> Response {
    let text = match status {
        StatusCode::NOT_FOUND => "404: Page Not Found",
        StatusCode::METHOD_NOT_ALLOWED => "405: Method Not Allowed",
        StatusCode::NOT_ACCEPTABLE => "406: Not Acceptable",
        _ => "415: Unsupported Media Type",
    };
    (status, text).into_response()
}

/// What a handler answers.
pub(crate) type Answer = Result<Response, Failure>;

/// The kind under a path segment, if it has this scope; else the router's answer to unknown paths.
pub(crate) fn kind_of(path: &str, scope: Scope) -> Result<Kind, Failure> {
    match Kind::by_path(path).filter(|kind| kind.scope == scope) {
        Some(kind) => Ok(kind),
        None => Err(Failure::Plain(StatusCode::NOT_FOUND)),
    }
}
