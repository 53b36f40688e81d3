//! One configuration stream of one proxy: from its first request to what its end means.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use envoy_api::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use futures::FutureExt;
use kds_proto::mesh::{DiscoverySubscription, DiscoverySubscriptionStatus};
use model::{Key, Kind, Resource};
use proxy_config::{Identity, Inputs, Metadata, Proxy, ResourceType};
use runtime::OnExit;
use runtime::serve::LastHeard;
use store::{Revision, Snapshot};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::MAX_NACK_BACKOFF;
use super::absence;
use super::context::Context;
use super::credentials;
use super::end::End;
use super::insight::{self, Observed};
use super::made::Made;
use super::metrics::ProblemCount;
use super::node::Peer;
use super::problems::Problems;
use super::proxies::{Place, Progress};
use super::registration;
use super::session::{Counters, Session};
use super::views::{MeshState, Subscription};

/// A peer that opens a stream says who it is at once.
const FIRST_REQUEST: Duration = Duration::from_secs(15);

/// Where responses go.
pub(super) type Responses = mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>;

/// A stream that was just accepted.
pub(super) struct Accepted {
    pub(super) token: Option<String>,
    pub(super) peer: Option<SocketAddr>,
    pub(super) heard: Option<LastHeard>,
    pub(super) requests: Streaming<DeltaDiscoveryRequest>,
    pub(super) responses: Responses,
}

impl Accepted {
    /// What the end of the requests means.
    fn end(&self, context: &Context) -> End {
        let unheard = self.heard.as_ref().map_or(Duration::ZERO, LastHeard::elapsed);
        End::of_none(unheard, context.config.keepalive)
    }
}

/// Serves a stream until it ends, and does what its end asks for.
pub(super) async fn run(context: Arc<Context>, mut accepted: Accepted) {
    let stop = context.tasks.token();
    let opened = tokio::select! {
        opened = open(&context, &mut accepted) => opened,
        () = stop.cancelled() => Err(Status::unavailable("the control plane is stopping")),
    };
    let mut stream = match opened {
        Ok(stream) => stream,
        Err(status) => {
            tracing::info!(peer = ?accepted.peer, code = ?status.code(), reason = status.message(), "stream refused");
            context.config.metrics.refused.inc();
            let _ = accepted.responses.send(Err(status)).await;
            return;
        }
    };
    context.config.metrics.connected.inc();
    let end = stream.serve(&mut accepted).await;
    context.config.metrics.connected.dec();
    let key = stream.place.live.key.clone();
    tracing::info!(dataplane = %key, %end, "proxy disconnected");
    if let Some(status) = end.status() {
        // The proxy may be gone already.
        let _ = accepted.responses.try_send(Err(status));
    }
    drop(accepted);
    let (registered, recorder) = stream.close();
    // An error would be a panic, which is logged where it happened.
    let _ = recorder.await;
    // Who did not bring its Dataplane along cannot say that it is ready again, but for its reports of health.
    if (end.is_departure() || end.is_silence()) && (registered || context.config.health.enabled) {
        absence::after(&context, &key, registered && end.is_departure()).await;
    }
}

