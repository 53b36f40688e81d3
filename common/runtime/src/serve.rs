//! Serving an axum router on a socket: HTTP/1.1 and HTTP/2, with or without TLS.
//!
//! gRPC services fit in as `tonic::service::Routes::into_axum_router`, so that gRPC and plain HTTP
//! share one port. Each connection is a supervised task that ends gracefully when shutdown begins.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use futures::FutureExt;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::io::InspectReader;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::Instrument;

use crate::tasks::{OnExit, Tasks};

/// Connections that the kernel may hold before they are accepted: a fleet that reconnects after a
/// restart arrives within a second, and a smaller queue would make it retry at SYN time-outs.
const BACKLOG: u32 = 4096;

/// Pause after an accept error. Those that do not pass by themselves (file descriptors used up)
/// would spin otherwise.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes after which it is certain which HTTP version a peer speaks: the length of HTTP/2's preface
/// (RFC 9113, section 3.4). Until then neither version's own time-outs run.
const PREFACE: usize = 24;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process has it.
    #[error("{address} is in use by another process: stop that process or configure another port")]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// A port below 1024, as a rule.
    #[error("not allowed to listen on {address}: choose a port above 1023 or grant CAP_NET_BIND_SERVICE")]
    Denied {
        /// The address.
        address: SocketAddr,
    },
    /// Anything else, such as an address that this host does not have.
    #[error("cannot listen on {address}")]
    Other {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// How connections are treated.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Terminates TLS when present.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// A TLS handshake that takes longer is cut off.
    pub handshake_timeout: Duration,
    /// A peer that has not begun to speak HTTP after this time is cut off, and so is an HTTP/1.1
    /// request head that takes longer to arrive; also the idle time-out of HTTP/1.1.
    pub header_read_timeout: Duration,
    /// How often an idle HTTP/2 connection is pinged.
    pub keepalive_interval: Duration,
    /// A ping that is not answered within this time ends the connection.
    pub keepalive_timeout: Duration,
    /// HTTP/2 streams a connection may have open.
    pub max_concurrent_streams: u32,
    /// Connections beyond this number wait in the kernel's queue.
    pub max_connections: usize,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            tls: None,
            handshake_timeout: Duration::from_secs(10),
            header_read_timeout: Duration::from_secs(30),
            keepalive_interval: Duration::from_secs(15),
            keepalive_timeout: Duration::from_secs(15),
            max_concurrent_streams: 1000,
            max_connections: 65_536,
        }
    }
}

impl ServeOptions {
    /// The defaults, over TLS.
    pub fn tls(config: Arc<rustls::ServerConfig>) -> Self {
        Self { tls: Some(config), ..Self::default() }
    }
}

/// Extension of every request that came over TLS with a client certificate: the chain, leaf first.
#[derive(Clone, Debug)]
pub struct PeerCertificates(pub Arc<[CertificateDer<'static>]>);

/// Extension of every request: when the peer was last heard on its connection, keepalive included. Tells a peer
/// that ended a stream from one that fell silent and was cut off, which look alike to a handler.
#[derive(Clone, Debug)]
pub struct LastHeard {
    start: Instant,
    /// Milliseconds after the start.
    heard: Arc<AtomicU64>,
}

impl LastHeard {
    fn now() -> Self {
        Self { start: Instant::now(), heard: Arc::default() }
    }

    fn hear(&self) {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard.store(elapsed, Ordering::Relaxed);
    }

    /// How long ago that was.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed().saturating_sub(Duration::from_millis(self.heard.load(Ordering::Relaxed)))
    }
}

/// Listens on an address (port 0: any free one). Must run inside the tokio runtime.
pub fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    try_bind(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { address },
        io::ErrorKind::PermissionDenied => BindError::Denied { address },
        _ => BindError::Other { address, source },
    })
}

fn try_bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted process must not wait for the connections of its predecessor to time out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves a router until shutdown begins, as a task the process cannot do without.
///
/// Returns the listener's address. Requests carry `ConnectInfo<SocketAddr>` and, after mutual TLS,
/// [`PeerCertificates`].
pub fn spawn(
    tasks: &Tasks,
    name: &str,
    listener: TcpListener,
    router: Router,
    options: ServeOptions,
) -> Result<SocketAddr, BindError> {
    let address = listener.local_addr().map_err(|source| {
        let address = SocketAddr::from(([0, 0, 0, 0], 0));
        BindError::Other { address, source }
    })?;
    tracing::info!(server = name, %address, tls = options.tls.is_some(), "listening");
    let server = Server::new(name.to_owned(), tasks.clone(), router, options);
    tasks.spawn(name, OnExit::Shutdown, server.accept(listener));
    Ok(address)
}

