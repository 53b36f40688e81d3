//! What of a proxy's own words ends up in the store.

use std::sync::Arc;

use kds_proto::mesh::DiscoverySubscription;
use serde_json::json;
use store::{MemoryStore, Page, Revision, WatchStream};

use super::*;

fn now() -> Timestamp {
    Timestamp::from_unix(1_800_000_000, 0)
}

fn zone() -> Plane {
    Plane::Zone { name: "east".into(), federated: true }
}

fn document(port: u32, probe: bool) -> Value {
    let mut inbound = json!({"port": port, "servicePort": 8080, "protocol": "http"});
    if probe {
        inbound["serviceProbe"] = json!({"tcp": {}});
    }
    json!({
        "type": "Dataplane", "mesh": "default", "name": "web",
        "labels": {"app": "web", "kuma.io/zone": "west", "kuma.io/origin": "global"},
        "networking": {"address": "127.0.0.1", "inbound": [inbound],
            "listeners": [{"type": "ZoneIngress", "address": "127.0.0.1", "port": 10001}]},
    })
}

fn prepared(document: &Value) -> Resource {
    prepare(&zone(), parse(&document.to_string(), "default", "web").unwrap()).unwrap()
}

async fn put(store: &MemoryStore, resource: &Resource) -> Result<(), RegistrationError> {
    let open = Credentials::new(false, now);
    register(store, &Snapshot::default(), &open, None, resource, now()).await
}

async fn held(store: &MemoryStore) -> Option<Stored> {
    store.get(&Key::new(Kind::DATAPLANE, "default", "web")).await.unwrap()
}

fn states(stored: &Stored) -> Vec<State> {
    let networking = stored.resource.spec::<Dataplane>().unwrap().networking.as_ref().unwrap();
    networking.inbound.iter().map(Inbound::state).collect()
}

#[test]
fn labels_are_the_zones_to_say() {
    let dataplane = prepared(&document(80, false));
    assert_eq!(dataplane.label(labels::ZONE), Some("east"));
    assert_eq!(dataplane.label(labels::ORIGIN), Some("zone"));
    assert_eq!(dataplane.label(labels::LISTENER_ZONE_INGRESS), Some("enabled"));
    assert_eq!(dataplane.label("app"), Some("web"));
    let yaml = "type: Dataplane\nmesh: default\nname: web\nnetworking:\n  address: 127.0.0.1\n";
    assert!(parse(yaml, "default", "web").is_ok());
    assert!(matches!(parse(yaml, "default", "db"), Err(RegistrationError::Other { .. })));
    assert!(matches!(parse("a: [", "default", "db"), Err(RegistrationError::Syntax(_))));
    let invalid = parse(&document(70_000, false).to_string(), "default", "web").unwrap();
    assert!(matches!(prepare(&zone(), invalid), Err(RegistrationError::Invalid(_))));
}

#[tokio::test]
async fn a_probed_application_gets_no_traffic_before_its_first_probe() {
    let store = MemoryStore::new();
    put(&store, &prepared(&document(80, true))).await.unwrap();
    let first = held(&store).await.unwrap();
    assert_eq!(states(&first), [State::NotReady]);

    let mut ready = first.resource.spec::<Dataplane>().unwrap().clone();
    ready.networking.as_mut().unwrap().inbound[0].set_state(State::Ready);
    let ready = first.resource.to_builder().spec(&ready).build();
    store.commit(vec![Op::update(ready, first.revision)]).await.unwrap();
    let probed = held(&store).await.unwrap();
    put(&store, &prepared(&document(80, true))).await.unwrap();
    assert_eq!(held(&store).await.unwrap().revision, probed.revision, "a reconnect writes nothing");

    put(&store, &prepared(&document(81, true))).await.unwrap();
    assert_eq!(
        states(&held(&store).await.unwrap()),
        [State::NotReady],
        "another port is another application"
    );
}

#[tokio::test]
async fn only_the_newest_streams_control_plane_removes() {
    let store = MemoryStore::new();
    let key = Key::new(Kind::DATAPLANE, "default", "web");
    let insight_key = Key::new(Kind::DATAPLANE_INSIGHT, "default", "web");
    put(&store, &prepared(&document(80, false))).await.unwrap();
    let subscription = |instance: &str| DiscoverySubscription {
        control_plane_instance_id: instance.into(),
        ..Default::default()
    };
    let insight = |instances: &[&str]| {
        let subscriptions = instances.iter().map(|instance| subscription(instance)).collect();
        let spec = DataplaneInsight { subscriptions, ..Default::default() };
        Op::Put(Arc::new(Resource::builder(insight_key.clone()).spec(&spec).build()), Expect::Any)
    };
    store.commit(vec![insight(&["this", "other"])]).await.unwrap();
    assert!(!deregister(&store, &key, "this").await.unwrap());
    assert!(held(&store).await.is_some());
    store.commit(vec![insight(&["other", "this"])]).await.unwrap();
    assert!(deregister(&store, &key, "this").await.unwrap());
    assert!(held(&store).await.is_none());
    assert!(store.get(&insight_key).await.unwrap().is_none());
    assert!(!deregister(&store, &key, "this").await.unwrap(), "nothing is left to remove");
}

