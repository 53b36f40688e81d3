//! The KDS server against peers of every manner, over real connections.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use auth::keys::Audience;
use auth::token::{Issued, SigningKey, ZoneClaims, issue};
use global_cp::kds::{Deps, ZoneAuth};
use kds_proto::core::Node;
use kds_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource as WireResource};
use kds_proto::envelope::{Content, Envelope};
use kds_proto::mesh::kds_sync_service_client::KdsSyncServiceClient;
use model::spec::{Mesh, MeshZoneAddress, Secret, Zone, ZoneInsight};
use model::{Key, Kind, Resource, labels};
use runtime::{OnExit, Tasks};
use store::{Expect, MemoryStore, Op, Store};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

struct Global {
    tasks: Tasks,
    store: Store,
    key: SigningKey,
    address: std::net::SocketAddr,
    channel: Channel,
}

impl Global {
    async fn start() -> Self {
        let store: Store = Arc::new(MemoryStore::new());
        let key = SigningKey::generate().unwrap();
        let secret = Secret { data: Some(key.private_pem().expose().as_bytes().to_vec()) };
        let secret_key = Key::global(Kind::GLOBAL_SECRET, &Audience::Zone.signing_key(1));
        let mesh = Resource::builder(Key::global(Kind::MESH, "default")).spec(&Mesh::default()).build();
        let ops = vec![Op::create(Resource::builder(secret_key).spec(&secret).build()), Op::create(mesh)];
        store.commit(ops).await.unwrap();
        let tasks = Tasks::new();
        let (snapshots, follow) = store::index::start(Arc::clone(&store)).await.unwrap();
        tasks.spawn("index", OnExit::Ignore, follow);
        let listener = runtime::serve::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let deps = Deps {
            store: Arc::clone(&store),
            snapshots,
            zone_auth: ZoneAuth::Token,
            instance: "global-1".into(),
            metrics: kds::Metrics::default(),
            guard: kds::Guard::default(),
        };
        global_cp::kds::spawn(&tasks, deps, listener, None).unwrap();
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { tasks, store, key, address, channel }
    }

    fn token(&self, zone: &str) -> String {
        self.issue(zone).token
    }

    fn issue(&self, zone: &str) -> Issued {
        let claims = ZoneClaims { zone: zone.into(), scope: vec!["cp".into()] };
        issue(&self.key, "1", &claims, SystemTime::now().into(), Duration::from_secs(60)).unwrap()
    }

    fn request<T>(&self, zone: &str, store_id: &str, body: T) -> Request<T> {
        let mut request = Request::new(body);
        let metadata = request.metadata_mut();
        metadata.insert("client-id", zone.parse().unwrap());
        metadata.insert("isthmus-store-id", store_id.parse().unwrap());
        metadata.insert("authorization", format!("Bearer {}", self.token(zone)).parse().unwrap());
        request
    }

    /// Opens the stream on which a zone offers what it has.
    async fn offer(&self, zone: &str, store_id: &str) -> Result<Offer, Status> {
        let (tx, rx) = mpsc::channel(8);
        let request = self.request(zone, store_id, ReceiverStream::new(rx));
        let mut client = KdsSyncServiceClient::new(self.channel.clone());
        let mut requests = client.zone_to_global_sync(request).await?.into_inner();
        // The global asks for every kind before anything else.
        for _ in Kind::zone_to_global() {
            requests.message().await?.expect("a request for each kind");
        }
        Ok(Offer { tx, requests })
    }

    /// Opens the stream on which a zone asks.
    async fn ask(
        &self,
        zone: &str,
        store_id: &str,
        first: Option<DeltaDiscoveryRequest>,
    ) -> Result<(mpsc::Sender<DeltaDiscoveryRequest>, Streaming<DeltaDiscoveryResponse>), Status> {
        let (tx, rx) = mpsc::channel(8);
        if let Some(first) = first {
            tx.send(first).await.unwrap();
        }
        let request = self.request(zone, store_id, ReceiverStream::new(rx));
        let mut client = KdsSyncServiceClient::new(self.channel.clone());
        Ok((tx, client.global_to_zone_sync(request).await?.into_inner()))
    }

    async fn has(&self, kind: Kind, mesh: &str, name: &str) -> bool {
        self.store.get(&Key::new(kind, mesh, name)).await.unwrap().is_some()
    }
}

