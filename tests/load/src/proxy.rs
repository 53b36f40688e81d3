//! A proxy that is played: it connects as Envoy does, asks for clusters, endpoints and listeners, acknowledges at
//! once, and notes what it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use envoy_api::envoy::config::cluster::v3::Cluster;
use envoy_api::envoy::config::core::v3::Node;
use envoy_api::envoy::config::core::v3::address::Address;
use envoy_api::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_api::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_api::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_api::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use prost::Message;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
/// Beginning of the addresses of the endpoint that moves.
pub(crate) const MOVING: &str = "10.255.";
/// Names of clusters of services begin so.
const SERVICE: &str = "kri_msvc_";
/// Between two attempts to connect: those who measure do not wait for a backoff.
const PAUSE: Duration = Duration::from_millis(50);
const QUEUE: usize = 16;
const MAX_MESSAGE: usize = 64 << 20;

/// The control plane of the proxies.
pub(crate) struct Plane {
    pub(crate) port: u16,
    pub(crate) ca: String,
}

/// Something that a proxy gets to know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// It has its first clusters and listeners.
    Configured,
    /// It is connected again.
    Reconnected,
    /// Its clusters have this timeout, milliseconds.
    Timeout(u64),
    /// An endpoint that moves is at this address.
    Moved(String),
}

/// What a proxy holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    pub(crate) number: usize,
    /// Addresses by the display name of the service.
    pub(crate) endpoints: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Default)]
struct State {
    held: Vec<Held>,
    /// Who has noted an event, and when the last one did.
    events: BTreeMap<Event, (BTreeSet<usize>, Option<Instant>)>,
    changed: Option<Instant>,
}

/// All proxies of a run.
pub(crate) struct Swarm {
    state: Mutex<State>,
    changed: Notify,
    responses: AtomicU64,
    resources: AtomicU64,
    removals: AtomicU64,
    refusals: AtomicU64,
    ended: Mutex<Option<String>>,
}

