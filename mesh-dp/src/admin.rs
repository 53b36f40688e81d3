//! HTTP over the Unix sockets that Envoy serves: its admin interface and the dynamic configuration.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Body, Bytes};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

/// Envoy answers these requests from memory: longer means that it hangs.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The largest body of interest is the DNS table: 100 bytes a name, a hundred thousand names.
const MAX_BODY: usize = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    #[error("cannot connect to Envoy at {}", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("Envoy broke off its answer")]
    Http(#[from] hyper::Error),
    #[error("Envoy's answer cannot be used: {0}")]
    Body(String),
    #[error("Envoy did not answer in time")]
    Timeout,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Sends one request on a connection of its own.
pub(crate) async fn request(
    socket: &Path,
    method: Method,
    path: &str,
    header: Option<(&str, &str)>,
) -> Result<Answer, AdminError> {
    tokio::time::timeout(TIMEOUT, exchange(socket, method, path, header))
        .await
        .unwrap_or(Err(AdminError::Timeout))
}

async fn exchange(
    socket: &Path,
    method: Method,
    path: &str,
    header: Option<(&str, &str)>,
) -> Result<Answer, AdminError> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|source| AdminError::Connect { path: socket.to_owned(), source })?;
    let mut builder = Request::builder().method(method).uri(path).header("host", "localhost");
    if let Some((name, value)) = header {
        builder = builder.header(name, value);
    }
    let request = builder.body(Empty::<Bytes>::new()).map_err(|error| AdminError::Body(error.to_string()))?;
    converse(stream, request).await
}

/// Sends one request over a connection and reads the answer whole.
pub(crate) async fn converse<B>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<B>,
) -> Result<Answer, AdminError>
where
    B: Body<Data = Bytes, Error = Infallible> + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let answer = async move {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await;
        let body = body.map_err(|error| AdminError::Body(error.to_string()))?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    };
    // The connection is driven here, so that nothing outlives this call.
    let (mut answer, mut connection) = (std::pin::pin!(answer), std::pin::pin!(connection));
    tokio::select! {
        answer = answer.as_mut() => answer,
        // The peer closed after its answer, which is then complete in the buffers.
        _ = connection.as_mut() => answer.await,
    }
}

/// The admin interface of this Envoy.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    socket: PathBuf,
}

impl Admin {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Whether Envoy has its configuration and accepts connections.
    pub(crate) async fn is_ready(&self) -> bool {
        let answer = request(&self.socket, Method::GET, "/ready", None).await;
        answer.is_ok_and(|answer| answer.status == StatusCode::OK)
    }

    /// Makes Envoy answer health checks with a failure, so that peers turn away.
    pub(crate) async fn fail_health_checks(&self) -> Result<(), AdminError> {
        request(&self.socket, Method::POST, "/healthcheck/fail", None).await.map(drop)
    }

    /// Lets connections of Envoy's inbound listeners end, while it goes on running.
    pub(crate) async fn drain_listeners(&self) -> Result<(), AdminError> {
        let path = "/drain_listeners?inboundonly&graceful&skip_exit";
        request(&self.socket, Method::POST, path, None).await.map(drop)
    }

    /// Envoy's metrics in Prometheus' format, without those that never changed unless they are wanted.
    pub(crate) async fn metrics(&self, unused: bool) -> Result<Answer, AdminError> {
        let path = if unused {
            "/stats/prometheus?text_readouts"
        } else {
            "/stats/prometheus?text_readouts&usedonly"
        };
        request(&self.socket, Method::GET, path, None).await
    }

    /// Connections that peers and applications have open to Envoy's listeners.
    pub(crate) async fn active_connections(&self) -> Result<u64, AdminError> {
        let path = "/stats?filter=^listener%5C..*downstream_cx_active$";
        let answer = request(&self.socket, Method::GET, path, None).await?;
        Ok(connections(&String::from_utf8_lossy(&answer.body)))
    }
}

/// Sums `listener.<address>.downstream_cx_active`; the admin listener's are ours. The counts of
/// single workers are in the listener's already.
fn connections(stats: &str) -> u64 {
    let lines = stats.lines().filter_map(|line| line.split_once(": "));
    lines
        .filter(|(name, _)| !name.starts_with("listener.admin.") && !name.contains(".worker_"))
        .filter_map(|(_, count)| count.trim().parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::routing::{get, post};
    use tokio::net::UnixListener;

    #[test]
    fn connections_are_counted_once_and_without_our_own() {
        let stats = "listener.0.0.0.0_80.downstream_cx_active: 2\n\
                     listener.0.0.0.0_80.worker_0.downstream_cx_active: 2\n\
                     listener.admin.downstream_cx_active: 1\nnonsense\n";
        assert_eq!(connections(stats), 2);
        assert_eq!(connections(""), 0);
    }

    #[tokio::test]
    async fn requests_reach_a_unix_socket() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let admin = Admin::new(socket.clone());
        assert!(!admin.is_ready().await);
        assert!(matches!(admin.fail_health_checks().await, Err(AdminError::Connect { .. })));

        let router = Router::new()
            .route("/ready", get(|| async { "LIVE" }))
            .route("/healthcheck/fail", post(|| async { "OK" }))
            .route("/stats", get(|| async { "listener.a.downstream_cx_active: 3\n" }));
        let listener = UnixListener::bind(&socket).unwrap();
        let tasks = runtime::Tasks::new();
        let server = async { axum::serve(listener, router).await };
        tasks.spawn_fallible("envoy", runtime::OnExit::Ignore, server);
        assert!(admin.is_ready().await);
        admin.fail_health_checks().await.unwrap();
        assert_eq!(admin.active_connections().await.unwrap(), 3);
        tasks.shutdown(Duration::ZERO).await;
    }
}
