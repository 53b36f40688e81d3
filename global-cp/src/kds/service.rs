//! The RPCs of zones.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use futures::{Stream as Messages, StreamExt};
use kds::{ClientSession, Receiver, Role, ServerSession, ZoneScope, insight, node};
use kds_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use kds_proto::mesh::global_kds_service_server::GlobalKdsService;
use kds_proto::mesh::kds_sync_service_server::KdsSyncService;
use kds_proto::mesh::{
    ClustersRequest, ClustersResponse, StatsRequest, StatsResponse, XdsConfigRequest, XdsConfigResponse,
    ZoneHealthCheckRequest, ZoneHealthCheckResponse,
};
use kds_proto::system::{HealthCheck, KdsStream, KdsStreams};
use model::spec::Zone;
use model::{Key, Kind, Resource, Timestamp, labels, labels::Plane};
use runtime::{OnExit, Tasks};
use store::{Op, StoreError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::admin::{Admin, FromQuestion, IntoAnswer};
use super::identify::{Caller, identify};
use super::zones::{Guard, Stream, Zones};
use super::{Deps, Views};

/// Name of the global in its responses.
const IDENTIFIER: &str = "global";
/// Responses that may wait for a slow connection; sessions themselves keep only one a type unanswered.
const QUEUE: usize = 4;

type Outbound<T> = Pin<Box<dyn Messages<Item = Result<T, Status>> + Send>>;

/// Answers zones.
pub(super) struct Service {
    tasks: Tasks,
    deps: Deps,
    views: Views,
    zones: Zones,
    admin: Arc<Admin>,
}

fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}

impl Service {
    pub(super) fn new(tasks: Tasks, deps: Deps, views: Views, admin: Arc<Admin>) -> Self {
        Self { tasks, deps, views, zones: Zones::default(), admin }
    }

