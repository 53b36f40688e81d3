//! Small meshes.

use std::sync::Arc;
use std::time::Duration;

use auth::pki::{Authority, Validity};
use kds_proto::mesh::dataplane::Networking;
use kds_proto::mesh::dataplane::networking::Inbound;
use kds_proto::mesh::{Dataplane, DataplaneInsight, DiscoverySubscription};
use model::labels::{self, Plane};
use model::payload::{Payload, Typed};
use model::resource::Builder;
use model::spec::Secret;
use model::{Key, Kind, Labels, Resource, Timestamp};
use serde_json::{Value, json};
use store::{Op, Snapshot};

use crate::controllers::Settings;
use crate::controllers::memory::Memory;
use crate::controllers::scope::Scope;

pub(crate) const MESH: &str = "default";

pub(crate) fn now() -> Timestamp {
    Timestamp::from_unix(1_800_000_000, 0)
}

pub(crate) fn later(seconds: u64) -> Timestamp {
    now().plus(Duration::from_secs(seconds))
}

pub(crate) fn plane() -> Plane {
    Plane::Zone { name: "east".into(), federated: true }
}

pub(crate) fn settings() -> Settings {
    Settings::new(plane())
}

pub(crate) fn own(kind: Kind, name: &str, given: &[(&str, &str)]) -> Builder {
    let given: Labels = given.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    let labels = labels::compute(&plane(), kind, MESH, name, &given, None);
    Builder::new(Key::new(kind, MESH, name)).labels(labels).at(now())
}

pub(crate) fn json_spec(mut builder: Builder, spec: &Value) -> Builder {
    builder.spec = Payload::from_bytes(spec.to_string());
    builder
}

pub(crate) fn mesh() -> Resource {
    Builder::new(Key::global(Kind::MESH, MESH)).build()
}

/// A proxy of a workload with inbounds: port, name and whether it is ready.
pub(crate) fn dataplane(name: &str, workload: &str, inbounds: &[(u32, &str, bool)]) -> Resource {
    let inbound = inbounds
        .iter()
        .map(|(port, name, ready)| Inbound {
            port: *port,
            name: (*name).into(),
            protocol: "http".into(),
            state: i32::from(!*ready),
            ..Inbound::default()
        })
        .collect();
    let networking = Networking { address: "10.0.0.1".into(), inbound, ..Networking::default() };
    let spec = Dataplane { networking: Some(networking) };
    own(Kind::DATAPLANE, name, &[(labels::WORKLOAD, workload)]).spec(&spec).build()
}

pub(crate) fn insight(name: &str, connected: bool) -> Resource {
    let connect_time = Some(now().to_proto());
    let disconnect_time = (!connected).then(|| now().to_proto());
    let stream = DiscoverySubscription { connect_time, disconnect_time, ..Default::default() };
    let spec = DataplaneInsight { subscriptions: vec![stream], ..Default::default() };
    own(Kind::DATAPLANE_INSIGHT, name, &[]).spec(&spec).build()
}

pub(crate) fn bundled_spec(expiry: &str) -> Value {
    json!({
        "selector": {"dataplane": {"matchLabels": {}}},
        "provider": {"type": "Bundled", "bundled": {
            "autogenerate": {"enabled": true},
            "certificateParameters": {"expiry": expiry},
        }},
    })
}

/// A MeshIdentity for all proxies whose authority the zone makes.
pub(crate) fn identity(name: &str) -> Resource {
    json_spec(own(Kind::MESH_IDENTITY, name, &[]), &bundled_spec("24h")).build()
}

pub(crate) fn secret(name: &str, text: &str) -> Resource {
    let managed = [(labels::MANAGED_BY, "meshidentity-generator")];
    own(Kind::SECRET, name, &managed).spec(&Secret { data: Some(text.as_bytes().to_vec()) }).build()
}

pub(crate) fn authority(lifetime: Duration) -> Authority {
    let validity = Validity::starting(now().inner(), lifetime).unwrap();
    Authority::generate("test", Some("default.east.mesh.local"), validity).unwrap()
}

pub(crate) fn hostname_generator(name: &str, template: &str) -> Resource {
    let spec = json!({"selector": {"meshService": {"matchLabels": {}}}, "template": template});
    let key = Key::global(Kind::HOSTNAME_GENERATOR, name);
    json_spec(Builder::new(key).label(labels::ORIGIN, "zone"), &spec).build()
}

pub(crate) fn snapshot(resources: impl IntoIterator<Item = Resource>) -> Snapshot {
    resources.into_iter().fold(Snapshot::default().with(mesh()), Snapshot::with)
}

/// The writes that a pass over a whole mesh wants, and when it wants another.
pub(crate) fn plan_mesh(snapshot: &Snapshot, now: Timestamp) -> (Vec<Op>, Option<Timestamp>) {
    let mut memory = Memory::new(settings());
    memory.advance(&Arc::new(snapshot.clone()));
    let ops = memory.plan(MESH, &Scope::everything(snapshot, MESH), now);
    (ops, memory.next_due())
}

/// The snapshot after a write.
pub(crate) fn apply(snapshot: Snapshot, op: Op) -> Snapshot {
    match op {
        Op::Put(resource, _) => snapshot.with(Resource::clone(&resource)),
        Op::Delete(key, _) => snapshot.without(&key),
    }
}

/// The snapshot after all controllers ran. Running them again must write nothing.
pub(crate) fn settle(snapshot: Snapshot, now: Timestamp) -> Snapshot {
    let (ops, _) = plan_mesh(&snapshot, now);
    let settled = ops.into_iter().fold(snapshot, apply);
    let (again, _) = plan_mesh(&settled, now);
    assert!(again.is_empty(), "not idempotent: {again:?}");
    settled
}

pub(crate) fn key(kind: Kind, name: &str) -> Key {
    Key::new(kind, MESH, name)
}

pub(crate) fn has(snapshot: &Snapshot, kind: Kind, name: &str) -> bool {
    snapshot.get(&key(kind, name)).is_some()
}

pub(crate) fn spec<T: Typed + Clone + Send + Sync + 'static>(
    snapshot: &Snapshot,
    kind: Kind,
    name: &str,
) -> T {
    snapshot.resource(&key(kind, name)).expect(name).spec::<T>().unwrap().clone()
}

pub(crate) fn status<T: Typed + Clone + Send + Sync + 'static>(
    snapshot: &Snapshot,
    kind: Kind,
    name: &str,
) -> T {
    snapshot.resource(&key(kind, name)).expect(name).status::<T>().unwrap().clone()
}