#[tokio::test]
async fn a_token_must_be_good_for_what_it_replaces() {
    let key = auth::token::SigningKey::generate().unwrap();
    let secret = model::spec::Secret { data: Some(key.private_pem().expose().as_bytes().to_vec()) };
    let name = "dataplane-token-signing-key-default-1";
    let secret = Resource::builder(Key::new(Kind::SECRET, "default", name)).spec(&secret).build();
    let snapshot = Snapshot::default().with(secret);
    let tags = [("app".to_owned(), vec!["web".to_owned()])].into();
    let claims = auth::token::DataplaneClaims { tags, ..Default::default() };
    let valid_for = std::time::Duration::from_secs(60);
    let token = auth::token::issue(&key, "1", &claims, now().inner(), valid_for).unwrap().token;

    let store = MemoryStore::new();
    let mut other = document(80, false);
    other["labels"] = json!({"app": "db"});
    put(&store, &prepared(&other)).await.unwrap();
    let credentials = Credentials::new(true, now);
    let mine = prepared(&document(80, false));
    let taken = register(&store, &snapshot, &credentials, Some(&token), &mine, now()).await;
    assert!(matches!(taken, Err(RegistrationError::Refused(Refusal::Claims(_)))), "{taken:?}");
}

/// A store that is away.
struct Away;

fn away<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable { reason: "stopped".into() })
}

#[async_trait::async_trait]
impl Backend for Away {
    async fn get(&self, _: &Key) -> Result<Option<Stored>, StoreError> {
        away()
    }

    async fn list(&self, _: Kind, _: Option<&str>, _: Option<&Key>, _: usize) -> Result<Page, StoreError> {
        away()
    }

    async fn commit(&self, _: Vec<Op>) -> Result<Revision, StoreError> {
        away()
    }

    async fn watch(&self, _: Revision) -> Result<WatchStream, StoreError> {
        away()
    }

    fn name(&self) -> &'static str {
        "away"
    }
}

#[tokio::test]
async fn a_registered_proxy_comes_back_while_the_store_is_away() {
    let open = Credentials::new(false, now);
    let dataplane = prepared(&document(80, true));
    let stored = next(None, &dataplane, now()).unwrap();
    let snapshot = Snapshot::default().with(stored);
    register(&Away, &snapshot, &open, None, &dataplane, now()).await.unwrap();
    let other = prepared(&document(81, true));
    for (snapshot, dataplane) in [(&snapshot, &other), (&Snapshot::default(), &dataplane)] {
        let refused = register(&Away, snapshot, &open, None, dataplane, now()).await.unwrap_err();
        assert_eq!(refused.status().code(), tonic::Code::Unavailable);
    }
}

#[tokio::test]
async fn nobody_is_sent_to_a_proxy_before_it_has_its_listeners() {
    let store = MemoryStore::new();
    let dataplane = prepared(&document(80, false));
    put(&store, &dataplane).await.unwrap();
    let listeners = |stored: &Stored| {
        let networking = stored.resource.spec::<Dataplane>().unwrap().networking.clone().unwrap();
        networking.listeners.iter().map(Listener::state).collect::<Vec<_>>()
    };
    let starting = held(&store).await.unwrap();
    assert_eq!(
        (states(&starting), listeners(&starting)),
        (vec![State::NotReady], vec![listener::State::NotReady])
    );
    assert!(ready(&store, &dataplane, now()).await.unwrap());
    let serving = held(&store).await.unwrap();
    assert_eq!((states(&serving), listeners(&serving)), (vec![State::Ready], vec![listener::State::Ready]));
    assert!(!ready(&store, &dataplane, now()).await.unwrap(), "nothing is written twice");
    // A new stream of one that is ready leaves it so.
    put(&store, &dataplane).await.unwrap();
    assert_eq!(states(&held(&store).await.unwrap()), [State::Ready]);
    // One that is gone from the store meanwhile is not brought back.
    let key = dataplane.key().clone();
    store.commit(vec![Op::Delete(key, Expect::Any)]).await.unwrap();
    assert!(!ready(&store, &dataplane, now()).await.unwrap());
}