impl Swarm {
    pub(crate) fn new(count: usize) -> Arc<Self> {
        let held = (0..count).map(|number| Held { number, ..Held::default() }).collect();
        Arc::new(Self {
            state: Mutex::new(State { held, ..State::default() }),
            changed: Notify::new(),
            responses: AtomicU64::new(0),
            resources: AtomicU64::new(0),
            removals: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            ended: Mutex::new(None),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, number: usize, event: Event) {
        let mut state = self.lock();
        let (who, when) = state.events.entry(event).or_default();
        if who.insert(number) {
            *when = Some(Instant::now());
            self.changed.notify_one();
        }
    }

    fn holds(&self, number: usize, service: &str, addresses: BTreeSet<String>) {
        let mut state = self.lock();
        state.changed = Some(Instant::now());
        if let Some(held) = state.held.get_mut(number) {
            held.endpoints.insert(service.to_owned(), addresses);
        }
        self.changed.notify_one();
    }

    /// Forgets who has noted an event.
    pub(crate) fn forget(&self, event: &Event) {
        self.lock().events.remove(event);
    }

    /// Waits until so many have noted an event; tells when the last one did.
    pub(crate) async fn until(
        &self,
        what: &str,
        limit: Duration,
        event: Event,
        count: usize,
    ) -> anyhow::Result<Instant> {
        self.wait(what, limit, |state| {
            let (who, when) = state.events.get(&event)?;
            if who.len() >= count { *when } else { None }
        })
        .await
    }

    /// Waits until each holds what it must; tells when the last one did.
    pub(crate) async fn until_all(
        &self,
        what: &str,
        limit: Duration,
        is_complete: impl Fn(&Held) -> bool,
    ) -> anyhow::Result<Instant> {
        self.wait(what, limit, |state| if state.held.iter().all(&is_complete) { state.changed } else { None })
            .await
    }

    async fn wait(
        &self,
        what: &str,
        limit: Duration,
        look: impl Fn(&State) -> Option<Instant>,
    ) -> anyhow::Result<Instant> {
        let waited = async {
            loop {
                if let Some(when) = look(&self.lock()) {
                    return when;
                }
                self.changed.notified().await;
            }
        };
        let ended = || self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let late =
            |_| anyhow::anyhow!("{what}: not within {limit:?}; the last stream that ended: {:?}", ended());
        tokio::time::timeout(limit, waited).await.map_err(late)
    }

    pub(crate) fn held(&self) -> Vec<Held> {
        self.lock().held.clone()
    }

    /// Responses that came so far.
    pub(crate) fn responses(&self) -> u64 {
        self.responses.load(Ordering::Relaxed)
    }

    /// Resources that came so far.
    pub(crate) fn resources(&self) -> u64 {
        self.resources.load(Ordering::Relaxed)
    }

    /// Resources that were taken away so far.
    pub(crate) fn removals(&self) -> u64 {
        self.removals.load(Ordering::Relaxed)
    }

    /// Streams that the control plane would not have.
    pub(crate) fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }
}

/// One played proxy.
pub(crate) struct Proxy {
    number: usize,
    node: Node,
    token: String,
    plane: Arc<Plane>,
    swarm: Arc<Swarm>,
    /// Versions by type and name.
    versions: BTreeMap<&'static str, BTreeMap<String, String>>,
    connections: usize,
}

impl Proxy {
    pub(crate) fn new(
        number: usize,
        dataplane: &serde_json::Value,
        token: String,
        plane: Arc<Plane>,
        swarm: Arc<Swarm>,
    ) -> anyhow::Result<Self> {
        let name = dataplane["name"].as_str().context("a Dataplane without a name")?;
        let text = |text: String| Value { kind: Some(Kind::StringValue(text)) };
        let metadata = [
            ("dataplane.resource", text(dataplane.to_string())),
            ("dataplane.proxyType", text("dataplane".to_owned())),
            ("dataplane.admin.port", text("9901".to_owned())),
        ];
        let fields = metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let node = Node {
            id: format!("default.{name}"),
            cluster: name.to_owned(),
            metadata: Some(Struct { fields }),
            user_agent_name: "envoy".to_owned(),
            ..Node::default()
        };
        Ok(Self { number, node, token, plane, swarm, versions: BTreeMap::new(), connections: 0 })
    }