    fn identify<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        let snapshot = Arc::clone(&self.deps.snapshots.borrow());
        let caller = identify(self.deps.zone_auth, request.metadata(), &snapshot, SystemTime::now());
        caller.inspect_err(|status| tracing::warn!(reason = status.message(), "a zone is refused"))
    }

    /// Identifies the zone of a stream, registers it and notes which instance serves it.
    async fn open<T>(&self, request: &Request<T>, stream: Stream) -> Result<(Caller, Guard), Status> {
        let caller = self.identify(request)?;
        let guard = self.zones.open(&caller, stream)?;
        self.register(&caller.zone).await.map_err(unavailable)?;
        let mark = KdsStream {
            global_instance_id: self.deps.instance.clone(),
            connect_time: Some(now().to_proto()),
        };
        let noted = insight::update(&self.deps.store, &caller.zone, now(), |insight| {
            let streams = insight.kds_streams.get_or_insert_with(KdsStreams::default);
            *slot(streams, stream) = Some(mark.clone());
        });
        noted.await.map_err(unavailable)?;
        Ok((caller, guard))
    }

    /// Creates the Zone of a zone that connects for the first time.
    async fn register(&self, zone: &str) -> Result<(), StoreError> {
        let key = Key::global(Kind::ZONE, zone);
        if self.deps.store.get(&key).await?.is_some() {
            return Ok(());
        }
        let labels = labels::compute(&Plane::Global, Kind::ZONE, "", zone, &model::Labels::new(), None);
        let spec = Zone { enabled: Some(true) };
        let resource = Resource::builder(key).labels(labels).spec(&spec).at(now()).build();
        match self.deps.store.commit(vec![Op::create(resource)]).await {
            Ok(_) => {
                tracing::info!(zone, "a new zone is registered");
                Ok(())
            }
            Err(StoreError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Runs a stream as a task until it ends, is replaced, or the process stops.
    fn run<T, F>(
        &self,
        name: &'static str,
        caller: &Caller,
        guard: Guard,
        rx: mpsc::Receiver<T>,
        work: F,
    ) -> Outbound<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let (end, ended) = oneshot::channel();
        let (zone, stop) = (caller.zone.clone(), self.tasks.token());
        let counted = self.deps.metrics.open(&zone, name);
        let taken_back = caller.clone().until_taken_back(self.deps.snapshots.clone());
        self.tasks.spawn(format!("{name} {zone}"), OnExit::Ignore, async move {
            let result = tokio::select! {
                result = work => result,
                () = guard.replaced.cancelled() => {
                    Err(Status::cancelled("a newer stream of this zone took over"))
                }
                status = taken_back => Err(status),
                () = stop.cancelled() => Err(Status::unavailable("the control plane is shutting down")),
            };
            match &result {
                Ok(()) => tracing::info!(zone, stream = name, "stream closed"),
                Err(status) => tracing::info!(zone, stream = name, reason = status.message(), "stream ended"),
            }
            drop(counted);
            // The peer may be gone already.
            let _ = end.send(result);
        });
        let last = futures::stream::once(ended)
            .filter_map(|end| std::future::ready(end.ok().and_then(Result::err).map(Err)));
        Box::pin(ReceiverStream::new(rx).map(Ok).chain(last))
    }

    async fn reverse<Q, A>(
        &self,
        request: Request<Streaming<A>>,
        (stream, name): (Stream, &'static str),
    ) -> Result<Response<Outbound<Q>>, Status>
    where
        Q: FromQuestion + Send + 'static,
        A: IntoAnswer + Send + 'static,
    {
        let (caller, guard) = self.open(&request, stream).await?;
        let mut answers = request.into_inner();
        let mut questions = self.admin.link(&caller.zone, stream);
        let (tx, rx) = mpsc::channel(QUEUE);
        let admin = Arc::clone(&self.admin);
        let work = async move {
            loop {
                tokio::select! {
                    answer = answers.next() => match answer {
                        None => return Ok(()),
                        Some(answer) => {
                            let (id, answer) = answer?.into_answer();
                            admin.answered(&id, answer);
                        }
                    },
                    Some(question) = questions.recv() => {
                        if tx.send(Q::from_question(question)).await.is_err() {
                            return Ok(());
                        }
                    }
                }
            }
        };
        Ok(Response::new(self.run(name, &caller, guard, rx, work)))
    }
}

fn slot(streams: &mut KdsStreams, stream: Stream) -> &mut Option<KdsStream> {
    match stream {
        Stream::GlobalToZone => &mut streams.global_to_zone,
        Stream::ZoneToGlobal => &mut streams.zone_to_global,
        Stream::Config => &mut streams.config_dump,
        Stream::Stats => &mut streams.stats,
        Stream::Clusters => &mut streams.clusters,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "map_err passes the error by value")]
fn unavailable(error: StoreError) -> Status {
    Status::unavailable(error.to_string())
}

#[async_trait]
impl KdsSyncService for Service {
    type GlobalToZoneSyncStream = Outbound<DeltaDiscoveryResponse>;
    type ZoneToGlobalSyncStream = Outbound<DeltaDiscoveryRequest>;

    async fn global_to_zone_sync(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::GlobalToZoneSyncStream>, Status> {
        let (caller, guard) = self.open(&request, Stream::GlobalToZone).await?;
        let mut views = self.views.clone();
        let view = views.borrow_and_update().clone();
        let session = ServerSession::new(IDENTIFIER, view, Box::new(ZoneScope::new(&caller.zone)));
        let id = uuid::Uuid::new_v4().to_string();
        let opened = insight::subscription(id, &self.deps.instance, caller.has_token, now());
        let (subscription, changes) = watch::channel(opened);
        let record = insight::record(Arc::clone(&self.deps.store), caller.zone.clone(), changes, now);
        self.tasks.spawn(format!("insight of {}", caller.zone), OnExit::Ignore, record);
        let (tx, rx) = mpsc::channel(QUEUE);
        let (metrics, zone, mut seen) = (self.deps.metrics.clone(), caller.zone.clone(), BTreeMap::new());
        let work = kds::serve(session, views, request.into_inner(), tx, move |session| {
            metrics.served(&zone, &mut seen, session);
            subscription.send_if_modified(|subscription| insight::observe(subscription, session, now()));
        });
        Ok(Response::new(self.run("global to zone", &caller, guard, rx, work)))
    }

    async fn zone_to_global_sync(
        &self,
        request: Request<Streaming<DeltaDiscoveryResponse>>,
    ) -> Result<Response<Self::ZoneToGlobalSyncStream>, Status> {
        let (caller, guard) = self.open(&request, Stream::ZoneToGlobal).await?;
        let role = Role::Global { zone: caller.zone.clone() };
        let receiver = Receiver::new(Arc::clone(&self.deps.store), role, self.deps.metrics.clone())
            .guarded(self.deps.guard.clone());
        let introduction = node(&caller.zone, env!("CARGO_PKG_VERSION"), &self.deps.instance, "{}");
        let session = ClientSession::new(introduction);
        let snapshot = Arc::clone(&self.deps.snapshots.borrow());
        let (tx, rx) = mpsc::channel(QUEUE);
        let kinds = Kind::zone_to_global().collect();
        let responses = std::future::ready(Ok(request.into_inner()));
        let work = kds::consume(session, kinds, snapshot, receiver, responses, tx, now);
        Ok(Response::new(self.run("zone to global", &caller, guard, rx, work)))
    }
}

#[async_trait]
impl GlobalKdsService for Service {
    type StreamXDSConfigsStream = Outbound<XdsConfigRequest>;
    type StreamStatsStream = Outbound<StatsRequest>;
    type StreamClustersStream = Outbound<ClustersRequest>;

    async fn stream_xds_configs(
        &self,
        request: Request<Streaming<XdsConfigResponse>>,
    ) -> Result<Response<Self::StreamXDSConfigsStream>, Status> {
        self.reverse(request, (Stream::Config, "proxy configuration")).await
    }

    async fn stream_stats(
        &self,
        request: Request<Streaming<StatsResponse>>,
    ) -> Result<Response<Self::StreamStatsStream>, Status> {
        self.reverse(request, (Stream::Stats, "proxy statistics")).await
    }

    async fn stream_clusters(
        &self,
        request: Request<Streaming<ClustersResponse>>,
    ) -> Result<Response<Self::StreamClustersStream>, Status> {
        self.reverse(request, (Stream::Clusters, "proxy clusters")).await
    }

    async fn health_check(
        &self,
        request: Request<ZoneHealthCheckRequest>,
    ) -> Result<Response<ZoneHealthCheckResponse>, Status> {
        let caller = self.identify(&request)?;
        let time = Some(now().to_proto());
        let noted = insight::update(&self.deps.store, &caller.zone, now(), |insight| {
            insight.health_check = Some(HealthCheck { time });
        });
        noted.await.map_err(unavailable)?;
        // No interval: the zone keeps its own, because keepalive already tells a dead connection.
        Ok(Response::new(ZoneHealthCheckResponse { interval: None }))
    }
}
