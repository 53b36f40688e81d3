//! The guard against mass removal, and peers that send what they should not, against a store in memory.

use std::sync::Arc;
use std::time::Duration;

use futures::executor::block_on;
use kds::{Applied, ClientSession, Guard, Metrics, Receiver, Role, node};
use kds_proto::discovery::{DeltaDiscoveryResponse, Resource as WireResource};
use kds_proto::envelope::{Content, Envelope};
use model::{Key, Kind, Timestamp, labels};
use store::{MemoryStore, Store};

struct Side {
    store: Store,
    guard: Guard,
    receiver: Receiver,
    client: ClientSession,
}

impl Side {
    fn new(role: Role) -> Self {
        let store: Store = Arc::new(MemoryStore::new());
        let guard = Guard::default();
        let receiver = Receiver::new(Arc::clone(&store), role, Metrics::default()).guarded(guard.clone());
        Self { store, guard, receiver, client: ClientSession::new(node("east", "test", "test", "{}")) }
    }

    fn global() -> Self {
        Self::new(Role::Global { zone: "east".into() })
    }

    fn apply(&self, response: DeltaDiscoveryResponse, seconds: u64) -> Applied {
        let batch = self.client.response(response).expect("a known type");
        let now = Timestamp::EPOCH.plus(Duration::from_secs(seconds));
        block_on(self.receiver.apply(&batch, now)).expect("memory takes any write")
    }

    fn count(&self) -> usize {
        block_on(self.store.list(Kind::MESH_ZONE_ADDRESS, None, None, 10_000))
            .expect("memory lists")
            .items
            .len()
    }
}

fn address(name: &str) -> WireResource {
    let envelope = Envelope {
        name: name.into(),
        mesh: "default".into(),
        labels: [(labels::ORIGIN.to_owned(), "zone".to_owned())].into(),
        spec: Content::Json(br#"{"address":"192.0.2.1","port":10001}"#.to_vec()),
        status: None,
    };
    WireResource {
        name: format!("{name}.default"),
        resource: Some(Envelope::any(envelope.encode())),
        ..Default::default()
    }
}

fn name(number: usize) -> String {
    format!("a-{number}")
}

fn addresses(present: std::ops::Range<usize>, removed: std::ops::Range<usize>) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        type_url: Kind::MESH_ZONE_ADDRESS.name.into(),
        resources: present.map(|number| address(&name(number))).collect(),
        removed_resources: removed.map(|number| format!("{}.default", name(number))).collect(),
        ..Default::default()
    }
}

#[test]
fn a_mass_removal_waits_for_a_confirmation_and_nothing_else_does() {
    let side = Side::global();
    side.apply(addresses(0..40, 0..0), 0);
    let applied = side.apply(addresses(40..42, 0..30), 1);
    assert_eq!((applied.changed, applied.rejected.len()), (2, 1), "additions go on");
    assert!(applied.rejected[0].contains("the removal of 30 of 40"), "{:?}", applied.rejected);
    assert_eq!(side.count(), 42);
    let waiting = side.guard.waiting();
    assert_eq!((waiting[0].peer.as_str(), waiting[0].keys.len()), ("east", 30));

    // Those that come back are not removed by a confirmation that was meant for the others.
    side.apply(addresses(0..5, 0..0), 2);
    assert_eq!(block_on(side.guard.confirm("west", &side.store)).expect("nothing to do"), 0);
    assert_eq!(block_on(side.guard.confirm("east", &side.store)).expect("memory takes any write"), 25);
    assert_eq!(side.count(), 17);
    assert!(side.guard.waiting().is_empty());
    let first = Key::new(Kind::MESH_ZONE_ADDRESS, "default", &name(0));
    assert!(block_on(side.store.get(&first)).expect("memory reads").is_some());
}

#[test]
fn a_mass_removal_in_small_parts_waits_too_but_slow_shrinking_does_not() {
    let side = Side::global();
    side.apply(addresses(0..40, 0..0), 0);
    (0..20).for_each(|at| assert!(side.apply(addresses(0..0, at..at + 1), 1).rejected.is_empty()));
    assert_eq!(side.apply(addresses(0..0, 20..22), 2).rejected.len(), 1);
    assert_eq!(side.count(), 20);
    // A minute later the same is a removal like any other.
    assert!(side.apply(addresses(0..0, 20..22), 120).rejected.is_empty());
    assert_eq!(side.count(), 18);
}