struct Offer {
    tx: mpsc::Sender<DeltaDiscoveryResponse>,
    requests: Streaming<DeltaDiscoveryRequest>,
}

impl Offer {
    async fn send(&mut self, type_url: &str, resources: Vec<WireResource>) -> DeltaDiscoveryRequest {
        let nonce = uuid::Uuid::new_v4().to_string();
        let response = DeltaDiscoveryResponse {
            type_url: type_url.into(),
            nonce: nonce.clone(),
            resources,
            ..Default::default()
        };
        self.tx.send(response).await.unwrap();
        let answer = self.requests.message().await.unwrap().expect("an answer");
        assert_eq!(answer.response_nonce, nonce);
        answer
    }
}

fn address(name: &str, origin: &str, mesh: &str) -> WireResource {
    let spec = MeshZoneAddress { address: "192.0.2.1".into(), port: 10001 };
    let envelope = Envelope {
        name: name.into(),
        mesh: mesh.into(),
        labels: [(labels::ORIGIN.to_owned(), origin.to_owned())].into(),
        spec: Content::Json(serde_json::to_vec(&spec).unwrap()),
        status: None,
    };
    WireResource {
        name: format!("{name}.{mesh}"),
        version: "1".into(),
        resource: Some(Envelope::any(envelope.encode())),
        ..Default::default()
    }
}

fn subscribe(kind: &str, node: Option<&str>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: node.map(|id| Node { id: id.into(), ..Default::default() }),
        type_url: kind.into(),
        resource_names_subscribe: vec!["*".into()],
        ..Default::default()
    }
}

