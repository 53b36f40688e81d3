//! Configuration streams: who is let in, what is sent, what is remembered.

use std::collections::BTreeMap;

use auth::token::{DataplaneClaims, SigningKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kds_proto::mesh::dataplane::networking::inbound::State;
use time::OffsetDateTime;
use tonic::Code;
use zone_cp::dp_server::Problem;

use crate::support::{
    CLUSTER, LISTENER, Proxy, Wire, Zone, dataplane_key, document, insight, names, networking, node, versions,
};

#[tokio::test]
async fn strangers_are_refused_and_told_why() {
    let zone = Zone::start().await;
    let old = zone.token_at("web", OffsetDateTime::now_utc() - time::Duration::days(1));
    let other = zone.token("db");
    let claims = DataplaneClaims { name: "web".into(), ..Default::default() };
    let hour = std::time::Duration::from_secs(3600);
    let foreign = SigningKey::generate().unwrap();
    let forged = auth::token::issue(&foreign, "1", &claims, OffsetDateTime::now_utc(), hour).unwrap().token;
    let unknown = auth::token::issue(&foreign, "9", &claims, OffsetDateTime::now_utc(), hour).unwrap().token;
    let good = zone.token("web");
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":"1"}"#);
    let unsigned = format!("{header}.{}.", good.split('.').nth(1).unwrap());
    for (token, code, words) in [
        (None, Code::Unauthenticated, "token is required"),
        (Some("nonsense"), Code::Unauthenticated, "malformed"),
        (Some(old.as_str()), Code::Unauthenticated, "expired"),
        (Some(&forged), Code::Unauthenticated, "signature"),
        (Some(&unknown), Code::Unauthenticated, "unknown key"),
        (Some(&unsigned), Code::Unauthenticated, "not signed"),
        (Some(&other), Code::PermissionDenied, "is for name \"db\""),
    ] {
        let mut proxy = Proxy::open(&zone, token, node("web", Some(&document("web", &[8080])))).await;
        proxy.subscribe(CLUSTER, &BTreeMap::new()).await;
        let status = proxy.next().await.unwrap_err();
        assert_eq!(status.code(), code, "{token:?}: {}", status.message());
        assert!(status.message().contains(words), "{}", status.message());
    }
    assert!(zone.snapshots.borrow().resource(&dataplane_key("web")).is_none(), "nothing was registered");
    assert!(zone.handle.connected().is_empty());
    zone.stop().await;
}

#[tokio::test]
async fn a_proxy_has_to_say_who_it_is() {
    let zone = Zone::start().await;
    let token = zone.token("web");
    let mut nameless = node("web", None);
    nameless.id.clear();
    let mut elsewhere = node("web", None);
    elsewhere.id = "nowhere.web".into();
    let another = node("web", Some(&document("db", &[8080])));
    for (node, code) in [
        (nameless, Code::InvalidArgument),
        (elsewhere, Code::FailedPrecondition),
        (another, Code::InvalidArgument),
        (node("web", None), Code::NotFound),
    ] {
        let mut proxy = Proxy::open(&zone, Some(&token), node).await;
        proxy.subscribe(CLUSTER, &BTreeMap::new()).await;
        assert_eq!(proxy.next().await.unwrap_err().code(), code);
    }
    zone.stop().await;
}

#[tokio::test]
async fn a_registered_proxy_gets_its_configuration_and_is_observed() {
    let zone = Zone::start().await;
    let mut proxy = Proxy::start(&zone, "web", &[8080]).await;
    let clusters = proxy.take_all(CLUSTER).await;
    let listeners = proxy.take_all(LISTENER).await;
    assert!(clusters.contains_key("self_inbound_dp_8080"), "{clusters:?}");
    assert!(listeners.contains_key("self_inbound_dp_8080"), "{listeners:?}");
    let snapshot = zone
        .until("both answers are counted", |snapshot| {
            let total = insight(snapshot, "web")
                .and_then(|insight| insight.subscriptions.last().cloned()?.status?.total);
            total.is_some_and(|total| total.responses_acknowledged == 2)
        })
        .await;
    let seen = insight(&snapshot, "web").unwrap();
    let subscription = seen.subscriptions.last().unwrap();
    assert_eq!(subscription.control_plane_instance_id, "zone-1");
    assert!(subscription.connect_time.is_some() && subscription.disconnect_time.is_none());
    assert!(seen.metadata.unwrap().fields.contains_key("dataplane.resource"));
    let dataplane = snapshot.resource(&dataplane_key("web")).unwrap();
    assert_eq!(dataplane.zone(), Some("east"));
    let connected = zone.handle.connected();
    assert_eq!(connected.len(), 1);
    assert!(connected[0].progress.settled);
    assert!(zone.handle.configuration(&dataplane_key("web")).is_some());
    zone.stop().await;
}

#[tokio::test]
async fn only_what_changed_is_sent() {
    let zone = Zone::start().await;
    let mut proxy = Proxy::start(&zone, "web", &[8080]).await;
    proxy.take_all(CLUSTER).await;
    proxy.take_all(LISTENER).await;
    let snapshot = zone.until("registered", |snapshot| networking(snapshot, "web").is_some()).await;
    let held = snapshot.resource(&dataplane_key("web")).unwrap();
    let mut more = model::rest::parse(&document("web", &[8080, 8090])).unwrap().resource;
    more.labels = held.labels().clone();
    zone.put(more.build()).await;
    let clusters = proxy.next().await.unwrap();
    assert_eq!((clusters.type_url.as_str(), names(&clusters)), (CLUSTER, vec!["self_inbound_dp_8090"]));
    proxy.answer(&clusters, None).await;
    let listeners = proxy.next().await.unwrap();
    assert_eq!((listeners.type_url.as_str(), names(&listeners)), (LISTENER, vec!["self_inbound_dp_8090"]));
    zone.stop().await;
}

#[tokio::test]
async fn a_refusal_is_remembered() {
    let zone = Zone::start().await;
    let mut proxy = Proxy::start(&zone, "web", &[8080]).await;
    proxy.subscribe(LISTENER, &BTreeMap::new()).await;
    let response = proxy.next().await.unwrap();
    let words = "Error adding/updating listener(s) self_inbound_dp_8080: no such filter";
    proxy.answer(&response, Some(words)).await;
    zone.until("the refusal is counted", |snapshot| {
        let status = insight(snapshot, "web").and_then(|insight| insight.subscriptions.last()?.status);
        status.and_then(|status| status.lds).is_some_and(|lds| lds.responses_rejected == 1)
    })
    .await;
    let problems = zone.handle.connected()[0].progress.problems.clone();
    let told = |one: &Problem| (one.type_url.clone(), one.resource.clone(), one.reason.clone());
    let expected = [LISTENER, "self_inbound_dp_8080", "no such filter"].map(str::to_owned).into();
    assert_eq!(problems.iter().map(told).collect::<Vec<_>>(), [expected]);
    zone.stop().await;
}

#[tokio::test]
async fn a_reconnect_brings_only_what_changed() {
    let zone =
        Zone::start_with(|config| config.deregistration_delay = std::time::Duration::from_secs(600)).await;
    let mut proxy = Proxy::start(&zone, "web", &[8080]).await;
    let clusters = proxy.take_all(CLUSTER).await;
    let listeners = proxy.take_all(LISTENER).await;
    drop(proxy);
    zone.until("the end of the stream", |snapshot| {
        insight(snapshot, "web")
            .is_some_and(|insight| insight.subscriptions.last().unwrap().disconnect_time.is_some())
    })
    .await;
    let mut again = Proxy::start(&zone, "web", &[8080]).await;
    again.subscribe(CLUSTER, &clusters).await;
    again.subscribe(LISTENER, &listeners).await;
    let held = zone
        .until("the second stream", |snapshot| {
            insight(snapshot, "web").is_some_and(|insight| insight.subscriptions.len() == 2)
        })
        .await;
    let mut more = model::rest::parse(&document("web", &[8080, 8090])).unwrap().resource;
    more.labels = held.resource(&dataplane_key("web")).unwrap().labels().clone();
    zone.put(more.build()).await;
    let first = again.next().await.unwrap();
    assert_eq!(names(&first), ["self_inbound_dp_8090"], "the first response is about what changed");
    assert_eq!(versions(&first).len(), 1);
    zone.stop().await;
}

#[tokio::test]
async fn a_newer_stream_takes_over() {
    let zone = Zone::start().await;
    let mut first = Proxy::start(&zone, "web", &[8080]).await;
    first.take_all(CLUSTER).await;
    let mut second = Proxy::start(&zone, "web", &[8080]).await;
    second.take_all(CLUSTER).await;
    assert_eq!(first.next().await.unwrap_err().code(), Code::Aborted);
    drop(first);
    second.take_all(LISTENER).await;
    zone.until("one open stream", |snapshot| {
        insight(snapshot, "web").is_some_and(|insight| {
            let open = insight.subscriptions.iter().filter(|held| held.disconnect_time.is_none());
            insight.subscriptions.len() == 2 && open.count() == 1
        })
    })
    .await;
    assert_eq!(zone.handle.connected().len(), 1);
    assert!(zone.snapshots.borrow().resource(&dataplane_key("web")).is_some());
    zone.stop().await;
}

#[tokio::test]
async fn a_proxy_that_leaves_takes_its_registration_along() {
    let zone = Zone::start().await;
    let mut proxy = Proxy::start(&zone, "web", &[8080]).await;
    proxy.take_all(CLUSTER).await;
    zone.until("registered", |snapshot| insight(snapshot, "web").is_some()).await;
    drop(proxy);
    zone.until("removed", |snapshot| {
        snapshot.resource(&dataplane_key("web")).is_none() && insight(snapshot, "web").is_none()
    })
    .await;
    zone.stop().await;
}

#[tokio::test]
async fn what_no_proxy_registered_no_proxy_removes_and_a_stop_removes_nothing() {
    let zone = Zone::start().await;
    zone.put(model::rest::parse(&document("stored", &[8080])).unwrap().resource.build()).await;
    zone.until("stored", |snapshot| networking(snapshot, "stored").is_some()).await;
    let token = zone.token("stored");
    let mut stored = Proxy::open(&zone, Some(&token), node("stored", None)).await;
    stored.take_all(CLUSTER).await;
    let mut registered = Proxy::start(&zone, "web", &[8080]).await;
    registered.take_all(CLUSTER).await;
    drop(stored);
    zone.until("the end of the stream", |snapshot| {
        let insight = insight(snapshot, "stored");
        insight.is_some_and(|insight| insight.subscriptions.last().unwrap().disconnect_time.is_some())
    })
    .await;
    let store = std::sync::Arc::clone(&zone.store);
    zone.stop().await;
    drop(registered);
    for name in ["stored", "web"] {
        assert!(store.get(&dataplane_key(name)).await.unwrap().is_some(), "{name}");
    }
}

#[tokio::test]
async fn two_proxies_of_one_name_do_not_push_each_other_out_for_ever() {
    let zone = Zone::start().await;
    let mut first = Proxy::start(&zone, "web", &[8080]).await;
    first.take_all(CLUSTER).await;
    let mut second = Proxy::start(&zone, "web", &[8080]).await;
    second.take_all(CLUSTER).await;
    assert_eq!(first.next().await.unwrap_err().code(), Code::Aborted);
    let mut first = Proxy::start(&zone, "web", &[8080]).await;
    first.subscribe(CLUSTER, &BTreeMap::new()).await;
    let refused = first.next().await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists, "{}", refused.message());
    second.take_all(LISTENER).await;
    zone.stop().await;
}

