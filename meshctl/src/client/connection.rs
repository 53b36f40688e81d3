//! One HTTP/1.1 connection, driven while an exchange is under way.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Address, ClientError};

/// TCP and TLS together.
const OPENING: Duration = Duration::from_secs(10);
/// A page of a thousand overviews is some 20 MiB, a config dump of a large proxy some 50.
const MAX_BODY: usize = 256 << 20;

/// Why an exchange over an open connection failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    /// No head of an answer came: the connection ended before it, or it is no HTTP.
    #[error("{0}")]
    NoAnswer(hyper::Error),
    #[error("the answer broke off: {0}")]
    Body(String),
}

trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An open connection.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Moves bytes; `None` when the connection has ended.
    driver: Option<Driver>,
}

impl Connection {
    pub(super) async fn open(address: &Address, tls: Option<&TlsConnector>) -> Result<Self, ClientError> {
        let late = |_| ClientError::Unreachable {
            address: address.to_string(),
            reason: format!("no connection within {OPENING:?}"),
        };
        let stream = tokio::time::timeout(OPENING, connect(address, tls)).await.map_err(late)??;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| {
                ClientError::NotOurs { address: address.to_string(), reason: error.to_string() }
            })?;
        // What goes wrong shows in the exchange itself.
        let driver: Driver = Box::pin(async move { drop(connection.await) });
        Ok(Self { sender, driver: Some(driver) })
    }

    /// Whether another exchange may follow.
    pub(super) fn is_open(&self) -> bool {
        self.driver.is_some() && !self.sender.is_closed()
    }

    /// Sends a request whose answer goes on for long. The connection is the body's from then on.
    pub(super) async fn stream(
        self,
        request: Request<Full<Bytes>>,
    ) -> Result<(http::response::Parts, Stream), ExchangeError> {
        let Self { mut sender, mut driver } = self;
        let answer = async move {
            sender.ready().await.map_err(ExchangeError::NoAnswer)?;
            sender.send_request(request).await.map_err(ExchangeError::NoAnswer)
        };
        let (head, body) = drive(&mut driver, answer).await?.into_parts();
        Ok((head, Stream { body, driver }))
    }

    pub(super) async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(http::response::Parts, Bytes), ExchangeError> {
        let Self { sender, driver } = self;
        let answer = async move {
            sender.ready().await.map_err(ExchangeError::NoAnswer)?;
            let (head, body) =
                sender.send_request(request).await.map_err(ExchangeError::NoAnswer)?.into_parts();
            let body = Limited::new(body, MAX_BODY).collect().await;
            let body = body.map_err(|error| ExchangeError::Body(error.to_string()))?;
            Ok((head, body.to_bytes()))
        };
        drive(driver, answer).await
    }
}

/// A body that comes bit by bit, and the connection that it comes over.
pub(super) struct Stream {
    body: Incoming,
    driver: Option<Driver>,
}

impl Stream {
    /// The next bytes; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        loop {
            match drive(&mut self.driver, self.body.frame()).await? {
                Err(error) => return Some(Err(error)),
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
            }
        }
    }
}

/// Moves the bytes of a connection while something waits for them.
async fn drive<T>(driver: &mut Option<Driver>, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    let Some(running) = driver else { return work.await };
    tokio::select! {
        done = work.as_mut() => done,
        () = running.as_mut() => {
            *driver = None;
            work.await
        }
    }
}

async fn connect(address: &Address, tls: Option<&TlsConnector>) -> Result<Box<dyn Transport>, ClientError> {
    let unreachable = |reason: String| ClientError::Unreachable { address: address.to_string(), reason };
    let tcp = TcpStream::connect((address.host(), address.port())).await;
    let tcp = tcp.map_err(|error| unreachable(error.to_string()))?;
    // Requests are small and wait for their answers. A socket that refuses is only slower.
    let _ = tcp.set_nodelay(true);
    let Some(tls) = tls else { return Ok(Box::new(tcp)) };
    let name = ServerName::try_from(address.host().to_owned())
        .map_err(|_| ClientError::Address(address.to_string()))?;
    match tls.connect(name, tcp).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(tls_failure(address, &error)),
    }
}

fn tls_failure(address: &Address, error: &io::Error) -> ClientError {
    let address = address.to_string();
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(reason)) => {
            ClientError::Untrusted { address, reason: reason.to_string() }
        }
        _ => ClientError::NotOurs { address, reason: format!("TLS handshake failed: {error}") },
    }
}