/// Identifies the proxy, checks its token and registers its Dataplane.
async fn open(context: &Arc<Context>, accepted: &mut Accepted) -> Result<Stream, Status> {
    let first = tokio::time::timeout(FIRST_REQUEST, accepted.requests.message());
    let first = first.await.map_err(|_| Status::deadline_exceeded("no request came"))??;
    let first = first.ok_or_else(|| Status::cancelled("the stream ended before its first request"))?;
    let snapshot = Arc::clone(&context.deps.snapshots.borrow());
    let token = accepted.token.as_deref();
    let (peer, prepared) = identify(context, &snapshot, token, first.node.as_ref())?;
    let now = (context.now)();
    let place = {
        let _turn = context.turns.of(&peer.key).await;
        if let Some(prepared) = &prepared {
            let store = &*context.deps.store;
            registration::register(store, &snapshot, &context.credentials, token, prepared, now)
                .await
                .map_err(|error| error.status())?;
        }
        let entered = context.proxies.enter(peer.key.clone(), accepted.peer, peer.metadata.clone(), now);
        entered.map_err(|contested| Status::already_exists(contested.to_string()))?
    };
    tracing::info!(dataplane = %peer.key, peer = ?accepted.peer, "proxy connected");
    let subscription = DiscoverySubscription {
        id: uuid::Uuid::new_v4().to_string(),
        control_plane_instance_id: context.config.instance.clone(),
        connect_time: Some(now.to_proto()),
        status: Some(DiscoverySubscriptionStatus {
            last_update_time: Some(now.to_proto()),
            ..Default::default()
        }),
        version: Some(peer.version()),
        ..Default::default()
    };
    let observed = Observed { subscription, metadata: peer.metadata.clone(), certificate: None };
    let (observed_tx, observed_rx) = watch::channel(Arc::new(observed));
    let store = Arc::clone(&context.deps.store);
    let record = insight::record(store, peer.key.clone(), observed_rx, context.now);
    let recorder = context.tasks.spawn("proxy insight", OnExit::Ignore, record);
    let mut session = Session::new(&context.config.instance, peer.is_envoy);
    session.request(&first).map_err(|error| Status::resource_exhausted(error.to_string()))?;
    Ok(Stream {
        context: Arc::clone(context),
        mesh: context.views.subscribe(&peer.key.mesh),
        metadata: Metadata::from_struct(&peer.metadata),
        registered: prepared.is_some(),
        starting: prepared,
        place,
        session,
        stamp: credentials::stamp(&snapshot, &peer.key.mesh),
        token: accepted.token.clone(),
        identity: None,
        counted: Counters::default(),
        problems: Problems::default(),
        problem_count: context.config.metrics.problems(),
        retry: Retry::new(context.config.nack_backoff),
        observed: observed_tx,
        recorder,
    })
}

/// Who is at the other end, and the Dataplane it brings along, as this zone would store it.
pub(super) fn identify(
    context: &Context,
    snapshot: &Snapshot,
    token: Option<&str>,
    node: Option<&envoy_api::envoy::config::core::v3::Node>,
) -> Result<(Peer, Option<Resource>), Status> {
    let peer = Peer::of(node, snapshot).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let (mesh, name) = (&*peer.key.mesh, &*peer.key.name);
    if snapshot.resource(&Key::global(Kind::MESH, mesh)).is_none() {
        return Err(Status::failed_precondition(format!("mesh {mesh:?} does not exist")));
    }
    let prepared = match peer.dataplane() {
        Some(text) => {
            let parsed = registration::parse(text, mesh, name);
            let prepared = parsed.and_then(|given| registration::prepare(&context.deps.plane, given));
            Some(prepared.map_err(|error| error.status())?)
        }
        None => None,
    };
    let stored = || snapshot.resource(&peer.key).map(|resource| &**resource);
    let bearer = prepared.as_ref().or_else(stored);
    let bearer = bearer.ok_or_else(|| Status::not_found(format!("{} is not registered", peer.key)))?;
    context.credentials.check(snapshot, token, bearer).map_err(|refusal| refusal.status())?;
    Ok((peer, prepared))
}

/// A stream of a proxy that was let in.
struct Stream {
    context: Arc<Context>,
    place: Place,
    session: Session,
    mesh: Subscription,
    metadata: Metadata,
    registered: bool,
    /// The Dataplane that the proxy brought along, until it has its listeners.
    starting: Option<Resource>,
    token: Option<String>,
    /// What the token was checked with.
    stamp: Vec<Revision>,
    identity: Option<Arc<Identity>>,
    /// As far as metrics know.
    counted: Counters,
    problems: Problems,
    problem_count: ProblemCount,
    retry: Retry,
    observed: watch::Sender<Arc<Observed>>,
    recorder: JoinHandle<()>,
}

impl Stream {
    async fn serve(&mut self, accepted: &mut Accepted) -> End {
        let stop = self.context.tasks.token();
        let replaced = self.place.live.replaced.clone();
        let mut identities = self.context.deps.identities.changes();
        if let Err(end) = self.regenerate().await {
            return end;
        }
        let mut retry = None;
        // Whether there is something to send or to tell.
        let mut is_news = true;
        loop {
            if std::mem::replace(&mut is_news, true) {
                if let Err(end) = self.tell(accepted, &stop, &replaced).await {
                    return end;
                }
                retry = self.retry.at(&self.session);
            }
            tokio::select! {
                request = accepted.requests.message() => {
                    if let Err(end) = take(&self.context, &mut self.session, accepted, request) {
                        return end;
                    }
                }
                () = self.mesh.changed() => match self.regenerate().await {
                    Ok(is_other) => is_news = is_other,
                    Err(end) => return end,
                },
                Ok(()) = identities.changed() => self.renew().await,
                () = until(retry) => self.ask_again(),
                () = replaced.cancelled() => return End::Replaced,
                () = stop.cancelled() => return End::Stopping,
            }
        }
    }