#[tokio::test]
async fn a_zone_is_registered_and_what_it_sends_is_stamped_with_its_name() {
    let global = Global::start().await;
    let mut east = global.offer("east", "a").await.unwrap();
    let zone = global.store.get(&Key::global(Kind::ZONE, "east")).await.unwrap().unwrap();
    assert_eq!(zone.resource.spec::<Zone>().unwrap().enabled, Some(true));

    let mut lying = address("ingress-1", "zone", "default");
    let mut envelope = Envelope::decode(lying.resource.as_ref()).unwrap();
    envelope.labels.insert(labels::ZONE.into(), "west".into());
    lying.resource = Some(Envelope::any(envelope.encode()));
    let answer = east.send(Kind::MESH_ZONE_ADDRESS.name, vec![lying]).await;
    assert_eq!(answer.error_detail, None);
    let key = Key::new(Kind::MESH_ZONE_ADDRESS, "default", "ingress-1");
    let stored = global.store.get(&key).await.unwrap().unwrap();
    assert_eq!(stored.resource.zone(), Some("east"));

    // Another zone can neither replace it nor remove it.
    let mut west = global.offer("west", "b").await.unwrap();
    let answer = west.send(Kind::MESH_ZONE_ADDRESS.name, vec![address("ingress-1", "zone", "default")]).await;
    assert!(answer.error_detail.unwrap().message.contains("ingress-1"));
    assert_eq!(global.store.get(&key).await.unwrap().unwrap().resource.zone(), Some("east"));
    global.tasks.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn garbage_and_unknown_kinds_refuse_themselves_only() {
    let global = Global::start().await;
    let mut east = global.offer("east", "a").await.unwrap();
    let garbage = WireResource {
        name: "bad.default".into(),
        resource: Some(Envelope::any(vec![0xff, 0x13, 0x37])),
        ..Default::default()
    };
    let good = address("good", "zone", "default");
    let answer = east.send(Kind::MESH_ZONE_ADDRESS.name, vec![garbage, good]).await;
    let reason = answer.error_detail.expect("a refusal").message;
    assert!(reason.contains("bad.default") && !reason.contains("good.default"), "{reason}");
    assert!(global.has(Kind::MESH_ZONE_ADDRESS, "default", "good").await);

    let answer = east.send("MeshOfTomorrow", vec![]).await;
    assert!(answer.error_detail.unwrap().message.contains("MeshOfTomorrow"));
    let answer = east.send(Kind::MESH_ZONE_ADDRESS.name, vec![address("later", "zone", "default")]).await;
    assert_eq!(answer.error_detail, None);
    assert!(global.has(Kind::MESH_ZONE_ADDRESS, "default", "later").await);
    global.tasks.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_first_request_without_node_ends_its_stream_only() {
    let global = Global::start().await;
    let without = subscribe(Kind::MESH.name, None);
    let (_tx, mut stream) = global.ask("east", "a", Some(without)).await.unwrap();
    assert_eq!(stream.message().await.unwrap_err().code(), Code::InvalidArgument);

    let named = subscribe(Kind::MESH.name, Some("east"));
    let (_tx, mut stream) = global.ask("east", "a", Some(named)).await.unwrap();
    let response = stream.message().await.unwrap().unwrap();
    assert_eq!((response.type_url.as_str(), response.resources.len()), (Kind::MESH.name, 1));
    global.tasks.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_newer_stream_takes_over_but_another_store_may_not() {
    let global = Global::start().await;
    // This one says nothing at all.
    let (_silent, mut older) = global.ask("east", "a", None).await.unwrap();
    let other = global.ask("east", "b", None).await.expect_err("two stores are two zones");
    assert_eq!(other.code(), Code::AlreadyExists);
    assert!(other.message().contains("east"));

    let first = subscribe(Kind::MESH.name, Some("east"));
    let (_tx, mut newer) = global.ask("east", "a", Some(first)).await.unwrap();
    assert_eq!(older.message().await.unwrap_err().code(), Code::Cancelled);
    assert!(newer.message().await.unwrap().is_some());
    global.tasks.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn an_unproven_zone_is_told_how_to_mend_it() {
    let global = Global::start().await;
    let mut request = global.request("west", "a", ReceiverStream::new(mpsc::channel(1).1));
    let token = format!("Bearer {}", global.token("east"));
    request.metadata_mut().insert("authorization", token.parse().unwrap());
    let mut client = KdsSyncServiceClient::new(global.channel.clone());
    let refused = client.global_to_zone_sync(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("\"east\"") && refused.message().contains("\"west\""), "{refused}");
    assert!(!global.has(Kind::ZONE, "", "west").await);
    global.tasks.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_token_that_is_taken_back_ends_its_streams_and_no_others() {
    let global = Global::start().await;
    let issued = global.issue("east");
    let (tx, rx) = mpsc::channel(8);
    tx.send(subscribe(Kind::MESH.name, Some("east"))).await.unwrap();
    let mut request = global.request("east", "a", ReceiverStream::new(rx));
    request.metadata_mut().insert("authorization", format!("Bearer {}", issued.token).parse().unwrap());
    let mut client = KdsSyncServiceClient::new(global.channel.clone());
    let mut stream = client.global_to_zone_sync(request).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    let mut other = global.offer("east", "a").await.unwrap();

    let list = Secret { data: Some(format!("another, {}\n", issued.id).into_bytes()) };
    let revocations = Key::global(Kind::GLOBAL_SECRET, &Audience::Zone.revocations());
    global.store.commit(vec![Op::create(Resource::builder(revocations).spec(&list).build())]).await.unwrap();
    let end = stream.message().await.unwrap_err();
    assert_eq!(end.code(), Code::Unauthenticated);
    assert!(end.message().contains("revoked"), "{end}");
    // Another token of the same zone is as good as before, until its key is removed.
    let answer = other.send(Kind::MESH_ZONE_ADDRESS.name, vec![address("a", "zone", "default")]).await;
    assert_eq!(answer.error_detail, None);
    let key = Key::global(Kind::GLOBAL_SECRET, &Audience::Zone.signing_key(1));
    global.store.commit(vec![Op::Delete(key, Expect::Any)]).await.unwrap();
    assert_eq!(other.requests.message().await.unwrap_err().code(), Code::Unauthenticated);
    global.tasks.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_its_stream_only_also_when_it_is_small_on_the_wire() {
    let global = Global::start().await;
    let mut other = global.offer("west", "b").await.unwrap();
    for compressed in [false, true] {
        let mut client = KdsSyncServiceClient::new(global.channel.clone());
        if compressed {
            client = client.send_compressed(CompressionEncoding::Gzip);
        }
        let (tx, rx) = mpsc::channel(8);
        let request = global.request("east", "a", ReceiverStream::new(rx));
        let mut requests = client.zone_to_global_sync(request).await.unwrap().into_inner();
        for _ in Kind::zone_to_global() {
            requests.message().await.unwrap().expect("a request for each kind");
        }
        let bomb = DeltaDiscoveryResponse { nonce: "0".repeat(3 * kds::MAX_MESSAGE), ..Default::default() };
        tx.send(bomb).await.unwrap();
        let end = requests.message().await.unwrap_err();
        assert!(matches!(end.code(), Code::OutOfRange | Code::ResourceExhausted), "{compressed}: {end}");
    }
    let answer = other.send(Kind::MESH_ZONE_ADDRESS.name, vec![address("a", "zone", "default")]).await;
    assert_eq!(answer.error_detail, None);
    global.tasks.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_zone_that_flaps_is_served_each_time_and_costs_the_others_nothing() {
    let global = Global::start().await;
    let mut other = global.offer("west", "b").await.unwrap();
    for _ in 0..50 {
        let first = subscribe(Kind::MESH.name, Some("east"));
        let (_tx, mut stream) = global.ask("east", "a", Some(first)).await.unwrap();
        assert_eq!(stream.message().await.unwrap().unwrap().resources.len(), 1);
    }
    let answer = other.send(Kind::MESH_ZONE_ADDRESS.name, vec![address("a", "zone", "default")]).await;
    assert_eq!(answer.error_detail, None);
    global.tasks.shutdown(Duration::from_secs(5)).await;
    let stored = global.store.get(&Key::global(Kind::ZONE_INSIGHT, "east")).await.unwrap().unwrap();
    let insight = stored.resource.spec::<ZoneInsight>().unwrap();
    assert!(insight.subscriptions.len() <= 10, "few are kept: {}", insight.subscriptions.len());
}

#[tokio::test]
async fn a_large_first_answer_passes_a_small_window() {
    const COUNT: usize = 20;
    let mut global = Global::start().await;
    for number in 0..COUNT {
        let key = Key::new(Kind::SECRET, "default", &format!("large-{number}"));
        let secret = Secret { data: Some(vec![b'x'; 400_000]) };
        let secret = Resource::builder(key).spec(&secret).label(labels::ORIGIN, "global").build();
        global.store.commit(vec![Op::create(secret)]).await.unwrap();
    }
    let narrow = Channel::from_shared(format!("http://{}", global.address)).unwrap();
    let narrow = narrow.initial_stream_window_size(65_535).initial_connection_window_size(65_535);
    global.channel = narrow.connect().await.unwrap();
    let first = subscribe(Kind::SECRET.name, Some("east"));
    let (tx, rx) = mpsc::channel(8);
    tx.send(first).await.unwrap();
    let request = global.request("east", "a", ReceiverStream::new(rx));
    let mut client =
        KdsSyncServiceClient::new(global.channel.clone()).max_decoding_message_size(kds::MAX_MESSAGE);
    let mut stream = client.global_to_zone_sync(request).await.unwrap().into_inner();
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < COUNT {
        let response = stream.message().await.unwrap().expect("all of them");
        seen.extend(response.resources.iter().map(|resource| resource.name.clone()));
        let answer = DeltaDiscoveryRequest {
            response_nonce: response.nonce,
            ..subscribe(Kind::SECRET.name, Some("east"))
        };
        tx.send(answer).await.unwrap();
    }
    global.tasks.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn the_insight_tells_what_a_zone_has_acknowledged() {
    let global = Global::start().await;
    let first = subscribe(Kind::MESH.name, Some("east"));
    let (tx, mut stream) = global.ask("east", "a", Some(first)).await.unwrap();
    let response = stream.message().await.unwrap().unwrap();
    let acknowledgement = DeltaDiscoveryRequest {
        response_nonce: response.nonce,
        resource_names_subscribe: vec![],
        ..subscribe(Kind::MESH.name, Some("east"))
    };
    tx.send(acknowledgement).await.unwrap();
    drop(tx);
    assert!(stream.message().await.unwrap().is_none());
    // The last state of a stream is written before its task ends.
    global.tasks.shutdown(Duration::from_secs(5)).await;
    let stored = global.store.get(&Key::global(Kind::ZONE_INSIGHT, "east")).await.unwrap().unwrap();
    let subscription = &stored.resource.spec::<ZoneInsight>().unwrap().subscriptions[0];
    let status = subscription.status.clone().unwrap();
    let mesh = &status.stat["Mesh"];
    assert_eq!((mesh.responses_sent, mesh.responses_acknowledged, mesh.responses_rejected), (1, 1, 0));
    assert!(subscription.disconnect_time.is_some() && subscription.auth_token_provided);
}
