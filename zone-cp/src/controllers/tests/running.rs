//! The loop over a real store.

use std::sync::Arc;
use std::time::Duration;

use model::spec::{MeshIdentityStatus, MeshServiceStatus, MeshTrust, Secret, TlsStatus, WorkloadStatus};
use model::{Key, Kind, Resource};
use runtime::Tasks;
use store::index::SnapshotReceiver;
use store::{Expect, MemoryStore, Op, Snapshot, Store};

use super::fixture::*;
use crate::controllers::{Settings, spawn};

/// A deadline for what takes milliseconds.
const DEADLINE: Duration = Duration::from_secs(30);

async fn instance(tasks: &Tasks, store: &Store, settings: Settings) -> SnapshotReceiver {
    let (snapshots, follow) = store::index::start(Arc::clone(store)).await.unwrap();
    tasks.spawn("index", runtime::OnExit::Shutdown, follow);
    spawn(tasks, Arc::clone(store), snapshots.clone(), settings, Arc::new(now));
    snapshots
}

/// The index ends with its last receiver.
async fn stop<const N: usize>(tasks: &Tasks, receivers: [SnapshotReceiver; N]) {
    drop(receivers);
    assert!(tasks.shutdown(DEADLINE).await.is_empty());
}

async fn put(store: &Store, resources: impl IntoIterator<Item = Resource>) {
    for resource in resources {
        store.commit(vec![Op::Put(Arc::new(resource), Expect::Any)]).await.unwrap();
    }
}

async fn until(snapshots: &mut SnapshotReceiver, what: &str, holds: impl Fn(&Snapshot) -> bool) {
    let reached = tokio::time::timeout(DEADLINE, snapshots.wait_for(|snapshot| holds(snapshot))).await;
    reached.unwrap_or_else(|_| panic!("never: {what}")).unwrap();
}

fn tls(snapshot: &Snapshot, name: &str) -> Option<TlsStatus> {
    let held = snapshot.resource(&key(Kind::MESH_SERVICE, name))?;
    held.status::<MeshServiceStatus>().ok()?.tls.status
}

#[tokio::test]
async fn changes_are_followed_as_they_come() {
    let tasks = Tasks::new();
    let store: Store = Arc::new(MemoryStore::new());
    let settings = Settings { deletion_grace: Duration::ZERO, ..settings() };
    let mut snapshots = instance(&tasks, &store, settings).await;
    put(&store, [dataplane("web-1", "web", &[(80, "", true)]), mesh()]).await;
    until(&mut snapshots, "a service", |s| tls(s, "web") == Some(TlsStatus::NotReady)).await;
    put(&store, [identity("identity")]).await;
    until(&mut snapshots, "TLS", |s| tls(s, "web") == Some(TlsStatus::Ready)).await;
    put(&store, [insight("web-1", true)]).await;
    until(&mut snapshots, "a connected proxy", |s| {
        let held = s.resource(&key(Kind::WORKLOAD, "web")).unwrap();
        held.status::<WorkloadStatus>().unwrap().dataplane_proxies.connected == 1
    })
    .await;
    store.commit(vec![Op::Delete(key(Kind::DATAPLANE, "web-1"), Expect::Any)]).await.unwrap();
    until(&mut snapshots, "no service", |s| !has(s, Kind::MESH_SERVICE, "web")).await;
    assert_eq!(tasks.failure(), None);
    stop(&tasks, [snapshots]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_make_one_authority_and_agree() {
    for _ in 0..20 {
        let tasks = Tasks::new();
        let store: Store = Arc::new(MemoryStore::new());
        put(&store, [mesh(), identity("identity"), dataplane("web-1", "web", &[(80, "", true)])]).await;
        let (mut one, two) =
            tokio::join!(instance(&tasks, &store, settings()), instance(&tasks, &store, settings()));
        put(&store, [dataplane("db-1", "db", &[(81, "", true)])]).await;
        until(&mut one, "both services", |s| {
            ["web", "db"].iter().all(|name| tls(s, name) == Some(TlsStatus::Ready))
        })
        .await;
        let held = one.borrow().clone();
        let certificate = spec::<Secret>(&held, Kind::SECRET, "identity-root-ca").data.unwrap();
        let trust: MeshTrust = spec(&held, Kind::MESH_TRUST, "identity");
        let bundles: Vec<_> =
            trust.ca_bundles.iter().map(|bundle| bundle.pem.as_ref().unwrap().value.as_bytes()).collect();
        assert_eq!(bundles, [certificate.as_slice()]);
        assert_eq!(held.count(Kind::SECRET), 2);
        stop(&tasks, [one, two]).await;
    }
}

#[tokio::test]
async fn a_writer_that_was_faster_is_not_overwritten() {
    let tasks = Tasks::new();
    let store: Store = Arc::new(MemoryStore::new());
    put(&store, [mesh(), dataplane("web-1", "web", &[(80, "", true)])]).await;
    let mut snapshots = instance(&tasks, &store, settings()).await;
    until(&mut snapshots, "a service", |s| has(s, Kind::MESH_SERVICE, "web")).await;
    // A user labels the service again and again while its status changes.
    for round in 0..20 {
        put(&store, [insight("web-1", round % 2 == 0)]).await;
        let name = Key::new(Kind::MESH_SERVICE, MESH, "web");
        let value = round.to_string();
        store::retry_conflicts(&*store, &name, |held| {
            held.map(|held| held.resource.to_builder().label("round", &value).build())
        })
        .await
        .unwrap();
    }
    put(&store, [insight("web-1", true)]).await;
    until(&mut snapshots, "both writers", |s| {
        let held = s.resource(&key(Kind::MESH_SERVICE, "web")).unwrap();
        let counts = held.status::<MeshServiceStatus>().unwrap().dataplane_proxies;
        held.label("round") == Some("19") && counts.connected == 1
    })
    .await;
    assert!(
        !snapshots
            .borrow()
            .kind(Kind::MESH_IDENTITY)
            .any(|held| held.status::<MeshIdentityStatus>().is_err())
    );
    stop(&tasks, [snapshots]).await;
}
