//! Asks the control plane for the bootstrap until there is an answer that settles it.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http::uri::Authority;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use runtime::tls::{Trust, client_config};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::{BootstrapRequest, envoy_bootstrap};
use crate::metrics::Metrics;

const DEFAULT_PORT: u16 = 443;
/// One attempt: connection, handshake and answer. The control plane answers from memory.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Pauses between attempts double from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(10);
/// A bootstrap is some ten KiB; the control plane's certificates are its largest part.
const MAX_BODY: usize = 4 << 20;
/// As much of an error page as a person reads.
const MAX_MESSAGE: usize = 1000;

#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("{0:?} is not a control plane address: expected https://host:port")]
    Address(String),
    #[error("cannot set up TLS to the control plane")]
    Tls(#[from] runtime::tls::TlsError),
    #[error(
        "the control plane's certificate is not trusted ({0}): check --cp-ca-file or --cp-ca-fingerprint"
    )]
    Untrusted(String),
    #[error("the control plane refused the bootstrap ({status}): {message}")]
    Refused { status: StatusCode, message: String },
    #[error("the control plane's answer is not a bootstrap: {0}")]
    Unusable(String),
    #[error("no bootstrap after {waited:?}; the last attempt: {last}")]
    GaveUp { waited: Duration, last: String },
}

/// How one attempt ended.
enum Failure {
    /// It may go better next time.
    Retry(String),
    Fatal(FetchError),
}

/// A control plane to fetch from.
pub(crate) struct Client {
    authority: Authority,
    tls: TlsConnector,
    /// `None`: for ever.
    patience: Option<Duration>,
    metrics: Metrics,
}

impl Client {
    pub(crate) fn new(
        address: &str,
        trust: &Trust,
        patience: Option<Duration>,
        metrics: Metrics,
    ) -> Result<Self, FetchError> {
        let refused = || FetchError::Address(address.to_owned());
        let uri: Uri = address.trim_end_matches('/').parse().map_err(|_| refused())?;
        let is_origin =
            uri.scheme_str() == Some("https") && matches!(uri.path(), "" | "/") && uri.query().is_none();
        let authority = uri.authority().filter(|_| is_origin).ok_or_else(refused)?.clone();
        let tls = TlsConnector::from(Arc::new(client_config(trust, None)?));
        Ok(Self { authority, tls, patience, metrics })
    }

    /// The bootstrap, after as many attempts as it takes.
    pub(crate) async fn fetch(&self, request: &BootstrapRequest) -> Result<Vec<u8>, FetchError> {
        let body = serde_json::to_vec(request).map_err(|error| FetchError::Unusable(error.to_string()))?;
        let body = Bytes::from(body);
        let started = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            self.metrics.bootstrap_attempts.inc();
            let attempt = tokio::time::timeout(ATTEMPT, self.attempt(body.clone())).await;
            let late = |_| Err(Failure::Retry(format!("no answer within {ATTEMPT:?}")));
            let reason = match attempt.unwrap_or_else(late) {
                Ok(bootstrap) => return Ok(bootstrap),
                Err(Failure::Fatal(error)) => return Err(error),
                Err(Failure::Retry(reason)) => reason,
            };
            let waited = started.elapsed();
            if self.patience.is_some_and(|patience| waited + pause > patience) {
                return Err(FetchError::GaveUp { waited, last: reason });
            }
            let jittered = pause.mul_f64(rand::random_range(0.5..1.0));
            tracing::warn!(%reason, retry_in = ?jittered, "no bootstrap yet");
            tokio::time::sleep(jittered).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    async fn attempt(&self, body: Bytes) -> Result<Vec<u8>, Failure> {
        let host = self.authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = self.authority.port_u16().unwrap_or(DEFAULT_PORT);
        let address = FetchError::Address(self.authority.to_string());
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Failure::Fatal(address))?;
        let retry = |what: &str, error: &dyn std::fmt::Display| Failure::Retry(format!("{what}: {error}"));
        let tcp = TcpStream::connect((host, port)).await;
        let tcp = tcp.map_err(|e| retry(&format!("cannot connect to {}", self.authority), &e))?;
        let tls = self.tls.connect(name, tcp).await.map_err(|error| tls_failure(&error))?;
        let request = Request::post("/bootstrap")
            .header(HOST, self.authority.as_str())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|e| retry("cannot make the request", &e))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls))
            .await
            .map_err(|e| retry("connection failed", &e))?;
        let answer = async move {
            let (head, body) =
                sender.send_request(request).await.map_err(|e| retry("no answer", &e))?.into_parts();
            let body = Limited::new(body, MAX_BODY).collect().await;
            Ok((head.status, body.map_err(|e| retry("answer cut off", &e))?.to_bytes()))
        };
        let (mut answer, mut connection) = (std::pin::pin!(answer), std::pin::pin!(connection));
        let (status, body) = tokio::select! {
            answer = answer.as_mut() => answer,
            _ = connection.as_mut() => answer.await,
        }?;
        judge(status, &body)
    }
}

