//! A client of the REST API: one connection at a time, kept between requests.

mod address;
mod connection;
mod lines;
mod problem;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, LOCATION, USER_AGENT, WARNING};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::Full;
use runtime::tls::{TlsError, Trust, client_config};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_rustls::TlsConnector;

pub(crate) use address::Address;
use connection::{Connection, ExchangeError};
pub(crate) use lines::Lines;
pub(crate) use problem::Problem;
use problem::clean;

/// A whole exchange. Servers give up writing after 30 s; a config dump through a zone may take as long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Items of one page: the most that the API gives.
const PAGE: usize = 1000;

/// Why a request has no usable answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("{0:?} is not the address of a control plane: expected http://host:port or https://host:port")]
    Address(String),
    #[error("cannot set up TLS")]
    Tls(#[from] TlsError),
    #[error("the token has characters that no token has: is it the right file?")]
    Token,
    #[error(
        "nothing answers at {address} ({reason}): start a control plane, for example with `global-cp run`, \
         or name another one with --address"
    )]
    Unreachable { address: String, reason: String },
    #[error(
        "the certificate of {address} is not trusted ({reason}): name its authority with --ca-file, or \
         --ca-fingerprint as the control plane prints it at its first start"
    )]
    Untrusted { address: String, reason: String },
    #[error(
        "{address} does not answer as a control plane does ({reason}): check the scheme and the port of the address"
    )]
    NotOurs { address: String, reason: String },
    #[error("{address} did not answer within {PATIENCE:?}")]
    Late { address: String },
    #[error("{0}")]
    Problem(Box<Problem>),
    #[error("the answer to {path} is not understood: {reason}")]
    Answer { path: String, reason: String },
}

impl ClientError {
    /// Whether the next request would meet the same fate whatever it asks.
    pub(crate) fn is_fatal(&self) -> bool {
        !matches!(self, Self::Problem(_) | Self::Answer { .. })
    }

    /// Whether the server says that what was asked for is not there.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Problem(problem) if problem.status == StatusCode::NOT_FOUND)
    }
}

/// What the server says to a request that it accepts.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// From the `Warning` headers and the `warnings` of the body, each once.
    pub(crate) warnings: Vec<String>,
    body: Bytes,
}

impl Answer {
    fn new(status: StatusCode, headers: &HeaderMap, body: Bytes) -> Self {
        let mut warnings: Vec<String> = headers.get_all(WARNING).iter().filter_map(warning_text).collect();
        let document: Option<Value> = serde_json::from_slice(&body).ok();
        let listed =
            document.as_ref().and_then(|document| document.get("warnings")).and_then(Value::as_array);
        for text in listed.into_iter().flatten().filter_map(Value::as_str).map(clean) {
            if !warnings.contains(&text) {
                warnings.push(text);
            }
        }
        Self { status, warnings, body }
    }

