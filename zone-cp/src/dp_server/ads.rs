//! The aggregated discovery service: accepts configuration streams.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::ConnectInfo;
use envoy_api::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryService;
use envoy_api::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use runtime::OnExit;
use runtime::serve::LastHeard;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::context::Context;
use super::stream::{self, Accepted};

/// Responses on their way: one of each type, no more are made before these are answered.
const RESPONSES: usize = 8;

/// Accepts configuration streams.
pub(super) struct Ads(pub(super) Arc<Context>);

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = ReceiverStream<Result<DiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("use the delta protocol, as the bootstrap says"))
    }

    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let token = token(request.metadata())?;
        let peer = peer(&request);
        let heard = request.extensions().get::<LastHeard>().cloned();
        let (responses, receiver) = mpsc::channel(RESPONSES);
        let accepted = Accepted { token, peer, heard, requests: request.into_inner(), responses };
        // Boxed: most streams are idle, and a task holds its future's full size.
        let run = Box::pin(stream::run(Arc::clone(&self.0), accepted));
        self.0.tasks.spawn("proxy stream", OnExit::Ignore, run);
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Where a request came from.
pub(super) fn peer<T>(request: &Request<T>) -> Option<SocketAddr> {
    request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0)
}

/// The token of a request, if it has one.
pub(super) fn token(metadata: &MetadataMap) -> Result<Option<String>, Status> {
    let mut values = metadata.get_all("authorization").iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Status::unauthenticated("the metadata has more than one authorization"));
    }
    let text = value.to_str().map_err(|_| Status::unauthenticated("authorization is not a token"))?;
    Ok(Some(text.strip_prefix("Bearer ").unwrap_or(text).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_token_is_taken() {
        let mut metadata = MetadataMap::new();
        assert_eq!(token(&metadata).unwrap(), None);
        metadata.append("authorization", "a.b.c".parse().unwrap());
        assert_eq!(token(&metadata).unwrap().as_deref(), Some("a.b.c"));
        metadata.append("authorization", "a.b.c".parse().unwrap());
        assert_eq!(token(&metadata).unwrap_err().code(), tonic::Code::Unauthenticated);
    }
}
