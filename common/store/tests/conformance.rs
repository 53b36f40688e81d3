//! One suite for every backend: memory, embedded and a real etcd that the test starts.
#![expect(clippy::disallowed_methods, reason = "tests own their tasks")]

#[path = "support/etcd_server.rs"]
mod etcd_server;

use std::sync::Arc;

use etcd_server::EtcdServer;
use futures::StreamExt;
use model::spec::MeshZoneAddress;
use model::{Key, Kind, Resource, Timestamp};
use store::{
    Change, EmbeddedStore, EtcdConfig, EtcdStore, Event, Expect, MemoryStore, Op, Revision, Store,
    StoreError, WatchStream, retry_conflicts,
};

fn key(name: &str) -> Key {
    Key::new(Kind::MESH_ZONE_ADDRESS, "default", name)
}

fn resource(name: &str, port: u32) -> Resource {
    Resource::builder(key(name))
        .spec(&MeshZoneAddress { address: "127.0.0.1".into(), port })
        .label("kuma.io/zone", "east")
        .at(Timestamp::from_unix(1_700_000_000, 0))
        .build()
}

fn port(resource: &Resource) -> u32 {
    resource.spec::<MeshZoneAddress>().expect("the suite wrote it").port
}

async fn next(watch: &mut WatchStream, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        events.extend(watch.next().await.expect("the watch is open").expect("no error"));
    }
    events
}

async fn reads_what_was_written(store: &Store) {
    let written = store.commit(vec![Op::create(resource("a", 1))]).await.expect("a new key");
    let stored = store.get(&key("a")).await.expect("readable").expect("just written");
    assert_eq!(stored.revision, written);
    assert!(stored.resource.same_content(&resource("a", 1)));
    assert_eq!(stored.resource.created(), Timestamp::from_unix(1_700_000_000, 0));
    assert!(store.get(&key("other")).await.expect("readable").is_none());
}

async fn compares_before_it_swaps(store: &Store) {
    let first = store.get(&key("a")).await.expect("readable").expect("written before").revision;
    let exists = store.commit(vec![Op::create(resource("a", 9))]).await;
    assert!(matches!(exists, Err(StoreError::Conflict { key: k }) if k == key("a")));
    let second = store.commit(vec![Op::update(resource("a", 2), first)]).await.expect("read at first");
    assert!(second > first);
    let stale = store.commit(vec![Op::update(resource("a", 3), first)]).await;
    assert!(matches!(stale, Err(StoreError::Conflict { .. })));
    assert_eq!(port(&store.get(&key("a")).await.expect("readable").expect("there").resource), 2);
}

async fn commits_all_or_nothing(store: &Store) {
    let both = vec![Op::create(resource("b", 1)), Op::create(resource("a", 1))];
    assert!(store.commit(both).await.is_err());
    assert!(store.get(&key("b")).await.expect("readable").is_none());
    let revision = store
        .commit(vec![Op::create(resource("b", 1)), Op::create(resource("c", 1))])
        .await
        .expect("both are new");
    for name in ["b", "c"] {
        assert_eq!(store.get(&key(name)).await.expect("readable").expect("there").revision, revision);
    }
}

async fn lists_in_pages(store: &Store) {
    let other = Resource::builder(Key::new(Kind::MESH_ZONE_ADDRESS, "other", "x")).build();
    store
        .commit(vec![
            Op::create(other),
            Op::create(Resource::builder(Key::global(Kind::MESH, "default")).build()),
        ])
        .await
        .expect("new keys");
    let names = |page: &store::Page| {
        page.items.iter().map(|stored| stored.resource.name().to_owned()).collect::<Vec<_>>()
    };
    let first = store.list(Kind::MESH_ZONE_ADDRESS, Some("default"), None, 2).await.expect("readable");
    assert_eq!(names(&first), ["a", "b"]);
    let rest =
        store.list(Kind::MESH_ZONE_ADDRESS, Some("default"), first.next.as_ref(), 2).await.expect("readable");
    assert_eq!((names(&rest), rest.next), (vec!["c".into()], None));
    let all = store.list(Kind::MESH_ZONE_ADDRESS, None, None, 100).await.expect("readable");
    assert_eq!(names(&all), ["a", "b", "c", "x"]);
}

async fn watches_from_a_revision(store: &Store) {
    let start = store.list(Kind::MESH, None, None, 10).await.expect("readable").revision;
    let mut watch = store.watch(start).await.expect("nothing is compacted");
    let put = store.commit(vec![Op::Put(Arc::new(resource("w", 1)), Expect::Any)]).await.expect("any");
    store.commit(vec![Op::Delete(key("w"), Expect::At(put))]).await.expect("read at put");
    let events = next(&mut watch, 2).await;
    assert!(matches!(events.as_slice(), [a, b] if a.revision < b.revision), "in order");
    assert!(matches!(&events[0].change, Change::Put(r) if port(r) == 1));
    assert!(matches!(&events[1].change, Change::Delete(k) if *k == key("w")));
    let mut again = store.watch(put).await.expect("nothing is compacted");
    assert!(matches!(&next(&mut again, 1).await[0].change, Change::Delete(_)), "only what came after");
}

