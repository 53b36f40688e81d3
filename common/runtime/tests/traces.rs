//! Requests leave traces at an OTLP collector.

use axum::Router;
use axum::body::Bytes;
use axum::http::header;
use axum::routing::{get, post};
use runtime::Tasks;
use runtime::serve::{self, ServeOptions};
use runtime::telemetry::{self, TelemetryConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_traced_to_the_collector() {
    let tasks = Tasks::new();
    let bind = || serve::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let (seen, mut exports) = mpsc::unbounded_channel();
    let collector = Router::new().route(
        EXPORT,
        post(move |body: Bytes| async move {
            seen.send(body).unwrap();
            [(header::CONTENT_TYPE.as_str(), "application/grpc"), ("grpc-status", "0")]
        }),
    );
    let options = ServeOptions::default;
    let collector = serve::spawn(&tasks, "collector", bind(), collector, options()).unwrap();
    let config =
        TelemetryConfig { otlp_endpoint: Some(format!("http://{collector}")), ..TelemetryConfig::default() };
    let guard = telemetry::init(&config, "traced").unwrap();

    let router = Router::new().route("/hello", get(|| async { "hello" }));
    let address = serve::spawn(&tasks, "greeter", bind(), router, options()).unwrap();
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET /hello HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("hello"), "{answer}");

    // What is buffered is sent before the guard is gone.
    guard.shutdown().await;
    let export = exports.recv().await.unwrap();
    let contains = |text: &str| export.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(contains("traced") && contains("request") && contains("/hello") && contains("greeter"));
    tasks.shutdown(std::time::Duration::from_secs(5)).await;
}