#[test]
fn small_fleets_and_small_shares_are_not_guarded() {
    let side = Side::global();
    side.apply(addresses(0..20, 0..0), 0);
    assert!(side.apply(addresses(0..0, 0..20), 1).rejected.is_empty());
    side.apply(addresses(0..100, 0..0), 100);
    assert!(side.apply(addresses(0..0, 0..50), 101).rejected.is_empty());
    assert_eq!(side.count(), 50);
}

#[test]
fn a_zone_keeps_what_a_global_without_its_store_takes_away() {
    let side = Side::new(Role::Zone);
    let policy = |number: usize| {
        let envelope = Envelope {
            name: name(number),
            mesh: "default".into(),
            labels: [(labels::ORIGIN.to_owned(), "global".to_owned())].into(),
            spec: Content::Json(
                br#"{"to":[{"targetRef":{"kind":"Mesh"},"default":{"idleTimeout":"1s"}}]}"#.to_vec(),
            ),
            status: None,
        };
        let resource = Some(Envelope::any(envelope.encode()));
        WireResource { name: format!("{}.default", name(number)), resource, ..Default::default() }
    };
    let response = |resources: Vec<WireResource>, removed: usize| DeltaDiscoveryResponse {
        type_url: Kind::MESH_TIMEOUT.name.into(),
        resources,
        removed_resources: (0..removed).map(|number| format!("{}.default", name(number))).collect(),
        ..Default::default()
    };
    assert_eq!(side.apply(response((0..30).map(policy).collect(), 0), 0).changed, 30);
    let applied = side.apply(response(Vec::new(), 30), 1);
    assert_eq!((applied.changed, applied.rejected.len()), (0, 1));
    assert_eq!(side.guard.waiting()[0].peer, "global");
}

#[test]
fn one_poisoned_resource_among_a_thousand_costs_itself_and_is_taken_once_it_is_mended() {
    let side = Side::global();
    let mut response = addresses(0..1000, 0..0);
    response.resources[500].resource = Some(Envelope::any(vec![0xff; 64]));
    let applied = side.apply(response, 0);
    assert_eq!((applied.changed, applied.rejected.len()), (999, 1));
    assert!(applied.rejected[0].starts_with("a-500.default"), "{:?}", applied.rejected);
    assert_eq!(side.apply(addresses(500..501, 0..0), 1).changed, 1);
    assert_eq!(side.count(), 1000);
}

#[test]
fn a_replay_writes_nothing_and_of_two_with_one_name_one_is_kept() {
    let side = Side::global();
    side.apply(addresses(0..3, 0..0), 0);
    let revision = |side: &Side| {
        let key = Key::new(Kind::MESH_ZONE_ADDRESS, "default", &name(1));
        block_on(side.store.get(&key)).expect("memory reads").map(|stored| stored.revision)
    };
    let before = revision(&side);
    assert_eq!(
        side.apply(addresses(0..3, 7..9), 1),
        Applied::default(),
        "nor does a removal of what is not there"
    );
    assert_eq!(revision(&side), before);
    let twice =
        DeltaDiscoveryResponse { resources: vec![address("twin"), address("twin")], ..addresses(0..0, 0..0) };
    side.apply(twice, 2);
    assert_eq!(side.count(), 4);
}

#[test]
fn what_a_zone_may_not_own_is_refused_one_by_one() {
    let side = Side::global();
    for kind in [Kind::MESH, Kind::GLOBAL_SECRET, Kind::ZONE, Kind::SECRET] {
        let response = DeltaDiscoveryResponse {
            type_url: kind.name.into(),
            resources: vec![address("mine")],
            removed_resources: vec!["default.".into()],
            ..Default::default()
        };
        let applied = side.apply(response, 0);
        assert_eq!((applied.changed, applied.rejected.len()), (0, 1), "{kind}");
    }
}

#[test]
fn names_that_are_none_are_refused_and_remove_nothing() {
    let side = Side::global();
    side.apply(addresses(0..2, 0..0), 0);
    for bad in ["", "..", "../a-0", "A_B", &"x".repeat(10_000)] {
        let response = DeltaDiscoveryResponse {
            resources: vec![address(bad)],
            removed_resources: vec![String::new(), ".".into(), "default".into(), format!("{bad}.default")],
            ..addresses(0..0, 0..0)
        };
        let applied = side.apply(response, 1);
        assert_eq!((applied.changed, applied.rejected.len()), (0, 1), "{bad:.20}");
    }
    assert_eq!(side.count(), 2);
}
