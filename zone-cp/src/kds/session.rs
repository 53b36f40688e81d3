//! One connection to the global: all streams on it, until the first of them ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use control_api::ProxyInspector;
use futures::StreamExt;
use kds::{ClientSession, Everything, MAX_MESSAGE, Receiver, Role, ServerSession, View, insight, node};
use kds_proto::mesh::ZoneHealthCheckRequest;
use kds_proto::mesh::global_kds_service_client::GlobalKdsServiceClient;
use kds_proto::mesh::kds_sync_service_client::KdsSyncServiceClient;
use model::Kind;
use runtime::{OnExit, Tasks};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::CompressionEncoding;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, Streaming};

use super::connect::connect;
use super::questions;
use super::{Deps, Link, LinkState, now};

/// The other side, in metrics.
const PEER: &str = "global";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Time between signs of life, unless the global asks for another.
const HEALTH_INTERVAL: Duration = Duration::from_secs(300);
/// Messages that may wait for a slow connection.
const QUEUE: usize = 4;

/// Adds what the global reads on every call.
#[derive(Clone)]
struct Introduce(Vec<(&'static str, MetadataValue<Ascii>)>);

impl Introduce {
    fn new(link: &Link) -> Result<Self, Status> {
        let mut headers = vec![
            ("client-id", link.zone.clone()),
            ("features", "zone-ping-health".into()),
            ("features", "hash-suffix".into()),
            ("kds-version", "v3".into()),
            ("zone-version", "v3".into()),
            ("version", VERSION.into()),
            ("isthmus-store-id", link.store_id.clone()),
        ];
        if let Some(token) = &link.token {
            headers.push(("authorization", format!("Bearer {}", token.expose())));
        }
        let parsed = headers.into_iter().map(|(name, value)| {
            let mut value: MetadataValue<Ascii> = value
                .parse()
                .map_err(|_| Status::invalid_argument(format!("the header {name} cannot be sent")))?;
            value.set_sensitive(name == "authorization");
            Ok((name, value))
        });
        parsed.collect::<Result<_, Status>>().map(Self)
    }
}

impl Interceptor for Introduce {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for (name, value) in &self.0 {
            request.metadata_mut().append(*name, value.clone());
        }
        Ok(request)
    }
}

type Transport = InterceptedService<Channel, Introduce>;

/// Connects and runs all streams until the first of them fails.
pub(super) async fn run(
    tasks: &Tasks,
    link: &Link,
    deps: &Deps,
    views: &watch::Receiver<Arc<View>>,
    state: &watch::Sender<LinkState>,
) -> Result<(), Status> {
    let channel = connect(&link.address, &link.trust).await?;
    let introduce = Introduce::new(link)?;
    let sync = || {
        KdsSyncServiceClient::with_interceptor(channel.clone(), introduce.clone())
            .send_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    };
    let global = GlobalKdsServiceClient::with_interceptor(channel.clone(), introduce.clone())
        .send_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Gzip);
    let proxies = &deps.proxies;
    tokio::select! {
        end = receive(sync(), link, deps, state) => end,
        end = send(tasks, sync(), link, deps, views.clone()) => end,
        end = health(global.clone()) => end,
        end = xds_configs(global.clone(), Arc::clone(proxies)) => end,
        end = stats(global.clone(), Arc::clone(proxies)) => end,
        end = clusters(global, Arc::clone(proxies)) => end,
    }
}

/// Consumes what the global offers.
async fn receive(
    mut client: KdsSyncServiceClient<Transport>,
    link: &Link,
    deps: &Deps,
    state: &watch::Sender<LinkState>,
) -> Result<(), Status> {
    let session = ClientSession::new(node(&link.zone, VERSION, &link.instance, &link.config));
    let snapshot = Arc::clone(&deps.snapshots.borrow());
    let receiver =
        Receiver::new(Arc::clone(&deps.store), Role::Zone, deps.metrics.clone()).guarded(deps.guard.clone());
    let (tx, rx) = mpsc::channel(QUEUE);
    let open = async {
        let responses = client.global_to_zone_sync(ReceiverStream::new(rx)).await?;
        tracing::info!(global = %link.address, "connected to the global");
        state.send_replace(LinkState::Connected(now()));
        Ok(responses.into_inner())
    };
    let _counted = deps.metrics.open(PEER, "global to zone");
    let kinds = Kind::global_to_zone().collect();
    kds::consume(session, kinds, snapshot, receiver, open, tx, now).await
}

