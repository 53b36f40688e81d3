//! One HTTP/1.1 request on a connection that is there already.

use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// To connect, and for a TLS handshake.
const CONNECT: Duration = Duration::from_secs(3);
/// Envoy answers from memory; a large configuration takes a while to print.
const ANSWER: Duration = Duration::from_secs(8);
/// The configuration of a proxy with some ten thousand endpoints.
const MAX_BODY: usize = 64 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("nothing in time")]
    Timeout,
    #[error("with an error: {0}")]
    Broken(String),
    #[error("{0}")]
    Status(StatusCode),
}

/// Bounds a connection attempt.
pub(super) async fn in_time<T>(connect: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| Err(io::Error::from(io::ErrorKind::TimedOut));
    tokio::time::timeout(CONNECT, connect).await.unwrap_or_else(late)
}

/// The body that a path has.
pub(super) async fn get<S>(stream: S, path: &str) -> Result<Bytes, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    tokio::time::timeout(ANSWER, exchange(stream, path)).await.map_err(|_| HttpError::Timeout)?
}

async fn exchange<S>(stream: S, path: &str) -> Result<Bytes, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let broken = |error: &dyn std::fmt::Display| HttpError::Broken(error.to_string());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| broken(&e))?;
    let request = Request::get(path)
        .header(http::header::HOST, "localhost")
        .body(Empty::<Bytes>::new())
        .map_err(|e| broken(&e))?;
    let answer = async move {
        let (head, body) = sender.send_request(request).await.map_err(|e| broken(&e))?.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(|e| broken(&e))?.to_bytes();
        if head.status == StatusCode::OK { Ok(body) } else { Err(HttpError::Status(head.status)) }
    };
    let (mut answer, mut connection) = (std::pin::pin!(answer), std::pin::pin!(connection));
    tokio::select! {
        answer = answer.as_mut() => answer,
        _ = connection.as_mut() => answer.await,
    }
}
