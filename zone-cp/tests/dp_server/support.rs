//! A zone's server for proxies on a free port, and proxies that are driven by hand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use auth::keys::Audience;
use auth::pki::{Authority, Validity};
use auth::token::{DataplaneClaims, SigningKey};
use envoy_api::envoy::config::core::v3::Node;
use envoy_api::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_api::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use envoy_api::google::rpc;
use model::labels::Plane;
use model::spec::{Dataplane, DataplaneInsight, Secret};
use model::{Key, Kind, Resource};
use prost_types::{Struct, Value, value};
use proxy_config::Identity;
use runtime::{OnExit, Tasks};
use serde_json::json;
use store::index::SnapshotReceiver;
use store::{MemoryStore, Op, Snapshot, Store};
use time::OffsetDateTime;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status, Streaming};
use zone_cp::dp_server::{self, Deps, DpServerConfig, Handle, Identities};

pub(crate) const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
pub(crate) const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";

/// What has to happen happens within this time, or the test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
const DAY: Duration = Duration::from_secs(86_400);

/// Nobody has an identity.
struct Nobody(watch::Sender<u64>);

impl Identities for Nobody {
    fn identity_of(&self, _: &Snapshot, _: &Resource) -> Option<Arc<Identity>> {
        None
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

/// A zone with one mesh.
pub(crate) struct Zone {
    pub(crate) tasks: Tasks,
    pub(crate) store: Store,
    pub(crate) snapshots: SnapshotReceiver,
    pub(crate) handle: Handle,
    pub(crate) ca: String,
    pub(crate) key: SigningKey,
}

impl Zone {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut DpServerConfig)) -> Self {
        runtime::tls::install_provider();
        let tasks = Tasks::new();
        let store: Store = Arc::new(MemoryStore::new());
        let key = SigningKey::generate().unwrap();
        let name = Audience::Dataplane { mesh: "default".into() }.signing_key(1);
        let secret = Secret { data: Some(key.private_pem().expose().as_bytes().to_vec()) };
        let mesh = Resource::builder(Key::global(Kind::MESH, "default")).build();
        let secret = Resource::builder(Key::new(Kind::SECRET, "default", &name)).spec(&secret).build();
        store.commit(vec![Op::create(mesh), Op::create(secret)]).await.unwrap();
        let (snapshots, follow) = store::index::start(Arc::clone(&store)).await.unwrap();
        let stop = tasks.token();
        tasks.spawn("index", OnExit::Ignore, async move {
            tokio::select! {
                () = follow => {}
                () = stop.cancelled() => {}
            }
        });

        let validity = Validity::starting(OffsetDateTime::now_utc() - DAY, DAY * 30).unwrap();
        let authority = Authority::generate("test", None, validity).unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let issued = authority.issue_server("zone", &names, validity).unwrap();
        let certificate = runtime::tls::fixed_certificate(&issued.chain_pem, issued.key.expose()).unwrap();
        let tls = runtime::tls::server_config(certificate, None).unwrap();
        let address = "127.0.0.1:0".parse().unwrap();
        let ca = authority.certificate_pem().to_owned();
        let mut config = DpServerConfig::new(address, tls, &issued.chain_pem, &ca, "zone-1").unwrap();
        config.deregistration_delay = Duration::from_millis(10);
        change(&mut config);
        let deps = Deps {
            store: Arc::clone(&store),
            snapshots: snapshots.clone(),
            identities: Arc::new(Nobody(watch::channel(0).0)),
            plane: Plane::Zone { name: "east".into(), federated: true },
        };
        let handle = dp_server::spawn(&tasks, config, deps).unwrap();
        Self { tasks, store, snapshots, handle, ca, key }
    }

    /// A token for a dataplane of the mesh.
    pub(crate) fn token(&self, name: &str) -> String {
        self.token_at(name, OffsetDateTime::now_utc())
    }

    pub(crate) fn token_at(&self, name: &str, at: OffsetDateTime) -> String {
        let claims = DataplaneClaims { name: name.into(), mesh: "default".into(), ..Default::default() };
        auth::token::issue(&self.key, "1", &claims, at, Duration::from_secs(600)).unwrap().token
    }

    pub(crate) async fn channel(&self) -> Channel {
        self.channel_at(self.handle.address().port()).await
    }

    /// A connection to the server through another port.
    pub(crate) async fn channel_at(&self, port: u16) -> Channel {
        let tls =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.ca)).domain_name("localhost");
        let url = format!("https://127.0.0.1:{port}");
        Endpoint::from_shared(url).unwrap().tls_config(tls).unwrap().connect().await.unwrap()
    }

    /// Waits until the newest snapshot is as told.
    pub(crate) async fn until(&self, what: &str, mut holds: impl FnMut(&Snapshot) -> bool) -> Arc<Snapshot> {
        let mut snapshots = self.snapshots.clone();
        let reached = snapshots.wait_for(|snapshot| holds(snapshot));
        let reached = tokio::time::timeout(DEADLINE, reached).await;
        Arc::clone(&reached.unwrap_or_else(|_| panic!("never: {what}")).unwrap())
    }

    pub(crate) async fn put(&self, resource: Resource) {
        self.store.commit(vec![Op::Put(Arc::new(resource), store::Expect::Any)]).await.unwrap();
    }

    pub(crate) async fn delete(&self, key: Key) {
        self.store.commit(vec![Op::Delete(key, store::Expect::Any)]).await.unwrap();
    }

    pub(crate) async fn stop(self) {
        let late = self.tasks.shutdown(Duration::from_secs(10)).await;
        assert!(late.is_empty(), "still running: {late:?}");
    }
}

