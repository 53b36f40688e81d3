//! The loops that carry sessions over gRPC streams.

use std::sync::Arc;

use futures::StreamExt;
use kds_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use model::{Kind, Timestamp};
use store::Snapshot;
use tokio::sync::{mpsc, watch};
use tonic::{Status, Streaming};

use crate::client::ClientSession;
use crate::incoming::{Receiver, Role};
use crate::outgoing::held_versions;
use crate::server::ServerSession;
use crate::view::View;

/// Runs a serving stream until the peer ends it, `report` being called after each step that changed counters.
///
/// # Errors
/// The stream's end as a status; a peer that goes away is not an error.
pub async fn serve(
    mut session: ServerSession,
    mut views: watch::Receiver<Arc<View>>,
    mut requests: Streaming<DeltaDiscoveryRequest>,
    responses: mpsc::Sender<DeltaDiscoveryResponse>,
    mut report: impl FnMut(&ServerSession) + Send,
) -> Result<(), Status> {
    loop {
        let outputs = tokio::select! {
            request = requests.next() => match request {
                None => return Ok(()),
                Some(request) => {
                    let request = request?;
                    check_node(&request, &session)?;
                    session.request(request)
                }
            },
            changed = views.changed() => {
                changed.map_err(|_| Status::unavailable("the control plane is shutting down"))?;
                let view = views.borrow_and_update().clone();
                session.advance(view)
            }
        };
        report(&session);
        for output in outputs {
            if responses.send(output).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// The first request of a stream says who asks.
fn check_node(request: &DeltaDiscoveryRequest, session: &ServerSession) -> Result<(), Status> {
    match (&request.node, session.peer()) {
        (None, None) => Err(Status::invalid_argument("the first request of a stream names its node")),
        (Some(node), Some(peer)) if node.id != peer.id => {
            Err(Status::invalid_argument(format!("node {:?} became {:?}", peer.id, node.id)))
        }
        _ => Ok(()),
    }
}

/// Runs a consuming stream until the peer ends it: subscribes to `kinds` with what `snapshot` already holds,
/// writes what arrives and answers. `open` is polled while the first requests go out, because a peer may say
/// nothing, not even headers, before it was asked.
///
/// # Errors
/// The stream's end as a status, and a store that fails.
pub async fn consume(
    session: ClientSession,
    kinds: Vec<Kind>,
    snapshot: Arc<Snapshot>,
    receiver: Receiver,
    open: impl Future<Output = Result<Streaming<DeltaDiscoveryResponse>, Status>> + Send,
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    now: impl Fn() -> Timestamp + Send,
) -> Result<(), Status> {
    receiver.restart();
    let role = receiver.role();
    let with_status = matches!(role, Role::Global { .. });
    let held = kinds.into_iter().map(|kind| {
        (kind, held_versions(&snapshot, kind, |labels| role.is_from_peer(kind, labels), with_status))
    });
    let first: Vec<_> = session.subscribe(held).into_iter().collect();
    drop(snapshot);
    let ask = async {
        for request in first {
            // The end of the stream shows on the receiving side.
            let _ = requests.send(request).await;
        }
        Ok(())
    };
    let (mut responses, ()) = futures::future::try_join(open, ask).await?;
    while let Some(response) = responses.next().await {
        let answer = match session.response(response?) {
            Err(refusal) => *refusal,
            Ok(batch) => {
                let applied = receiver.apply(&batch, now()).await.map_err(|error| {
                    tracing::warn!(kind = %batch.kind, %error, "cannot write what arrived");
                    Status::unavailable(error.to_string())
                })?;
                for reason in &applied.rejected {
                    tracing::warn!(kind = %batch.kind, reason, "a resource is left out");
                }
                session.answer(&batch, &applied.rejected)
            }
        };
        if requests.send(answer).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}