/// A certificate that is not trusted stays so; anything else may pass.
fn tls_failure(error: &io::Error) -> Failure {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(reason)) => {
            Failure::Fatal(FetchError::Untrusted(format!("{reason:?}")))
        }
        _ => {
            let source = error.source().map(|source| format!(" ({source})")).unwrap_or_default();
            Failure::Retry(format!("TLS handshake failed: {error}{source}"))
        }
    }
}

fn judge(status: StatusCode, body: &[u8]) -> Result<Vec<u8>, Failure> {
    match status {
        StatusCode::OK => envoy_bootstrap(body).map_err(|error| Failure::Fatal(FetchError::Unusable(error))),
        // The dataplane is not in the store: it may be on its way there.
        StatusCode::NOT_FOUND => {
            Err(Failure::Retry("the control plane does not know this dataplane yet".to_owned()))
        }
        StatusCode::TOO_MANY_REQUESTS => Err(Failure::Retry("the control plane is busy".to_owned())),
        status if status.is_server_error() => Err(Failure::Retry(format!("{status}: {}", message(body)))),
        status => Err(Failure::Fatal(FetchError::Refused { status, message: message(body) })),
    }
}

/// The text of an error document, or the body as it is.
fn message(body: &[u8]) -> String {
    let document: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let field = |name: &str| document.as_ref()?.get(name)?.as_str().map(str::to_owned);
    let text = match (field("title"), field("detail")) {
        (Some(title), Some(detail)) => format!("{title}: {detail}"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => String::from_utf8_lossy(body).trim().to_owned(),
    };
    text.chars().take(MAX_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(status: u16, body: &str) -> Result<Vec<u8>, Failure> {
        judge(StatusCode::from_u16(status).unwrap(), body.as_bytes())
    }

    #[test]
    fn only_what_may_pass_is_retried() {
        for status in [404, 429, 500, 503] {
            assert!(matches!(verdict(status, "later"), Err(Failure::Retry(_))), "{status}");
        }
        for status in [301, 400, 401, 403, 422] {
            assert!(matches!(verdict(status, "never"), Err(Failure::Fatal(_))), "{status}");
        }
        assert!(matches!(verdict(200, "?"), Err(Failure::Fatal(FetchError::Unusable(_)))));
    }

    #[test]
    fn a_refusal_carries_the_servers_words() {
        let Err(Failure::Fatal(error)) = verdict(422, r#"{"title": "Invalid", "detail": "mesh: unknown"}"#)
        else {
            panic!("not fatal")
        };
        assert!(error.to_string().ends_with("(422 Unprocessable Entity): Invalid: mesh: unknown"), "{error}");
        assert_eq!(message(b" plain \n"), "plain");
        assert_eq!(message(&[b'x'; 5000]).len(), MAX_MESSAGE);
    }

    #[test]
    fn only_https_origins_are_addresses() {
        let client = |address| Client::new(address, &Trust::SkipVerify, None, Metrics::default());
        for good in ["https://localhost:5678/", "https://[::1]:5678"] {
            assert!(client(good).is_ok(), "{good}");
        }
        for bad in ["http://localhost:5678", "localhost:5678", "https://a/b", "https://a?b", ""] {
            assert!(matches!(client(bad).err(), Some(FetchError::Address(_))), "{bad}");
        }
    }
}
