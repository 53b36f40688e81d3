//! A global and two zones on one simulated network: random writes, deliveries, lost connections and restarts.
//! Whatever happens, once the network is quiet every store holds what it should, and nothing was deleted that
//! nobody deleted. A failing run prints its seed and its shortest history.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use futures::StreamExt;
use futures::executor::block_on;
use kds::{
    ClientSession, Everything, Metrics, Outgoing, Receiver, Role, ServerSession, View, ZoneScope,
    held_versions, node,
};
use kds_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use model::spec::{MeshZoneAddress, Zone};
use model::{Key, Kind, Resource, Timestamp, labels, names};
use proptest::prelude::*;
use store::{Backend, Change, Expect, MemoryStore, Op, Revision, Snapshot, Store};

const ZONES: [&str; 2] = ["east", "west"];

/// One control plane: its store and the snapshot that follows it.
struct Plane {
    store: Arc<MemoryStore>,
    snapshot: Arc<Snapshot>,
    seen: Revision,
    /// Deletions of resources that the peer owns.
    deletions: usize,
}

impl Plane {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        Self { store, snapshot: Arc::default(), seen: Revision(0), deletions: 0 }
    }

    fn write(&mut self, op: Op) {
        block_on(self.store.commit(vec![op])).expect("memory takes any write");
        self.follow();
    }

    /// Brings the snapshot up to date, as the index does.
    fn follow(&mut self) {
        let mut events = block_on(self.store.watch(self.seen)).expect("nothing is compacted");
        while let Some(Some(Ok(batch))) = futures::FutureExt::now_or_never(events.next()) {
            for event in batch {
                self.seen = event.revision;
                let snapshot = Snapshot::clone(&self.snapshot);
                self.snapshot = Arc::new(match event.change {
                    Change::Put(resource) => snapshot.with(Resource::clone(&resource)),
                    Change::Delete(key) => {
                        self.deletions += 1;
                        snapshot.without(&key)
                    }
                });
            }
        }
    }

    fn shared(&self) -> Store {
        Arc::clone(&self.store) as Store
    }
}

/// One delta stream with its two ends and what is under way between them.
struct Link {
    server: ServerSession,
    client: ClientSession,
    receiver: Receiver,
    requests: VecDeque<DeltaDiscoveryRequest>,
    responses: VecDeque<DeltaDiscoveryResponse>,
}

impl Link {
    fn open(
        view: Arc<View>,
        scope: Box<dyn kds::Scope>,
        to: &Plane,
        role: Role,
        kinds: Vec<Kind>,
        id: &str,
    ) -> Self {
        let client = ClientSession::new(node(id, "test", "test", "{}"));
        let with_status = matches!(role, Role::Global { .. });
        let held = kinds.into_iter().map(|kind| {
            (kind, held_versions(&to.snapshot, kind, |l| role.is_from_peer(kind, l), with_status))
        });
        let requests = client.subscribe(held).into();
        Self {
            server: ServerSession::new("test", view, scope),
            client,
            receiver: Receiver::new(to.shared(), role, Metrics::default()),
            requests,
            responses: VecDeque::new(),
        }
    }

    /// Delivers one message, if any is under way; answers whether one was.
    fn step(&mut self, to: &mut Plane) -> bool {
        if let Some(request) = self.requests.pop_front() {
            self.responses.extend(self.server.request(request));
            return true;
        }
        let Some(response) = self.responses.pop_front() else { return false };
        let answer = match self.client.response(response) {
            Err(refusal) => *refusal,
            Ok(batch) => {
                let applied =
                    block_on(self.receiver.apply(&batch, Timestamp::EPOCH)).expect("memory takes any write");
                self.client.answer(&batch, &applied.rejected)
            }
        };
        to.follow();
        self.requests.push_back(answer);
        true
    }
}

struct World {
    global: Plane,
    global_view: Arc<View>,
    zones: Vec<(Plane, Arc<View>)>,
    down: Vec<Option<Link>>,
    up: Vec<Option<Link>>,
    /// Deletions that somebody asked for, and their consequences, per plane: global, east, west.
    allowed: [usize; 3],
}

