//! The connection to the global.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use runtime::tls::{Trust, client_config};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

/// A dead connection is noticed within twice this time. Peers refuse pings that come more often.
const KEEPALIVE: Duration = Duration::from_secs(15);
const CONNECT: Duration = Duration::from_secs(10);
const DEFAULT_PORT: u16 = 5685;

/// Where the global listens: `grpcs://host:port`, or `grpc://` without TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GlobalAddress {
    host: String,
    port: u16,
    tls: bool,
}

/// A text that is no address of a global.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no address of a global control plane: expected grpcs://host:5685, or grpc:// without TLS")]
pub struct BadAddress(String);

impl FromStr for GlobalAddress {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let bad = || BadAddress(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| bad())?;
        let tls = match uri.scheme_str() {
            Some("grpcs") => true,
            Some("grpc") => false,
            _ => return Err(bad()),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(bad)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port: uri.port_u16().unwrap_or(DEFAULT_PORT), tls })
    }
}

impl fmt::Display for GlobalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", if self.tls { "grpcs" } else { "grpc" }, self.host, self.port)
    }
}

impl GlobalAddress {
    /// Whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        self.tls
    }
}

/// Connects, over TLS unless the address says otherwise.
pub(super) async fn connect(address: &GlobalAddress, trust: &Trust) -> Result<Channel, tonic::Status> {
    let unavailable = |reason: String| tonic::Status::unavailable(reason);
    let tls = if address.tls {
        let mut config = client_config(trust, None).map_err(|error| unavailable(error.to_string()))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from(address.host.clone())
            .map_err(|_| unavailable(format!("{:?} is no host name", address.host)))?;
        Some((TlsConnector::from(Arc::new(config)), name))
    } else {
        None
    };
    let (host, port) = (address.host.clone(), address.port);
    let connector = tower::service_fn(move |_: Uri| {
        let (tls, host) = (tls.clone(), host.clone());
        async move {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(match tls {
                Some((connector, name)) => {
                    let stream = connector.connect(name, stream).await?;
                    TokioIo::new(Box::new(stream) as Box<dyn Transport>)
                }
                None => TokioIo::new(Box::new(stream) as Box<dyn Transport>),
            })
        }
    });
    let scheme = if address.tls { "https" } else { "http" };
    let host = if address.host.contains(':') { format!("[{}]", address.host) } else { address.host.clone() };
    let authority = format!("{host}:{}", address.port);
    let origin = format!("{scheme}://{authority}").parse();
    // The connector speaks TLS, which the library would refuse behind a URL that says so.
    let endpoint = Endpoint::from_shared(format!("http://{authority}"))
        .map_err(|error| unavailable(error.to_string()))?
        .origin(origin.map_err(|_| unavailable(format!("{authority:?} is no authority")))?)
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true);
    endpoint.connect_with_connector(connector).await.map_err(|error| unavailable(chain(&error)))
}

/// An error with its causes: the outermost alone says "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// What a connection runs over.
trait Transport: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Transport for T {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_say_whether_they_are_encrypted() {
        for (text, shown, tls) in [
            ("grpcs://global.example:5685", "grpcs://global.example:5685", true),
            ("grpcs://global.example", "grpcs://global.example:5685", true),
            ("grpc://10.0.0.1:1", "grpc://10.0.0.1:1", false),
        ] {
            let address: GlobalAddress = text.parse().unwrap();
            assert_eq!((address.to_string().as_str(), address.is_tls()), (shown, tls));
        }
        for text in ["global:5685", "https://global", "grpcs://", ""] {
            assert!(text.parse::<GlobalAddress>().is_err(), "{text}");
        }
    }
}