pub(crate) fn dataplane_key(name: &str) -> Key {
    Key::new(Kind::DATAPLANE, "default", name)
}

pub(crate) fn insight(snapshot: &Snapshot, name: &str) -> Option<DataplaneInsight> {
    let insight = snapshot.resource(&Key::new(Kind::DATAPLANE_INSIGHT, "default", name))?;
    insight.spec::<DataplaneInsight>().ok().cloned()
}

pub(crate) fn networking(snapshot: &Snapshot, name: &str) -> Option<kds_proto::mesh::dataplane::Networking> {
    snapshot.resource(&dataplane_key(name))?.spec::<Dataplane>().ok()?.networking.clone()
}

/// The document of a Dataplane with inbounds on these ports.
pub(crate) fn document(name: &str, ports: &[u16]) -> serde_json::Value {
    let inbound = |port: &u16| json!({"port": port, "servicePort": port + 1, "protocol": "http"});
    json!({
        "type": "Dataplane", "mesh": "default", "name": name, "labels": {"app": name},
        "networking": {"address": "127.0.0.1", "inbound": ports.iter().map(inbound).collect::<Vec<_>>()},
    })
}

pub(crate) fn node(name: &str, document: Option<&serde_json::Value>) -> Node {
    let text = |text: &str| Value { kind: Some(value::Kind::StringValue(text.into())) };
    let mut fields: BTreeMap<String, Value> = BTreeMap::new();
    fields.insert("dataplane.proxyType".into(), text("dataplane"));
    fields.insert("dataplane.admin.port".into(), text("9901"));
    fields.insert("dataplane.readinessReporter.port".into(), text("9902"));
    if let Some(document) = document {
        fields.insert("dataplane.resource".into(), text(&document.to_string()));
    }
    Node {
        id: format!("default.{name}"),
        metadata: Some(Struct { fields }),
        user_agent_name: "envoy".into(),
        ..Default::default()
    }
}

/// A stream that is driven by hand.
pub(crate) struct Proxy {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
    node: Option<Node>,
}

impl Proxy {
    /// Opens a stream; nothing is sent yet.
    pub(crate) async fn open(zone: &Zone, token: Option<&str>, node: Node) -> Self {
        Self::open_on(zone.channel().await, token, node).await
    }

    /// Opens a stream on a connection.
    pub(crate) async fn open_on(channel: Channel, token: Option<&str>, node: Node) -> Self {
        let (requests, receiver) = mpsc::channel(16);
        let mut request = Request::new(ReceiverStream::new(receiver));
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", token.parse().unwrap());
        }
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let responses = client.delta_aggregated_resources(request).await.unwrap().into_inner();
        Self { requests, responses, node: Some(node) }
    }

    /// A proxy that brings its Dataplane along.
    pub(crate) async fn start(zone: &Zone, name: &str, ports: &[u16]) -> Self {
        let token = zone.token(name);
        Self::open(zone, Some(&token), node(name, Some(&document(name, ports)))).await
    }

    pub(crate) async fn send(&mut self, mut request: DeltaDiscoveryRequest) {
        request.node = self.node.take();
        self.requests.send(request).await.unwrap();
    }

    pub(crate) async fn subscribe(&mut self, type_url: &str, held: &BTreeMap<String, String>) {
        let request = DeltaDiscoveryRequest {
            type_url: type_url.into(),
            initial_resource_versions: held.clone(),
            ..Default::default()
        };
        self.send(request).await;
    }

    pub(crate) async fn next(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
        let next =
            tokio::time::timeout(DEADLINE, self.responses.message()).await.expect("a response in time");
        next.map(|response| response.expect("a response, not the end"))
    }

    pub(crate) async fn answer(&mut self, response: &DeltaDiscoveryResponse, error: Option<&str>) {
        let error_detail = error.map(|message| rpc::Status { message: message.into(), ..Default::default() });
        let request = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail,
            ..Default::default()
        };
        self.send(request).await;
    }

    /// Subscribes to all of a type and accepts what comes.
    pub(crate) async fn take_all(&mut self, type_url: &str) -> BTreeMap<String, String> {
        self.subscribe(type_url, &BTreeMap::new()).await;
        let response = self.next().await.unwrap();
        assert_eq!(response.type_url, type_url);
        self.answer(&response, None).await;
        versions(&response)
    }
}

pub(crate) fn versions(response: &DeltaDiscoveryResponse) -> BTreeMap<String, String> {
    response.resources.iter().map(|resource| (resource.name.clone(), resource.version.clone())).collect()
}

pub(crate) fn names(response: &DeltaDiscoveryResponse) -> Vec<&str> {
    response.resources.iter().map(|resource| resource.name.as_str()).collect()
}

/// A way to the server that can be cut without either side being told.
pub(crate) struct Wire {
    pub(crate) port: u16,
    cut: tokio_util::sync::CancellationToken,
}

impl Wire {
    pub(crate) async fn to(zone: &Zone) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (server, stop) = (zone.handle.address(), zone.tasks.token());
        let cut = tokio_util::sync::CancellationToken::new();
        let is_cut = cut.clone();
        zone.tasks.spawn("wire", OnExit::Ignore, async move {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = tokio::net::TcpStream::connect(server).await.unwrap();
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                () = is_cut.cancelled() => {}
            }
            // Both sockets stay open, and nothing passes.
            stop.cancelled().await;
        });
        Self { port, cut }
    }

    pub(crate) fn cut(&self) {
        self.cut.cancel();
    }
}
