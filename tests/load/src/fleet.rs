//! Dataplanes, insights and services that played zones offer.

use std::sync::Arc;

use kds::{Outgoing, View};
use kds_proto::mesh::dataplane::Networking;
use kds_proto::mesh::dataplane::networking::Inbound;
use kds_proto::mesh::{Dataplane, DataplaneInsight, DiscoverySubscription};
use model::spec::{MeshService, ServicePort, ServiceState};
use model::{Key, Kind, Resource};
use store::Snapshot;
use tokio::sync::watch;

/// Services of a zone; its dataplanes belong to them in turn.
const SERVICES: usize = 100;
const MESH: &str = "default";

/// What one zone has.
pub(crate) struct Fleet {
    outgoing: Outgoing,
    snapshot: Arc<Snapshot>,
    views: watch::Sender<Arc<View>>,
    zone: usize,
}

impl Fleet {
    /// A zone without anything.
    pub(crate) fn new(zone: usize, name: &str) -> Self {
        let (outgoing, snapshot) = (Outgoing::FromZone { zone: name.into() }, Arc::default());
        Self { outgoing, snapshot, views: watch::Sender::new(Arc::new(View::default())), zone }
    }

    /// What it offers, now and later.
    pub(crate) fn views(&self) -> watch::Receiver<Arc<View>> {
        self.views.subscribe()
    }

    /// Dataplanes and their insights, at this generation of all of them.
    pub(crate) fn put(&mut self, dataplanes: impl Iterator<Item = usize>, generation: u32) {
        let mut next = Snapshot::clone(&self.snapshot);
        for number in dataplanes {
            next = next.with(dataplane(self.zone, number, generation)).with(insight(number, generation));
        }
        self.offer(next);
    }

    /// A service whose endpoints are there, or gone; the marker tells one version from another.
    pub(crate) fn put_service(&mut self, name: &str, available: bool, marker: u64) {
        let state = if available { ServiceState::Available } else { ServiceState::Unavailable };
        let port = ServicePort { name: None, port: 80, target_port: None, app_protocol: "http".into() };
        let service = MeshService { state, ports: vec![port], ..MeshService::default() };
        let resource = Resource::builder(Key::new(Kind::MESH_SERVICE, MESH, name))
            .label(model::labels::ORIGIN, "zone")
            .label(crate::zone::MARKER, &marker.to_string())
            .spec(&service)
            .build();
        self.offer(Snapshot::clone(&self.snapshot).with(resource));
    }

    /// How many resources of a kind it has.
    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.snapshot.count(kind)
    }

    fn offer(&mut self, next: Snapshot) {
        self.snapshot = Arc::new(next);
        let view = self.views.borrow().advance(Arc::clone(&self.snapshot), &self.outgoing);
        self.views.send_replace(Arc::new(view));
    }
}

fn dataplane(zone: usize, number: usize, generation: u32) -> Resource {
    let address = format!("10.{}.{}.{}", zone % 250, number / 250 % 250, number % 250);
    let inbound = Inbound { port: 8080, service_port: 80, protocol: "http".into(), ..Inbound::default() };
    let networking = Networking { address, inbound: vec![inbound], ..Networking::default() };
    let service = format!("service-{}", number % SERVICES);
    let labels = [
        (model::labels::ORIGIN, "zone"),
        ("app", service.as_str()),
        ("kuma.io/workload", service.as_str()),
        ("pod-template-hash", "7d4b9c6f5"),
        ("team", "payments"),
        ("version", "v1"),
    ];
    let builder = Resource::builder(Key::new(Kind::DATAPLANE, MESH, &name(number)))
        .label("load/generation", &generation.to_string())
        .spec(&Dataplane { networking: Some(networking) });
    labels.iter().fold(builder, |builder, (key, value)| builder.label(key, value)).build()
}

fn insight(number: usize, generation: u32) -> Resource {
    let connected = DiscoverySubscription {
        id: format!("{number}-{generation}"),
        control_plane_instance_id: "load".into(),
        connect_time: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
        ..DiscoverySubscription::default()
    };
    Resource::builder(Key::new(Kind::DATAPLANE_INSIGHT, MESH, &name(number)))
        .label(model::labels::ORIGIN, "zone")
        .spec(&DataplaneInsight { subscriptions: vec![connected], ..DataplaneInsight::default() })
        .build()
}

fn name(number: usize) -> String {
    format!("dataplane-{number}")
}