struct Server {
    /// Of its tasks.
    name: String,
    /// Of its spans.
    server: Arc<str>,
    tasks: Tasks,
    router: Router,
    http: auto::Builder<TokioExecutor>,
    acceptor: Option<TlsAcceptor>,
    options: ServeOptions,
}

impl Server {
    fn new(name: String, tasks: Tasks, router: Router, options: ServeOptions) -> Arc<Self> {
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1().timer(TokioTimer::new()).header_read_timeout(options.header_read_timeout);
        http.http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(options.keepalive_interval)
            .keep_alive_timeout(options.keepalive_timeout)
            .max_concurrent_streams(options.max_concurrent_streams)
            .adaptive_window(true);
        let acceptor = options.tls.clone().map(TlsAcceptor::from);
        let server = name.as_str().into();
        Arc::new(Self { name: format!("{name} connection"), server, tasks, router, http, acceptor, options })
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let stop = self.tasks.token();
        let slots = Arc::new(Semaphore::new(self.options.max_connections));
        loop {
            let next = async {
                let slot = Arc::clone(&slots).acquire_owned().await;
                (slot, listener.accept().await)
            };
            let (slot, accepted) = tokio::select! {
                next = next => next,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let server = Arc::clone(&self);
                    let stop = stop.clone();
                    // Boxed: the state of a connection is large, and most of them are idle.
                    let connection = async move { server.connection(stream, peer, stop).await }.boxed();
                    let held = connection.map(move |()| drop(slot));
                    self.tasks.spawn(self.name.as_str(), OnExit::Ignore, held);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn connection(&self, stream: TcpStream, peer: SocketAddr, stop: CancellationToken) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "cannot disable Nagle's algorithm");
        }
        let Some(acceptor) = &self.acceptor else {
            return self.http(stream, peer, None, stop).await;
        };
        let handshake = tokio::time::timeout(self.options.handshake_timeout, acceptor.accept(stream));
        let handshake = tokio::select! {
            done = handshake => done,
            () = stop.cancelled() => return,
        };
        match handshake {
            Ok(Ok(tls)) => {
                let chain = tls.get_ref().1.peer_certificates();
                let chain = chain.map(|chain| PeerCertificates(chain.iter().cloned().collect()));
                self.http(tls, peer, chain, stop).await;
            }
            Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
            Err(_) => tracing::debug!(%peer, "TLS handshake timed out"),
        }
    }

    async fn http<S>(&self, io: S, peer: SocketAddr, chain: Option<PeerCertificates>, stop: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (router, server) = (self.router.clone(), Arc::clone(&self.server));
        let received = Arc::new(AtomicUsize::new(0));
        let (read, asked) = (Arc::clone(&received), Arc::clone(&received));
        let heard = LastHeard::now();
        let hears = heard.clone();
        let io = InspectReader::new(io, move |bytes: &[u8]| {
            read.fetch_add(bytes.len(), Ordering::Relaxed);
            hears.hear();
        });
        let service = tower::service_fn(move |request: Request<hyper::body::Incoming>| {
            // The shortest HTTP/1 requests are shorter than a preface.
            asked.fetch_max(PREFACE, Ordering::Relaxed);
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            request.extensions_mut().insert(heard.clone());
            if let Some(chain) = &chain {
                request.extensions_mut().insert(chain.clone());
            }
            let span = tracing::info_span!(
                "request", server = %server, method = %request.method(), path = request.uri().path()
            );
            router.clone().oneshot(request).instrument(span)
        });
        let connection =
            self.http.serve_connection_with_upgrades(TokioIo::new(io), TowerToHyperService::new(service));
        let mut connection = std::pin::pin!(connection);
        let end = tokio::select! {
            end = connection.as_mut() => end,
            () = silence(&received, self.options.header_read_timeout) => {
                return tracing::debug!(%peer, "connection without a request cut off");
            }
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = end {
            tracing::debug!(%peer, %error, "connection ended with an error");
        }
    }
}

/// Resolves after `limit` if fewer bytes than a preface have come by then, else never.
async fn silence(received: &AtomicUsize, limit: Duration) {
    tokio::time::sleep(limit).await;
    if received.load(Ordering::Relaxed) >= PREFACE {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests;
