//! Health: what proxies are asked to probe, and what becomes of their findings.

use envoy_api::envoy::config::core::v3::HealthStatus;
use envoy_api::envoy::service::health::v3::health_check_request_or_endpoint_health_response::RequestType;
use envoy_api::envoy::service::health::v3::health_discovery_service_client::HealthDiscoveryServiceClient;
use envoy_api::envoy::service::health::v3::{
    ClusterEndpointsHealth, EndpointHealth, EndpointHealthResponse, HealthCheckRequest,
    HealthCheckRequestOrEndpointHealthResponse, LocalityEndpointsHealth,
};
use kds_proto::mesh::dataplane::networking::inbound::State;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

use crate::support::{CLUSTER, Proxy, Zone, document, networking, node};

fn found(cluster: &str, status: HealthStatus) -> HealthCheckRequestOrEndpointHealthResponse {
    let endpoint = EndpointHealth { health_status: status as i32, ..Default::default() };
    let locality = LocalityEndpointsHealth { endpoints_health: vec![endpoint], ..Default::default() };
    let health =
        ClusterEndpointsHealth { cluster_name: cluster.into(), locality_endpoints_health: vec![locality] };
    let response = EndpointHealthResponse { cluster_endpoints_health: vec![health], ..Default::default() };
    HealthCheckRequestOrEndpointHealthResponse {
        request_type: Some(RequestType::EndpointHealthResponse(response)),
    }
}

#[tokio::test]
async fn a_probed_inbound_becomes_ready_and_not_ready() {
    let zone = Zone::start().await;
    let mut probed = document("web", &[8080]);
    probed["networking"]["inbound"][0]["serviceProbe"] = json!({"tcp": {}});
    let token = zone.token("web");
    let mut proxy = Proxy::open(&zone, Some(&token), node("web", Some(&probed))).await;
    proxy.take_all(CLUSTER).await;
    let state = |snapshot: &store::Snapshot| networking(snapshot, "web").map(|held| held.inbound[0].state());
    zone.until("registered, not ready", |snapshot| state(snapshot) == Some(State::NotReady)).await;

    let (requests, receiver) = mpsc::channel(4);
    let mut request = Request::new(ReceiverStream::new(receiver));
    request.metadata_mut().insert("authorization", token.parse().unwrap());
    let first = HealthCheckRequest { node: Some(node("web", Some(&probed))), ..Default::default() };
    let request_type = Some(RequestType::HealthCheckRequest(first));
    requests.send(HealthCheckRequestOrEndpointHealthResponse { request_type }).await.unwrap();
    let mut client = HealthDiscoveryServiceClient::new(zone.channel().await);
    let mut specifiers = client.stream_health_check(request).await.unwrap().into_inner();
    let specifier = specifiers.message().await.unwrap().unwrap();
    let names: Vec<_> =
        specifier.cluster_health_checks.iter().map(|check| check.cluster_name.as_str()).collect();
    assert_eq!(names, ["localhost:8081"]);

    requests.send(found("localhost:8081", HealthStatus::Healthy)).await.unwrap();
    zone.until("ready", |snapshot| state(snapshot) == Some(State::Ready)).await;
    requests.send(found("localhost:8081", HealthStatus::Unhealthy)).await.unwrap();
    zone.until("not ready", |snapshot| state(snapshot) == Some(State::NotReady)).await;
    zone.stop().await;
}

#[tokio::test]
async fn health_wants_a_token_too() {
    let zone = Zone::start().await;
    let (requests, receiver) = mpsc::channel(1);
    let node = Some(node("web", Some(&document("web", &[8080]))));
    let request_type = Some(RequestType::HealthCheckRequest(HealthCheckRequest { node, capability: None }));
    requests.send(HealthCheckRequestOrEndpointHealthResponse { request_type }).await.unwrap();
    let mut client = HealthDiscoveryServiceClient::new(zone.channel().await);
    let mut specifiers =
        client.stream_health_check(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    assert_eq!(specifiers.message().await.unwrap_err().code(), tonic::Code::Unauthenticated);
    zone.stop().await;
}
