//! The health discovery service: has Envoys probe the applications beside them, and writes what they find into the
//! Dataplanes. A report that says what the store says writes nothing.

mod checks;

use std::sync::Arc;
use std::time::Duration;

use envoy_api::envoy::service::health::v3::health_check_request_or_endpoint_health_response::RequestType;
use envoy_api::envoy::service::health::v3::health_discovery_service_server::HealthDiscoveryService;
use envoy_api::envoy::service::health::v3::{
    EndpointHealthResponse, HealthCheckRequestOrEndpointHealthResponse, HealthCheckSpecifier,
};
use model::spec::Dataplane;
use model::{Key, Resource};
use runtime::OnExit;
use store::retry_conflicts;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::ads::{peer, token};
use super::context::Context;
use super::node::Peer;
use super::stream::identify;
use super::views::Subscription;

/// A peer that opens a stream says who it is at once.
const FIRST_REQUEST: Duration = Duration::from_secs(15);

type Requests = Streaming<HealthCheckRequestOrEndpointHealthResponse>;
type Specifiers = mpsc::Sender<Result<HealthCheckSpecifier, Status>>;

/// Accepts health streams.
pub(super) struct Health(pub(super) Arc<Context>);

#[tonic::async_trait]
impl HealthDiscoveryService for Health {
    type StreamHealthCheckStream = ReceiverStream<Result<HealthCheckSpecifier, Status>>;

    async fn stream_health_check(
        &self,
        request: Request<Requests>,
    ) -> Result<Response<Self::StreamHealthCheckStream>, Status> {
        let token = token(request.metadata())?;
        let address = peer(&request);
        // A proxy gets one specifier at a time.
        let (specifiers, receiver) = mpsc::channel(1);
        let context = Arc::clone(&self.0);
        let mut requests = request.into_inner();
        let run = Box::pin(async move {
            let stop = context.tasks.token();
            let served = tokio::select! {
                served = serve(&context, token.as_deref(), &mut requests, &specifiers) => served,
                () = stop.cancelled() => Err(Status::unavailable("the control plane is stopping")),
            };
            if let Err(status) = served {
                tracing::debug!(peer = ?address, reason = status.message(), "health stream ended");
                let _ = specifiers.try_send(Err(status));
            }
        });
        self.0.tasks.spawn("health stream", OnExit::Ignore, run);
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn fetch_health_check(
        &self,
        _: Request<HealthCheckRequestOrEndpointHealthResponse>,
    ) -> Result<Response<HealthCheckSpecifier>, Status> {
        Err(Status::unimplemented("health is told over a stream"))
    }
}

async fn serve(
    context: &Context,
    token: Option<&str>,
    requests: &mut Requests,
    specifiers: &Specifiers,
) -> Result<(), Status> {
    let first = tokio::time::timeout(FIRST_REQUEST, requests.message());
    let first = first.await.map_err(|_| Status::deadline_exceeded("no request came"))??;
    let Some(RequestType::HealthCheckRequest(first)) = first.and_then(|first| first.request_type) else {
        return Err(Status::invalid_argument("the first request of a stream has to name its node"));
    };
    let snapshot = Arc::clone(&context.deps.snapshots.borrow());
    let (peer, _) = identify(context, &snapshot, token, first.node.as_ref())?;
    let mesh = context.views.subscribe(&peer.key.mesh);
    let mut sent = None;
    loop {
        let wanted = specifier(context, &peer, &mesh);
        if wanted.is_some() && wanted != sent {
            sent.clone_from(&wanted);
            let Some(wanted) = wanted else { continue };
            specifiers.send(Ok(wanted)).await.map_err(|_| Status::cancelled("the proxy takes no answer"))?;
        }
        tokio::select! {
            request = requests.message() => match request?.map(|request| request.request_type) {
                None => return Ok(()),
                Some(Some(RequestType::EndpointHealthResponse(report))) => {
                    observe(context, &peer.key, &report).await;
                }
                Some(_) => {}
            },
            () = mesh.changed() => {}
        }
    }
}

/// What a proxy is to probe; nothing before its Dataplane is there.
fn specifier(context: &Context, peer: &Peer, mesh: &Subscription) -> Option<HealthCheckSpecifier> {
    let state = mesh.newest();
    let (key, dataplane) = (peer.key.clone(), state.snapshot.resource(&peer.key).cloned());
    let held = dataplane.clone();
    mesh.rely(&state, Some(Box::new(move |state| same(state.snapshot.resource(&key), held.as_ref()))));
    let dataplane = dataplane?;
    let spec = dataplane.spec::<Dataplane>().ok()?;
    Some(checks::specifier(spec, peer, context.config.health.interval))
}

fn same(a: Option<&Arc<Resource>>, b: Option<&Arc<Resource>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

/// Writes what a proxy found, where it is something new.
async fn observe(context: &Context, key: &Key, report: &EndpointHealthResponse) {
    let health = checks::Report::of(report);
    let known = context.deps.snapshots.borrow().resource(key).cloned();
    let next = |held: &Resource| {
        let mut builder = held.to_builder().spec(&health.applied(held.spec::<Dataplane>().ok()?)?);
        builder.modified = (context.now)();
        Some(builder.build())
    };
    if known.as_deref().and_then(next).is_none() {
        return;
    }
    let written =
        retry_conflicts(&*context.deps.store, key, |stored| stored.and_then(|stored| next(&stored.resource)));
    match written.await {
        Ok(true) => tracing::info!(dataplane = %key, "health of inbounds changed"),
        Ok(false) => {}
        Err(error) => tracing::warn!(dataplane = %key, %error, "cannot write the health of inbounds"),
    }
}