/// Serves what the zone has, and keeps the mirror image of the global's insight.
async fn send(
    tasks: &Tasks,
    mut client: KdsSyncServiceClient<Transport>,
    link: &Link,
    deps: &Deps,
    mut views: watch::Receiver<Arc<View>>,
) -> Result<(), Status> {
    let (tx, rx) = mpsc::channel(QUEUE);
    let requests = client.zone_to_global_sync(ReceiverStream::new(rx)).await?.into_inner();
    let view = views.borrow_and_update().clone();
    let session = ServerSession::new(&link.zone, view, Box::new(Everything));
    let id = uuid::Uuid::new_v4().to_string();
    let mut opened = insight::subscription(id, "", link.token.is_some(), now());
    opened.zone_instance_id.clone_from(&link.instance);
    let (subscription, changes) = watch::channel(opened);
    let record = insight::record(Arc::clone(&deps.store), link.zone.clone(), changes, now);
    tasks.spawn("insight", OnExit::Ignore, record);
    let instance = link.instance.clone();
    let _counted = deps.metrics.open(PEER, "zone to global");
    let (metrics, mut seen) = (deps.metrics.clone(), BTreeMap::new());
    kds::serve(session, views, requests, tx, move |session| {
        metrics.served(PEER, &mut seen, session);
        subscription.send_if_modified(|subscription| {
            let changed = insight::observe(subscription, session, now());
            if let Some(global) = session.peer() {
                subscription.global_instance_id.clone_from(&global.instance);
                subscription.zone_instance_id.clone_from(&instance);
            }
            changed
        });
    })
    .await
}

/// Tells the global that the zone is alive. A global without that service is left alone.
async fn health(mut client: GlobalKdsServiceClient<Transport>) -> Result<(), Status> {
    loop {
        let answer = match client.health_check(ZoneHealthCheckRequest {}).await {
            Err(status) if status.code() == Code::Unimplemented => std::future::pending().await,
            answer => answer?.into_inner(),
        };
        let asked = answer.interval.and_then(|interval| Duration::try_from(interval).ok());
        tokio::time::sleep(asked.filter(|asked| !asked.is_zero()).unwrap_or(HEALTH_INTERVAL)).await;
    }
}

async fn xds_configs(
    mut client: GlobalKdsServiceClient<Transport>,
    proxies: Arc<dyn ProxyInspector>,
) -> Result<(), Status> {
    let (tx, rx) = mpsc::channel(QUEUE);
    answer_all(client.stream_xds_configs(ReceiverStream::new(rx)), proxies, tx).await
}

async fn stats(
    mut client: GlobalKdsServiceClient<Transport>,
    proxies: Arc<dyn ProxyInspector>,
) -> Result<(), Status> {
    let (tx, rx) = mpsc::channel(QUEUE);
    answer_all(client.stream_stats(ReceiverStream::new(rx)), proxies, tx).await
}

async fn clusters(
    mut client: GlobalKdsServiceClient<Transport>,
    proxies: Arc<dyn ProxyInspector>,
) -> Result<(), Status> {
    let (tx, rx) = mpsc::channel(QUEUE);
    answer_all(client.stream_clusters(ReceiverStream::new(rx)), proxies, tx).await
}

/// Questions that are answered at the same time; more wait.
const AT_ONCE: usize = 16;

/// Answers the questions of one stream. A global without that service is left alone.
async fn answer_all<R: questions::Request>(
    open: impl Future<Output = Result<Response<Streaming<R>>, Status>>,
    proxies: Arc<dyn ProxyInspector>,
    answers: mpsc::Sender<R::Response>,
) -> Result<(), Status> {
    let requests = match open.await {
        Err(status) if status.code() == Code::Unimplemented => std::future::pending().await,
        opened => opened?.into_inner(),
    };
    let mut answered = requests
        .map(|request| {
            let proxies = Arc::clone(&proxies);
            async move { Ok::<_, Status>(questions::answer(&*proxies, request?).await) }
        })
        .buffer_unordered(AT_ONCE);
    while let Some(answer) = answered.next().await {
        if answers.send(answer?).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}
