//! `POST /bootstrap` over TLS.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use runtime::tls::{Trust, client_config};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{Zone, document};

/// Status and body.
pub(crate) async fn post(zone: &Zone, host: &str, body: String) -> (StatusCode, String) {
    let address = zone.handle.address();
    let config = client_config(&Trust::CaPem(zone.ca.clone()), None).unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let stream = TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let exchange = async move {
        let request = Request::post("/bootstrap")
            .header("host", host)
            .header("accept", "application/json")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        (head.status, String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap())
    };
    let (answer, _) = tokio::join!(exchange, connection);
    answer
}

/// A request as agents send it.
pub(crate) fn request(zone: &Zone, name: &str, workdir: &str) -> Value {
    json!({
        "mesh": "default", "name": name, "proxyType": "dataplane",
        "dataplaneToken": zone.token(name), "dataplaneResource": document(name, &[8080]).to_string(),
        "version": {"kumaDp": {"version": "1.0"}, "envoy": {"version": "1.40.0", "kumaDpCompatible": true}},
        "dynamicMetadata": {}, "readinessPort": 9902, "operatingSystem": "linux",
        "features": ["feature-reuse-port"], "workdir": workdir, "ipv6Enabled": false,
    })
}

pub(crate) fn envoy_config(body: &str) -> Value {
    let body: Value = serde_json::from_str(body).unwrap();
    let text = STANDARD.decode(body["bootstrap"].as_str().unwrap()).unwrap();
    let documents = model::yaml::documents(std::str::from_utf8(&text).unwrap()).unwrap();
    documents.into_iter().next().unwrap()
}

#[tokio::test]
async fn an_agent_gets_what_envoy_starts_with() {
    let zone = Zone::start().await;
    let (status, body) = post(&zone, "localhost:5678", request(&zone, "web", "/w").to_string()).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let config = envoy_config(&body);
    assert_eq!(config["node"]["id"], "default.web");
    assert_eq!(config["node"]["metadata"]["dataplane.readinessReporter.port"], "9902");
    assert_eq!(config["node"]["metadata"]["version"]["envoy"]["version"], "1.40.0");
    assert_eq!(config["admin"]["address"]["pipe"]["path"], "/w/kuma-envoy-admin.sock");
    let cluster = &config["static_resources"]["clusters"][0];
    let address = &cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"];
    assert_eq!(address["socket_address"]["address"], "localhost");
    assert_eq!(address["socket_address"]["port_value"], zone.handle.address().port());
    let service = &config["dynamic_resources"]["ads_config"]["grpc_services"][0];
    assert_eq!(service["initial_metadata"][0]["key"], "authorization");
    let secret = &config["static_resources"]["secrets"][0]["validation_context"];
    assert_eq!(secret["trusted_ca"]["inline_string"], zone.ca);
    zone.stop().await;
}

#[tokio::test]
async fn refusals_say_what_is_wrong() {
    let zone = Zone::start().await;
    let base = request(&zone, "web", "/w");
    let with = |key: &str, value: Value| {
        let mut request = base.clone();
        request[key] = value;
        request.to_string()
    };
    for (body, status, words) in [
        ("{".to_owned(), StatusCode::BAD_REQUEST, "JSON"),
        (with("mesh", json!("nowhere")), StatusCode::UNPROCESSABLE_ENTITY, "does not exist"),
        (with("proxyType", json!("ingress")), StatusCode::UNPROCESSABLE_ENTITY, "proxyType"),
        (with("dataplaneToken", json!("")), StatusCode::UNPROCESSABLE_ENTITY, "token is required"),
        (with("dataplaneToken", json!("x")), StatusCode::UNAUTHORIZED, "malformed"),
        (with("dataplaneToken", json!(zone.token("db"))), StatusCode::FORBIDDEN, "is for name \"db\""),
        (with("dataplaneResource", json!("type: Mesh")), StatusCode::UNPROCESSABLE_ENTITY, "Dataplane"),
        (with("caCert", json!("no PEM")), StatusCode::BAD_REQUEST, "caCert"),
        (with("dataplaneResource", json!("")), StatusCode::NOT_FOUND, ""),
    ] {
        let (got, text) = post(&zone, "localhost", body).await;
        assert_eq!(got, status, "{text}");
        assert!(text.contains(words), "{text}");
    }
    let (status, text) = post(&zone, "elsewhere", base.to_string()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("\"localhost\", \"127.0.0.1\""), "{text}");
    zone.stop().await;
}