async fn retries_after_conflicts(store: &Store) {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store = Arc::clone(store);
        tasks.spawn(async move {
            let add = |current: Option<&store::Stored>| {
                Some(resource("n", current.map_or(0, |s| port(&s.resource)) + 1))
            };
            retry_conflicts(&*store, &key("n"), add).await
        });
    }
    while let Some(done) = tasks.join_next().await {
        assert!(matches!(done, Ok(Ok(true))));
    }
    assert_eq!(
        port(&store.get(&key("n")).await.expect("readable").expect("there").resource),
        4,
        "none was lost"
    );
}

async fn the_index_follows(store: &Store) {
    let (mut snapshots, task) = store::index::start(Arc::clone(store)).await.expect("readable");
    let task = tokio::spawn(task);
    let before = snapshots.borrow_and_update().clone();
    assert_eq!(before.in_mesh(Kind::MESH_ZONE_ADDRESS, "other").count(), 1);
    store.commit(vec![Op::create(resource("i", 7))]).await.expect("a new key");
    let after =
        snapshots.wait_for(|snapshot| snapshot.get(&key("i")).is_some()).await.expect("followed").clone();
    assert_eq!(after.changed_keys(&before, Kind::MESH_ZONE_ADDRESS), [key("i")]);
    assert!(!after.differs(&before, Kind::MESH));
    drop(snapshots);
    task.await.expect("ends with its last receiver");
}

async fn suite(store: Store) {
    reads_what_was_written(&store).await;
    compares_before_it_swaps(&store).await;
    commits_all_or_nothing(&store).await;
    lists_in_pages(&store).await;
    watches_from_a_revision(&store).await;
    retries_after_conflicts(&store).await;
    the_index_follows(&store).await;
}

#[tokio::test]
async fn memory() {
    suite(Arc::new(MemoryStore::new())).await;
}

#[tokio::test]
async fn embedded() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || EmbeddedStore::open(&folder.path().join("store.redb"), |error| panic!("{error}"));
    suite(Arc::new(open().expect("a new file"))).await;
    let again: Store = Arc::new(open().expect("closed with its last handle"));
    assert_eq!(port(&again.get(&key("n")).await.expect("readable").expect("survived").resource), 4);
    assert!(again.watch(Revision(1)).await.is_err(), "events of an earlier run are gone, and it says so");
}

#[tokio::test]
async fn etcd() {
    let server = EtcdServer::start();
    suite(Arc::new(connect(&server).await)).await;
}

async fn connect(server: &EtcdServer) -> EtcdStore {
    let config =
        EtcdConfig { endpoints: vec![server.endpoint()], prefix: "/isthmus".into(), ..Default::default() };
    EtcdStore::connect(&config).await.expect("the server is up")
}

#[tokio::test]
async fn memory_says_that_a_revision_is_compacted() {
    let store = Arc::new(MemoryStore::new());
    let revision =
        store::Backend::commit(&*store, vec![Op::create(resource("a", 1))]).await.expect("a new key");
    store.compact(revision);
    let watch = store::Backend::watch(&*store, Revision(0)).await;
    assert!(matches!(watch.err(), Some(StoreError::Compacted { .. })));
}

#[tokio::test]
async fn etcd_restarted_and_compacted_under_the_index_loses_nothing() {
    let mut server = EtcdServer::start();
    let store: Store = Arc::new(connect(&server).await);
    store
        .commit(vec![Op::create(resource("before", 1)), Op::create(resource("gone", 1))])
        .await
        .expect("new keys");
    let (mut snapshots, task) = store::index::start(Arc::clone(&store)).await.expect("readable");
    let task = tokio::spawn(task);
    server.stop();
    let refused = store.commit(vec![Op::create(resource("down", 1))]).await.expect_err("nobody answers");
    assert!(refused.retryable(), "{refused}");
    assert!(snapshots.borrow().get(&key("before")).is_some(), "reads go on");
    server.restart();
    // A second client writes and compacts before the index is back.
    let other = connect(&server).await;
    store::Backend::commit(&other, vec![Op::Delete(key("gone"), Expect::Any)]).await.expect("up again");
    let last =
        store::Backend::commit(&other, vec![Op::create(resource("after", 1))]).await.expect("up again");
    server.compact(last.0).await;
    let seen = |snapshot: &Arc<store::Snapshot>| {
        snapshot.get(&key("after")).is_some() && snapshot.get(&key("gone")).is_none()
    };
    snapshots.wait_for(seen).await.expect("the index catches up");
    drop(snapshots);
    task.await.expect("ends with its last receiver");
}