#[tokio::test]
async fn a_token_that_is_taken_back_ends_its_stream() {
    let zone = Zone::start().await;
    let claims = DataplaneClaims { name: "web".into(), ..Default::default() };
    let hour = std::time::Duration::from_secs(3600);
    let issued = auth::token::issue(&zone.key, "1", &claims, OffsetDateTime::now_utc(), hour).unwrap();
    let node = node("web", Some(&document("web", &[8080])));
    let mut proxy = Proxy::open(&zone, Some(&issued.token), node).await;
    proxy.take_all(CLUSTER).await;
    let list = model::spec::Secret { data: Some(issued.id.into_bytes()) };
    let key = model::Key::new(model::Kind::SECRET, "default", "dataplane-token-revocations-default");
    zone.put(model::Resource::builder(key).spec(&list).build()).await;
    let refused = proxy.next().await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().contains("revoked"), "{}", refused.message());
    zone.until("the end of the stream", |snapshot| {
        let insight = insight(snapshot, "web");
        insight.is_some_and(|insight| insight.subscriptions.last().unwrap().disconnect_time.is_some())
    })
    .await;
    assert!(networking(&zone.snapshots.borrow(), "web").is_some(), "the proxy itself goes on");
    zone.stop().await;
}

#[tokio::test]
async fn a_proxy_that_falls_silent_is_not_ready_until_it_is_back() {
    let zone = Zone::start_with(|config| config.keepalive = std::time::Duration::from_millis(200)).await;
    let mut other = Proxy::start(&zone, "db", &[9090]).await;
    other.take_all(CLUSTER).await;
    let wire = Wire::to(&zone).await;
    let brought = node("web", Some(&document("web", &[8080])));
    let token = zone.token("web");
    let mut silent = Proxy::open_on(zone.channel_at(wire.port).await, Some(&token), brought).await;
    silent.take_all(CLUSTER).await;
    silent.take_all(LISTENER).await;
    let state = |snapshot: &store::Snapshot| networking(snapshot, "web").map(|held| held.inbound[0].state());
    zone.until("ready", |snapshot| state(snapshot) == Some(State::Ready)).await;
    wire.cut();
    zone.until("not ready", |snapshot| state(snapshot) == Some(State::NotReady)).await;
    assert_eq!(zone.handle.connected().len(), 1);
    let mut back = Proxy::start(&zone, "web", &[8080]).await;
    back.take_all(CLUSTER).await;
    back.take_all(LISTENER).await;
    zone.until("ready again", |snapshot| state(snapshot) == Some(State::Ready)).await;
    zone.stop().await;
}
