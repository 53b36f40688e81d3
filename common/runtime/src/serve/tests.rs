//! A real server on a free port: both HTTP versions, TLS, peers that stall, shutdown.

use axum::routing::get;
use http_body_util::{BodyExt, Empty};
use hyper::Version;
use hyper::body::Bytes;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use super::*;
use crate::tls::{self, Trust};

fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn router() -> Router {
    Router::new().route(
        "/peer",
        get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() }),
    )
}

async fn fetch_h2<S>(io: S) -> (Version, String)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let tasks = Tasks::new();
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    tasks.spawn("client", OnExit::Ignore, connection.map(drop));
    let request = Request::get("https://localhost/peer").body(Empty::<Bytes>::new()).unwrap();
    let response = client.send_request(request).await.unwrap();
    let version = response.version();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (version, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn both_http_versions_and_the_peer_address_over_plain_tcp() {
    let tasks = Tasks::new();
    let address = spawn(&tasks, "api", bind(local()).unwrap(), router(), ServeOptions::default()).unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    assert_eq!(fetch_h2(stream).await, (Version::HTTP_2, "127.0.0.1".to_owned()));

    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /peer HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("127.0.0.1"), "{answer}");
    assert!(tasks.shutdown(Duration::from_secs(10)).await.is_empty());
}

#[tokio::test]
async fn tls_negotiates_http2_and_a_stalled_handshake_is_cut() {
    let tasks = Tasks::new();
    let (ca, chain, key) = tls::tests::authority();
    let config = tls::server_config(tls::fixed_certificate(&chain, &key).unwrap(), None).unwrap();
    let options = ServeOptions { handshake_timeout: Duration::from_millis(200), ..ServeOptions::tls(config) };
    let address = spawn(&tasks, "api", bind(local()).unwrap(), router(), options).unwrap();

    let mut client = tls::client_config(&Trust::CaPem(ca), None).unwrap();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(client));
    let stream = TcpStream::connect(address).await.unwrap();
    let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(fetch_h2(stream).await.0, Version::HTTP_2);

    let mut silent = TcpStream::connect(address).await.unwrap();
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    assert!(tasks.shutdown(Duration::from_secs(10)).await.is_empty());
}

#[tokio::test]
async fn a_peer_that_says_nothing_or_half_a_preface_is_cut() {
    let tasks = Tasks::new();
    let (ca, chain, key) = tls::tests::authority();
    let config = tls::server_config(tls::fixed_certificate(&chain, &key).unwrap(), None).unwrap();
    let short = Duration::from_millis(200);
    let options = ServeOptions { header_read_timeout: short, ..ServeOptions::default() };
    let plain = spawn(&tasks, "plain", bind(local()).unwrap(), router(), options.clone()).unwrap();
    let options = ServeOptions { tls: Some(config), ..options };
    let secure = spawn(&tasks, "secure", bind(local()).unwrap(), router(), options).unwrap();

    for start in [&b""[..], b"PRI * HTTP/2", b"GET /peer HTTP/1.1\r\n"] {
        let mut stream = TcpStream::connect(plain).await.unwrap();
        stream.write_all(start).await.unwrap();
        ends(&mut stream).await;
    }
    let client = tls::client_config(&Trust::CaPem(ca), None).unwrap();
    let stream = TcpStream::connect(secure).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    ends(&mut TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap()).await;
    assert!(tasks.shutdown(Duration::from_secs(10)).await.is_empty());
}

#[tokio::test]
async fn a_slow_answer_to_a_short_request_is_not_cut() {
    let tasks = Tasks::new();
    let release = tasks.token();
    let slow = move || async move {
        release.cancelled().await;
        "done"
    };
    let short = Duration::from_millis(50);
    let options = ServeOptions { header_read_timeout: short, ..ServeOptions::default() };
    let router = Router::new().route("/", get(slow));
    let address = spawn(&tasks, "api", bind(local()).unwrap(), router, options).unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    let early = tokio::time::timeout(4 * short, stream.read_to_string(&mut answer)).await;
    assert!(early.is_err(), "{answer}");
    tasks.cancel();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("done"), "{answer}");
}

/// The server closes the connection: by an end, or by a reset when something was left unread.
async fn ends(stream: &mut (impl AsyncRead + Unpin)) {
    let mut rest = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
    assert!(end.is_ok(), "the connection stays open");
}

#[tokio::test]
async fn a_client_certificate_reaches_the_handler() {
    let tasks = Tasks::new();
    let (ca, chain, key) = tls::tests::authority();
    let config = tls::server_config(tls::fixed_certificate(&chain, &key).unwrap(), Some(&ca)).unwrap();
    let handler = |request: Request<Body>| async move {
        request.extensions().get::<PeerCertificates>().map_or(0, |chain| chain.0.len()).to_string()
    };
    let router = Router::new().route("/peer", get(handler));
    let address = spawn(&tasks, "api", bind(local()).unwrap(), router, ServeOptions::tls(config)).unwrap();
    for (identity, expected) in [(Some((chain.as_str(), key.as_str())), "2"), (None, "0")] {
        let mut client = tls::client_config(&Trust::CaPem(ca.clone()), identity).unwrap();
        client.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap();
        assert_eq!(fetch_h2(stream).await.1, expected);
    }
    tasks.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn shutdown_lets_a_request_in_flight_finish() {
    let tasks = Tasks::new();
    let (started, mut has_started) = tokio::sync::mpsc::channel(1);
    let release = tasks.token();
    let slow = move || async move {
        started.send(()).await.unwrap();
        release.cancelled().await;
        "done"
    };
    let router = Router::new().route("/slow", get(slow));
    let address = spawn(&tasks, "api", bind(local()).unwrap(), router, ServeOptions::default()).unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    has_started.recv().await.unwrap();
    let mut answer = String::new();
    let (late, read) =
        tokio::join!(tasks.shutdown(Duration::from_secs(10)), stream.read_to_string(&mut answer));
    read.unwrap();
    assert!(late.is_empty());
    assert!(answer.ends_with("done"), "{answer}");
    TcpStream::connect(address).await.unwrap_err();
}

#[tokio::test]
async fn an_address_in_use_says_so() {
    let first = bind(local()).unwrap();
    let address = first.local_addr().unwrap();
    let error = bind(address).unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }), "{error:?}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}