    /// Stays connected until it is aborted.
    pub(crate) async fn keep(mut self) {
        loop {
            if let Err(error) = self.connected().await {
                let refused = error.downcast_ref::<tonic::Status>().is_some_and(|status| {
                    matches!(status.code(), tonic::Code::Unauthenticated | tonic::Code::PermissionDenied)
                });
                self.swarm.refusals.fetch_add(u64::from(refused), Ordering::Relaxed);
                let mut ended = self.swarm.ended.lock().unwrap_or_else(PoisonError::into_inner);
                *ended = Some(format!("{error:#}"));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn connected(&mut self) -> anyhow::Result<()> {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.plane.ca))
            .domain_name("localhost");
        let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{}", self.plane.port))?;
        let channel = endpoint.tls_config(tls)?.tcp_nodelay(true).connect().await?;
        let (requests, receiver) = mpsc::channel(QUEUE);
        self.subscribe(&requests).await?;
        let mut request = Request::new(ReceiverStream::new(receiver));
        request.metadata_mut().insert("authorization", self.token.parse()?);
        let mut client =
            AggregatedDiscoveryServiceClient::<Channel>::new(channel).max_decoding_message_size(MAX_MESSAGE);
        let mut responses = client.delta_aggregated_resources(request).await?.into_inner();
        self.connections += 1;
        if self.connections > 1 {
            self.swarm.note(self.number, Event::Reconnected);
        }
        while let Some(response) = responses.message().await? {
            self.take(response, &requests).await?;
        }
        Ok(())
    }

    async fn subscribe(&self, requests: &mpsc::Sender<DeltaDiscoveryRequest>) -> anyhow::Result<()> {
        let held = |kind| self.versions.get(kind).cloned().unwrap_or_default();
        let ask = |kind: &str, names: Vec<String>, held: BTreeMap<String, String>| DeltaDiscoveryRequest {
            type_url: kind.to_owned(),
            resource_names_subscribe: names,
            initial_resource_versions: held,
            ..DeltaDiscoveryRequest::default()
        };
        let first = ask(CLUSTER, vec!["*".to_owned()], held(CLUSTER));
        requests.send(DeltaDiscoveryRequest { node: Some(self.node.clone()), ..first }).await?;
        let endpoints = held(ENDPOINTS);
        if !endpoints.is_empty() {
            requests.send(ask(ENDPOINTS, endpoints.keys().cloned().collect(), endpoints)).await?;
        }
        requests.send(ask(LISTENER, vec!["*".to_owned()], held(LISTENER))).await?;
        Ok(())
    }

    async fn take(
        &mut self,
        response: DeltaDiscoveryResponse,
        requests: &mpsc::Sender<DeltaDiscoveryRequest>,
    ) -> anyhow::Result<()> {
        self.swarm.responses.fetch_add(1, Ordering::Relaxed);
        self.swarm.resources.fetch_add(response.resources.len() as u64, Ordering::Relaxed);
        self.swarm.removals.fetch_add(response.removed_resources.len() as u64, Ordering::Relaxed);
        let kind = [CLUSTER, ENDPOINTS, LISTENER].into_iter().find(|kind| *kind == response.type_url);
        let mut subscribe = Vec::new();
        let mut events = Vec::new();
        for resource in &response.resources {
            let value = resource.resource.as_ref().map(|any| any.value.as_slice()).unwrap_or_default();
            if let Some(kind) = kind {
                let versions = self.versions.entry(kind).or_default();
                let is_new = versions.insert(resource.name.clone(), resource.version.clone()).is_none();
                if kind == CLUSTER && resource.name.starts_with(SERVICE) {
                    events.extend(timeout(value)?.map(Event::Timeout));
                    subscribe.extend(is_new.then(|| resource.name.clone()));
                }
            }
            if kind == Some(ENDPOINTS) {
                let addresses = addresses(value)?;
                events.extend(
                    addresses.iter().filter(|one| one.starts_with(MOVING)).cloned().map(Event::Moved),
                );
                if let Some(service) = resource.name.split('_').nth(5) {
                    self.swarm.holds(self.number, service, addresses);
                }
            }
        }
        for name in &response.removed_resources {
            if let Some(versions) = kind.and_then(|kind| self.versions.get_mut(kind)) {
                versions.remove(name);
            }
        }
        let acknowledgement = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce,
            ..DeltaDiscoveryRequest::default()
        };
        requests.send(acknowledgement).await?;
        if !subscribe.is_empty() {
            let more = DeltaDiscoveryRequest {
                type_url: ENDPOINTS.to_owned(),
                resource_names_subscribe: subscribe,
                ..DeltaDiscoveryRequest::default()
            };
            requests.send(more).await?;
        }
        if kind == Some(LISTENER) {
            events.push(Event::Configured);
        }
        events.into_iter().for_each(|event| self.swarm.note(self.number, event));
        Ok(())
    }
}

fn timeout(cluster: &[u8]) -> anyhow::Result<Option<u64>> {
    let timeout = Cluster::decode(cluster)?.connect_timeout;
    Ok(timeout.and_then(|timeout| {
        u64::try_from(timeout.seconds * 1000 + i64::from(timeout.nanos / 1_000_000)).ok()
    }))
}

fn addresses(assignment: &[u8]) -> anyhow::Result<BTreeSet<String>> {
    let assignment = ClusterLoadAssignment::decode(assignment)?;
    let endpoints = assignment.endpoints.into_iter().flat_map(|locality| locality.lb_endpoints);
    let address = |host: HostIdentifier| match host {
        HostIdentifier::Endpoint(endpoint) => match endpoint.address?.address? {
            Address::SocketAddress(socket) => Some(socket.address),
            _ => None,
        },
        HostIdentifier::EndpointName(_) => None,
    };
    Ok(endpoints.filter_map(|endpoint| address(endpoint.host_identifier?)).collect())
}