fn outgoing() -> Outgoing {
    Outgoing::FromGlobal { public_key_of: |_| None }
}

fn from_zone(zone: usize) -> Outgoing {
    Outgoing::FromZone { zone: ZONES[zone].into() }
}

impl World {
    fn new() -> Self {
        let mut global = Plane::new();
        for zone in ZONES {
            let enabled = Zone { enabled: Some(true) };
            global.write(Op::create(Resource::builder(Key::global(Kind::ZONE, zone)).spec(&enabled).build()));
        }
        let zones = ZONES.iter().map(|_| (Plane::new(), Arc::default())).collect();
        let empty = || ZONES.iter().map(|_| None).collect();
        Self { global, global_view: Arc::default(), zones, down: empty(), up: empty(), allowed: [0; 3] }
    }

    /// Publishes newer views to every open stream.
    fn publish(&mut self) {
        self.global_view = Arc::new(self.global_view.advance(Arc::clone(&self.global.snapshot), &outgoing()));
        for link in self.down.iter_mut().flatten() {
            link.responses.extend(link.server.advance(Arc::clone(&self.global_view)));
        }
        for (at, (plane, view)) in self.zones.iter_mut().enumerate() {
            *view = Arc::new(view.advance(Arc::clone(&plane.snapshot), &from_zone(at)));
            if let Some(link) = &mut self.up[at] {
                link.responses.extend(link.server.advance(Arc::clone(view)));
            }
        }
    }

    fn connect(&mut self, zone: usize) {
        self.publish();
        let (plane, view) = &self.zones[zone];
        let scope = Box::new(ZoneScope::new(ZONES[zone]));
        let kinds = Kind::global_to_zone().collect();
        self.down[zone] =
            Some(Link::open(Arc::clone(&self.global_view), scope, plane, Role::Zone, kinds, ZONES[zone]));
        let role = Role::Global { zone: ZONES[zone].into() };
        let kinds = Kind::zone_to_global().collect();
        self.up[zone] =
            Some(Link::open(Arc::clone(view), Box::new(Everything), &self.global, role, kinds, ZONES[zone]));
    }

    fn step(&mut self, zone: usize) -> bool {
        let mut moved = false;
        if let Some(link) = &mut self.down[zone] {
            moved |= link.step(&mut self.zones[zone].0);
        }
        if let Some(link) = &mut self.up[zone] {
            moved |= link.step(&mut self.global);
        }
        self.publish();
        moved
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::WritePolicy(name, value) => {
                self.global.write(Op::Put(Arc::new(policy(*name, *value)), Expect::Any))
            }
            Action::DeletePolicy(name) => {
                let key = policy(*name, 0).key().clone();
                if self.global.snapshot.get(&key).is_some() {
                    self.allowed = [self.allowed[0] + 1, self.allowed[1] + 1, self.allowed[2] + 1];
                }
                self.global.write(Op::Delete(key, Expect::Any));
            }
            Action::WriteAddress(zone, name, port) => {
                self.zones[*zone].0.write(Op::Put(Arc::new(address(*zone, *name, *port)), Expect::Any));
            }
            Action::DeleteAddress(zone, name) => {
                let key = address(*zone, *name, 1).key().clone();
                if self.zones[*zone].0.snapshot.get(&key).is_some() {
                    self.allowed = [self.allowed[0] + 1, self.allowed[1] + 1, self.allowed[2] + 1];
                }
                self.zones[*zone].0.write(Op::Delete(key, Expect::Any));
            }
            Action::Deliver(zone, count) => (0..*count).for_each(|_| {
                self.step(*zone);
            }),
            Action::Disconnect(zone) => (self.down[*zone], self.up[*zone]) = (None, None),
            Action::Connect(zone) => self.connect(*zone),
        }
        self.publish();
    }

    /// Reconnects everybody and delivers until nothing moves.
    fn settle(&mut self) {
        (0..ZONES.len()).for_each(|zone| self.connect(zone));
        loop {
            let moved: Vec<bool> = (0..ZONES.len()).map(|zone| self.step(zone)).collect();
            if !moved.contains(&true) {
                return;
            }
        }
    }
}