    /// Reads what came, sends what is to be sent, and tells how the proxy stands.
    async fn tell(
        &mut self,
        accepted: &mut Accepted,
        stop: &CancellationToken,
        replaced: &CancellationToken,
    ) -> Result<(), End> {
        drain(&self.context, &mut self.session, accepted)?;
        for response in self.session.pump() {
            let sent = tokio::select! {
                sent = accepted.responses.send(Ok(response)) => sent,
                () = stop.cancelled() => return Err(End::Stopping),
                () = replaced.cancelled() => return Err(End::Replaced),
            };
            if sent.is_err() {
                let none = accepted.end(&self.context);
                return Err(End::of_requests(&mut accepted.requests, || none.clone()).await);
            }
        }
        self.report().await;
        if self.session.is_serving() {
            self.ready().await;
        }
        Ok(())
    }

    /// Lets others be sent to a proxy that has its first configuration. A store that is away is tried again when
    /// the proxy says something next.
    async fn ready(&mut self) {
        let Some(prepared) = &self.starting else { return };
        match registration::ready(&*self.context.deps.store, prepared, (self.context.now)()).await {
            Ok(_) => self.starting = None,
            Err(error) => tracing::warn!(dataplane = %prepared.key(), %error, "cannot mark a proxy as ready"),
        }
    }

    /// Makes the configuration from the newest view, if it is another one. A Dataplane that is gone leaves the last one
    /// in place.
    async fn regenerate(&mut self) -> Result<bool, End> {
        let context = Arc::clone(&self.context);
        if self.mesh.stands() {
            return Ok(false);
        }
        // What comes while waiting for the turn is in the view that is looked at then.
        let _turn = context.generators.acquire().await;
        let state = self.mesh.newest();
        let Some(dataplane) = state.snapshot.resource(&self.place.live.key) else { return Ok(false) };
        let stamp = credentials::stamp(&state.snapshot, dataplane.mesh());
        if stamp != self.stamp {
            let rechecked = context.credentials.recheck(&state.snapshot, self.token.as_deref(), dataplane);
            rechecked.map_err(End::Refused)?;
            self.stamp = stamp;
        }
        let identity = context.deps.identities.identity_of(&state.snapshot, dataplane);
        self.generate(&state, dataplane, identity);
        Ok(true)
    }

    /// Makes the configuration anew if the proxy has another certificate now.
    async fn renew(&mut self) {
        let context = Arc::clone(&self.context);
        let _turn = context.generators.acquire().await;
        let state = self.mesh.newest();
        let Some(dataplane) = state.snapshot.resource(&self.place.live.key) else { return };
        let identity = context.deps.identities.identity_of(&state.snapshot, dataplane);
        if identity != self.identity {
            self.generate(&state, dataplane, identity);
        }
    }

    fn proxy(&self, state: &MeshState, dataplane: &Arc<Resource>) -> Proxy {
        let proxy = Proxy::new(Arc::clone(dataplane), self.metadata.clone());
        match self.context.admin.tls_of(&state.snapshot, dataplane) {
            Some(tls) => proxy.with_admin_tls(tls),
            None => proxy,
        }
    }

    fn generate(
        &mut self,
        state: &Arc<MeshState>,
        dataplane: &Arc<Resource>,
        identity: Option<Arc<Identity>>,
    ) {
        let proxy = self.proxy(state, dataplane);
        let settings = &self.context.config.settings;
        let began = Instant::now();
        let config = Arc::new(proxy_config::generate(&state.view, &proxy, identity.as_deref(), settings));
        self.context.config.metrics.generated(began.elapsed());
        self.place.live.generated(Arc::clone(&config));
        self.problems.unapplied(&self.place.live.key, config.notes());
        self.session.advance(config);
        let trusts = state.snapshot.in_mesh(Kind::MESH_TRUST, dataplane.mesh());
        let trusted = trusts.filter_map(|trust| trust.kri()).map(|kri| kri.to_string()).collect();
        let now = (self.context.now)();
        self.observed.send_if_modified(|observed| {
            Arc::make_mut(observed).identified(identity.as_deref(), trusted, now)
        });
        self.identity = identity;
        let inputs = Inputs::of(&state.view, &proxy, settings);
        let relied = inputs.map(|inputs| {
            let made = Made { inputs, proxy, snapshot: Arc::clone(&state.snapshot) };
            made.relied(self.place.live.key.clone(), Arc::clone(&self.context))
        });
        self.mesh.rely(state, relied);
    }