    /// The document in the answer to `path`.
    pub(crate) fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        json(path, &self.body)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The text of a `Warning` header: `299 agent "text"` (RFC 7234, 5.5), or the value as it is.
fn warning_text(value: &HeaderValue) -> Option<String> {
    let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
    let quoted = value.split_once('"').and_then(|(_, rest)| rest.rsplit_once('"'));
    match quoted {
        Some((text, _)) => Some(clean(&text.replace("\\\"", "\"").replace("\\\\", "\\"))),
        None => Some(clean(&value)).filter(|value| !value.is_empty()),
    }
}

/// Speaks with one control plane.
pub(crate) struct Client {
    address: Address,
    tls: Option<TlsConnector>,
    authorization: Option<HeaderValue>,
    connection: Option<Connection>,
}

impl Client {
    /// Makes ready to speak; connects at the first request.
    pub(crate) fn new(address: Address, trust: &Trust, token: Option<&str>) -> Result<Self, ClientError> {
        let tls = if address.is_https() {
            Some(TlsConnector::from(Arc::new(client_config(trust, None)?)))
        } else {
            None
        };
        let authorization = token.map(bearer).transpose()?;
        Ok(Self { address, tls, authorization, connection: None })
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Whether a token would travel where others can read it.
    pub(crate) fn exposes_token(&self) -> bool {
        self.authorization.is_some() && self.tls.is_none() && !self.address.is_loopback()
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<Answer, ClientError> {
        self.send(Method::GET, path, Bytes::new()).await
    }

    pub(crate) async fn get_json(&mut self, path: &str) -> Result<Value, ClientError> {
        self.get(path).await?.read(path)
    }

    /// Opens a stream of lines, one JSON document each, over a connection of its own.
    pub(crate) async fn follow(&mut self, path: &str) -> Result<Lines, ClientError> {
        let opening = async {
            let connection = Connection::open(&self.address, self.tls.as_ref()).await?;
            let request = self.request(&Method::GET, path, &Bytes::new())?;
            connection.stream(request).await.map_err(|error| self.broken(error))
        };
        let late = |_| ClientError::Late { address: self.address.to_string() };
        let (head, mut body) = tokio::time::timeout(PATIENCE, opening).await.map_err(late)??;
        if head.status.is_success() {
            return Ok(Lines::new(path, body));
        }
        // Error documents are short: one part holds them.
        let body = body.next().await.and_then(Result::ok).unwrap_or_default();
        Err(ClientError::Problem(Box::new(Problem::read(head.status, None, &body))))
    }

    /// The items of a list, from all its pages. `query` holds filters, already encoded.
    pub(crate) async fn list(&mut self, path: &str, query: &str) -> Result<Vec<Value>, ClientError> {
        let mut items = Vec::new();
        let mut page = if query.is_empty() { format!("size={PAGE}") } else { format!("{query}&size={PAGE}") };
        loop {
            let target = format!("{path}?{page}");
            let mut document = self.get_json(&target).await?;
            let unexpected =
                |reason: &str| ClientError::Answer { path: target.clone(), reason: reason.into() };
            let Some(Value::Array(found)) = document.get_mut("items").map(Value::take) else {
                return Err(unexpected("it has no list of items"));
            };
            let is_empty = found.is_empty();
            items.extend(found);
            // Only the query: the address by which we reach the server is ours to know.
            let next = document.get("next").and_then(Value::as_str).and_then(|next| next.split_once('?'));
            match next {
                None => return Ok(items),
                Some((_, query)) if is_empty || query == page => {
                    return Err(unexpected("its pages do not end"));
                }
                Some((_, query)) => page = query.to_owned(),
            }
        }
    }

    pub(crate) async fn put(&mut self, path: &str, document: &Value) -> Result<Answer, ClientError> {
        self.send(Method::PUT, path, document.to_string().into()).await
    }

    pub(crate) async fn post(&mut self, path: &str, document: &Value) -> Result<Answer, ClientError> {
        self.send(Method::POST, path, document.to_string().into()).await
    }

    pub(crate) async fn delete(&mut self, path: &str) -> Result<Answer, ClientError> {
        self.send(Method::DELETE, path, Bytes::new()).await
    }

    async fn send(&mut self, method: Method, path: &str, body: Bytes) -> Result<Answer, ClientError> {
        let (head, body) = match tokio::time::timeout(PATIENCE, self.exchange(&method, path, &body)).await {
            Ok(answer) => answer?,
            Err(_) => {
                // Its answer may still come, and would be taken for the next one.
                self.connection = None;
                return Err(ClientError::Late { address: self.address.to_string() });
            }
        };
        if head.status.is_success() {
            return Ok(Answer::new(head.status, &head.headers, body));
        }
        let location = head.headers.get(LOCATION).and_then(|location| location.to_str().ok());
        Err(ClientError::Problem(Box::new(Problem::read(head.status, location, &body))))
    }

    async fn exchange(
        &mut self,
        method: &Method,
        path: &str,
        body: &Bytes,
    ) -> Result<(http::response::Parts, Bytes), ClientError> {
        if let Some(mut kept) = self.connection.take() {
            match kept.exchange(self.request(method, path, body)?).await {
                Ok(answer) => {
                    self.connection = Some(kept).filter(Connection::is_open);
                    return Ok(answer);
                }
                // The server ended an idle connection, which shows in several ways. Every request here may
                // be sent twice.
                Err(ExchangeError::NoAnswer(_)) => {}
                Err(error) => return Err(self.broken(error)),
            }
        }
        let mut connection = Connection::open(&self.address, self.tls.as_ref()).await?;
        let answer = connection.exchange(self.request(method, path, body)?).await;
        let answer = answer.map_err(|error| self.broken(error))?;
        self.connection = Some(connection).filter(Connection::is_open);
        Ok(answer)
    }

    fn broken(&self, error: ExchangeError) -> ClientError {
        ClientError::NotOurs { address: self.address.to_string(), reason: error.to_string() }
    }

    fn request(
        &self,
        method: &Method,
        path: &str,
        body: &Bytes,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(self.address.target(path))
            .header(HOST, self.address.authority())
            .header(USER_AGENT, concat!("meshctl/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "application/json, application/x-ndjson, text/plain");
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let error = |e: http::Error| ClientError::Answer { path: path.to_owned(), reason: e.to_string() };
        request.body(Full::new(body.clone())).map_err(error)
    }
}

fn bearer(token: &str) -> Result<HeaderValue, ClientError> {
    let mut value =
        HeaderValue::try_from(format!("Bearer {}", token.trim())).map_err(|_| ClientError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

fn json<T: DeserializeOwned>(path: &str, body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body)
        .map_err(|error| ClientError::Answer { path: path.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_come_from_headers_and_body_once() {
        let mut headers = HeaderMap::new();
        headers.append(WARNING, HeaderValue::from_static(r#"299 - "a \"b\" c""#));
        headers.append(WARNING, HeaderValue::from_static("plain"));
        let body = Bytes::from(r#"{"warnings": ["plain", "other", 3]}"#);
        let answer = Answer::new(StatusCode::OK, &headers, body);
        assert_eq!(answer.warnings, [r#"a "b" c"#, "plain", "other"]);
    }

    #[test]
    fn a_token_with_a_line_break_inside_is_refused_and_not_shown() {
        let error = bearer("abc\ndef").unwrap_err().to_string();
        assert!(!error.contains("abc"), "{error}");
        assert!(bearer(" abc\n").is_ok());
        assert!(!format!("{:?}", bearer("abc").unwrap()).contains("abc"));
    }
}