/// The spec of a MeshTimeout.
fn timeout(value: u8) -> String {
    format!(r#"{{"to":[{{"targetRef":{{"kind":"Mesh"}},"default":{{"idleTimeout":"{value}s"}}}}]}}"#)
}

fn policy(name: u8, value: u8) -> Resource {
    let mut builder = Resource::builder(Key::new(Kind::MESH_TIMEOUT, "default", &format!("policy-{name}")))
        .label(labels::ORIGIN, "global");
    builder.spec = model::Payload::from_bytes(timeout(value));
    builder.build()
}

fn address(zone: usize, name: u8, port: u8) -> Resource {
    let spec = MeshZoneAddress { address: "192.0.2.1".into(), port: u32::from(port) + 1 };
    Resource::builder(Key::new(Kind::MESH_ZONE_ADDRESS, "default", &format!("address-{name}")))
        .spec(&spec)
        .label(labels::ORIGIN, "zone")
        .label(labels::ZONE, ZONES[zone])
        .build()
}

#[derive(Clone, Debug)]
enum Action {
    WritePolicy(u8, u8),
    DeletePolicy(u8),
    WriteAddress(usize, u8, u8),
    DeleteAddress(usize, u8),
    Deliver(usize, usize),
    Disconnect(usize),
    Connect(usize),
}

fn action() -> impl Strategy<Value = Action> {
    let zone = 0..ZONES.len();
    prop_oneof![
        3 => (0..4u8, 0..4u8).prop_map(|(name, value)| Action::WritePolicy(name, value)),
        1 => (0..4u8).prop_map(Action::DeletePolicy),
        3 => (zone.clone(), 0..3u8, 0..4u8).prop_map(|(zone, name, port)| Action::WriteAddress(zone, name, port)),
        1 => (zone.clone(), 0..3u8).prop_map(|(zone, name)| Action::DeleteAddress(zone, name)),
        6 => (zone.clone(), 1..80usize).prop_map(|(zone, count)| Action::Deliver(zone, count)),
        1 => zone.clone().prop_map(Action::Disconnect),
        2 => zone.prop_map(Action::Connect),
    ]
}

/// Specs by display name of what a store holds of a kind from a given origin.
fn specs(snapshot: &Snapshot, kind: Kind, of: impl Fn(&Resource) -> bool) -> BTreeMap<String, String> {
    let matching = snapshot.kind(kind).filter(|resource| of(resource));
    let text = |resource: &Arc<Resource>| String::from_utf8_lossy(resource.raw_spec().bytes()).into_owned();
    matching.map(|resource| (resource.display_name().to_owned(), text(resource))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_run_ends_with_equal_state_and_no_spurious_delete(actions in prop::collection::vec(action(), 0..60)) {
        let mut world = World::new();
        actions.iter().for_each(|action| world.act(action));
        world.settle();
        let policies = specs(&world.global.snapshot, Kind::MESH_TIMEOUT, |_| true);
        for (at, zone) in ZONES.iter().enumerate() {
            let snapshot = &world.zones[at].0.snapshot;
            prop_assert_eq!(&specs(snapshot, Kind::MESH_TIMEOUT, |_| true), &policies);
            let own = specs(snapshot, Kind::MESH_ZONE_ADDRESS, |r| r.label(labels::ORIGIN) == Some("zone"));
            let from_zone = |r: &Resource| r.zone() == Some(zone);
            prop_assert_eq!(&specs(&world.global.snapshot, Kind::MESH_ZONE_ADDRESS, from_zone), &own);
            let other = &world.zones[1 - at].0.snapshot;
            prop_assert_eq!(&specs(other, Kind::MESH_ZONE_ADDRESS, from_zone), &own);
        }
        let deletions = [&world.global, &world.zones[0].0, &world.zones[1].0].map(|plane| plane.deletions);
        for (made, allowed) in deletions.iter().zip(world.allowed) {
            prop_assert!(*made <= allowed, "{deletions:?} deletions, {:?} were asked for", world.allowed);
        }
    }
}

#[test]
fn a_reconnect_of_an_unchanged_zone_carries_no_resource() {
    let mut world = World::new();
    (0..4).for_each(|name| world.act(&Action::WritePolicy(name, 1)));
    world.act(&Action::WriteAddress(0, 1, 1));
    world.settle();
    world.connect(0);
    let mut resources = 0;
    for link in [&mut world.down[0], &mut world.up[0]].into_iter().flatten() {
        while let Some(request) = link.requests.pop_front() {
            resources += link
                .server
                .request(request)
                .iter()
                .map(|r| r.resources.len() + r.removed_resources.len())
                .sum::<usize>();
        }
    }
    assert_eq!(resources, 0);
}

#[test]
fn disabling_a_zone_takes_its_services_out_of_the_others() {
    let mut world = World::new();
    world.act(&Action::WriteAddress(0, 1, 1));
    world.settle();
    let addresses = |world: &World| world.zones[1].0.snapshot.count(Kind::MESH_ZONE_ADDRESS);
    assert_eq!(addresses(&world), 1);
    let disabled = Zone { enabled: Some(false) };
    world.global.write(Op::Put(
        Arc::new(Resource::builder(Key::global(Kind::ZONE, "east")).spec(&disabled).build()),
        Expect::Any,
    ));
    world.publish();
    while world.step(1) {}
    assert_eq!(addresses(&world), 0);
    assert_eq!(world.zones[0].0.snapshot.count(Kind::MESH_ZONE_ADDRESS), 1, "the zone keeps its own");
}

#[test]
fn a_zone_cannot_take_over_another_zones_resource() {
    let mut world = World::new();
    world.act(&Action::WriteAddress(0, 1, 1));
    world.settle();
    let name = names::synced_name("default", "address-1", Some("east"), None);
    let forged = kds_proto::envelope::Envelope {
        name: name.clone(),
        mesh: "default".into(),
        labels: [(labels::ZONE.to_owned(), "east".to_owned())].into(),
        spec: kds_proto::envelope::Content::Json(br#"{"address":"198.51.100.1","port":1}"#.to_vec()),
        status: None,
    };
    let client = ClientSession::new(node("west", "test", "test", "{}"));
    let batch = client
        .response(DeltaDiscoveryResponse {
            type_url: "MeshZoneAddress".into(),
            resources: vec![kds_proto::discovery::Resource {
                resource: Some(kds_proto::envelope::Envelope::any(forged.encode())),
                name: format!("{name}.default"),
                ..Default::default()
            }],
            removed_resources: vec![format!("{name}.default")],
            ..Default::default()
        })
        .expect("a known type");
    let receiver =
        Receiver::new(world.global.shared(), Role::Global { zone: "west".into() }, Metrics::default());
    let applied = block_on(receiver.apply(&batch, Timestamp::EPOCH)).expect("memory takes any write");
    assert_eq!((applied.changed, applied.rejected.len()), (0, 1), "{applied:?}");
    assert!(applied.rejected[0].contains("belongs to zone east"));
}

#[test]
fn garbage_refuses_itself_only() {
    let client = ClientSession::new(node("east", "test", "test", "{}"));
    let good = kds_proto::envelope::Envelope {
        name: "t-1".into(),
        mesh: "default".into(),
        labels: [(labels::ORIGIN.to_owned(), "global".to_owned())].into(),
        spec: kds_proto::envelope::Content::Json(timeout(1).into_bytes()),
        status: None,
    };
    let resource = |name: &str, any| kds_proto::discovery::Resource {
        name: name.into(),
        resource: any,
        ..Default::default()
    };
    let garbage = prost_types::Any {
        type_url: "type.googleapis.com/kuma.mesh.v1alpha1.KumaResource".into(),
        value: vec![7; 9],
    };
    let batch = client
        .response(DeltaDiscoveryResponse {
            type_url: "MeshTimeout".into(),
            nonce: "1".into(),
            resources: vec![
                resource("bad.default", Some(garbage)),
                resource("empty.default", None),
                resource("t-1.default", Some(kds_proto::envelope::Envelope::any(good.encode()))),
            ],
            ..Default::default()
        })
        .expect("a known type");
    let plane = Plane::new();
    let applied = block_on(
        Receiver::new(plane.shared(), Role::Zone, Metrics::default()).apply(&batch, Timestamp::EPOCH),
    )
    .expect("memory takes any write");
    assert_eq!((applied.changed, applied.rejected.len()), (1, 2), "{applied:?}");
    let answer = client.answer(&batch, &applied.rejected);
    assert!(answer.error_detail.is_some_and(|error| error.message.contains("bad.default")));
    let unknown = client.response(DeltaDiscoveryResponse { type_url: "Nope".into(), ..Default::default() });
    assert!(unknown.expect_err("refused as a whole").error_detail.is_some());
}

/// A newer peer's fields, which nobody on the way knows: the bytes that arrive are the bytes that were written.
#[test]
fn fields_that_nobody_knows_travel_unchanged() {
    let mut world = World::new();
    let with = |resource: Resource, spec: &[u8]| {
        let mut builder = resource.to_builder();
        builder.spec = model::Payload::from_bytes(spec.to_vec());
        builder.build()
    };
    let later = timeout(1).replacen('{', r#"{ "later": {"a": [1]},"#, 1);
    world.global.write(Op::create(with(policy(1, 1), later.as_bytes())));
    // Field 1000, a varint: in no version of a Mesh.
    let mesh_bytes: &[u8] = &[0xc0, 0x3e, 0x01];
    let mesh = Resource::builder(Key::global(Kind::MESH, "m")).label(labels::ORIGIN, "global").build();
    world.global.write(Op::create(with(mesh, mesh_bytes)));
    let address_bytes: &[u8] = br#"{"address":"192.0.2.1","later":true,"port":1}"#;
    world.zones[0].0.write(Op::create(with(address(0, 1, 1), address_bytes)));
    world.settle();
    let spec = |plane: &Plane, kind: Kind| {
        plane.snapshot.kind(kind).next().map(|resource| resource.raw_spec().bytes().to_vec())
    };
    for zone in 0..ZONES.len() {
        let plane = &world.zones[zone].0;
        assert_eq!(spec(plane, Kind::MESH_TIMEOUT).as_deref(), Some(later.as_bytes()));
        assert_eq!(spec(plane, Kind::MESH).as_deref(), Some(mesh_bytes));
        assert_eq!(spec(plane, Kind::MESH_ZONE_ADDRESS).as_deref(), Some(address_bytes));
    }
    assert_eq!(spec(&world.global, Kind::MESH_ZONE_ADDRESS).as_deref(), Some(address_bytes));
}

#[test]
fn our_own_peers_are_told_the_revision_and_others_are_not() {
    let mut world = World::new();
    world.act(&Action::WritePolicy(1, 1));
    let revision = world.global.snapshot.revision();
    let ask = |node| DeltaDiscoveryRequest {
        node: Some(node),
        type_url: Kind::MESH_TIMEOUT.name.into(),
        resource_names_subscribe: vec!["*".into()],
        ..Default::default()
    };
    let stranger = kds_proto::core::Node { id: "east".into(), ..Default::default() };
    for (node, told) in [(node("east", "test", "test", "{}"), Some(revision.0)), (stranger, None)] {
        let scope = Box::new(ZoneScope::new("east"));
        let mut server = ServerSession::new("test", Arc::clone(&world.global_view), scope);
        let response = server.request(ask(node)).remove(0);
        assert_eq!(response.resources.len(), 1);
        let client = ClientSession::new(kds_proto::core::Node::default());
        assert_eq!(client.response(response).expect("a known kind").revision, told);
    }
}