    /// Asks for what was refused, once everything else is answered.
    fn ask_again(&mut self) {
        self.retry.asked();
        if self.session.is_settled() {
            self.session.retry();
        }
    }

    /// Tells how the proxy stands.
    async fn report(&mut self) {
        self.attribute().await;
        let total = self.session.total();
        self.context.config.metrics.counted(self.counted, total);
        self.counted = total;
        self.problem_count.set(self.problems.counts());
        let progress = Progress { settled: self.session.is_settled(), problems: self.problems.list() };
        self.place.live.progressed(progress);
        let now = (self.context.now)();
        let told = self.problems.told();
        self.observed.send_if_modified(|observed| {
            let observed = Arc::make_mut(observed);
            let is_troubled = observed.troubled(told);
            observed.counted(&self.session, now) || is_troubled
        });
    }

    /// Finds the policies behind what the proxy refused. Each is left out once to see what it does, which takes as
    /// long as it takes to make as many configurations: after a refusal only, and in turn with all others.
    async fn attribute(&mut self) {
        if self.problems.knows(self.session.refusals()) {
            return;
        }
        let context = Arc::clone(&self.context);
        let _turn = context.generators.acquire().await;
        let state = self.mesh.newest();
        let dataplane = state.snapshot.resource(&self.place.live.key);
        let proxy = dataplane.map(|dataplane| self.proxy(&state, dataplane));
        let policies = |type_url: &str, name: &str| {
            let kind = ResourceType::from_type_url(type_url)?;
            let (identity, settings) = (self.identity.as_deref(), &context.config.settings);
            Some(proxy_config::contributors(&state.view, proxy.as_ref()?, identity, settings, (kind, name)))
        };
        let refusals = self.session.refusals();
        self.problems.refused(&self.place.live.key, refusals, |type_url, name| {
            policies(type_url, name).unwrap_or_default()
        });
    }

    /// Gives up the place; answers whether the proxy brought its Dataplane, and who writes its insight.
    fn close(self) -> (bool, JoinHandle<()>) {
        (self.registered, self.recorder)
    }
}

/// When a proxy is asked again for what it refused.
struct Retry {
    first: Duration,
    pause: Duration,
    /// The refusals that had been counted, and when they are asked about again.
    next: Option<(u64, tokio::time::Instant)>,
}

impl Retry {
    fn new(first: Duration) -> Self {
        Self { first, pause: first, next: None }
    }

    /// When to ask again; `None` while nothing is refused. Each further refusal makes the pause longer.
    fn at(&mut self, session: &Session) -> Option<tokio::time::Instant> {
        if session.refusals().next().is_none() {
            *self = Self::new(self.first);
            return None;
        }
        let rejected = session.total().rejected;
        match self.next {
            Some((counted, at)) if counted == rejected => return Some(at),
            Some(_) => self.pause = (self.pause * 2).min(MAX_NACK_BACKOFF),
            None => {}
        }
        let at = tokio::time::Instant::now() + self.pause;
        self.next = Some((rejected, at));
        Some(at)
    }

    /// It was asked, and is asked again even if no answer comes.
    fn asked(&mut self) {
        if let Some((_, at)) = &mut self.next {
            *at = tokio::time::Instant::now() + self.pause;
        }
    }
}

/// Never, where there is no time.
async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Takes what has arrived already: a proxy that reconnects asks for all types at once, and what is sent of one
/// depends on what it asks for of the others.
fn drain(context: &Context, session: &mut Session, accepted: &mut Accepted) -> Result<(), End> {
    while let Some(request) = accepted.requests.message().now_or_never() {
        take(context, session, accepted, request)?;
    }
    Ok(())
}

fn take(
    context: &Context,
    session: &mut Session,
    accepted: &Accepted,
    request: Result<Option<DeltaDiscoveryRequest>, Status>,
) -> Result<(), End> {
    match request {
        Ok(Some(request)) => session.request(&request).map_err(|error| End::Excess(error.to_string())),
        Ok(None) => Err(accepted.end(context)),
        Err(status) => Err(End::of(&status)),
    }
}
