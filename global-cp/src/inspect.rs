//! Looking into proxies from the global: the zone of a proxy is asked.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use control_api::{AdminQuery, InspectError, ProxyInspector};
use model::spec::ZoneInsight;
use model::{Key, Kind, Resource};
use serde_json::Value;
use store::Snapshot;
use store::index::SnapshotReceiver;

use crate::kds::{Admin, AdminError, ProxyName};

/// Asks zones about their proxies.
pub struct ThroughZones {
    admin: Arc<Admin>,
    snapshots: SnapshotReceiver,
}

impl ThroughZones {
    /// Asks over the streams that zones keep open.
    pub fn new(admin: Arc<Admin>, snapshots: SnapshotReceiver) -> Self {
        Self { admin, snapshots }
    }
}

#[async_trait]
impl ProxyInspector for ThroughZones {
    async fn admin(&self, dataplane: &Key, query: AdminQuery) -> Result<Bytes, InspectError> {
        let (zone, proxy) = {
            let snapshot = self.snapshots.borrow();
            let not_connected = || InspectError::NotConnected(dataplane.to_string());
            let resource = snapshot.resource(dataplane).ok_or_else(not_connected)?;
            let zone = resource.zone().ok_or_else(not_connected)?.to_owned();
            let proxy = ProxyName {
                mesh: resource.mesh().into(),
                name: name_in_zone(resource, runs_on_kubernetes(&snapshot, &zone)),
            };
            (zone, proxy)
        };
        self.admin.ask(&zone, proxy, query).await.map_err(|error| match error {
            AdminError::Offline(_) => InspectError::NotConnected(format!("zone {zone}")),
            error => InspectError::Unreachable(error.to_string()),
        })
    }
}

/// How a zone calls its proxy: by the display name, followed by the namespace on Kubernetes.
fn name_in_zone(dataplane: &Resource, kubernetes: bool) -> String {
    let display = dataplane.display_name();
    match dataplane.namespace() {
        Some(namespace) if kubernetes => format!("{display}.{namespace}"),
        _ => display.to_owned(),
    }
}

/// What the configuration that a zone reported says of its store.
fn runs_on_kubernetes(snapshot: &Snapshot, zone: &str) -> bool {
    let reported = || {
        let insight = snapshot.resource(&Key::global(Kind::ZONE_INSIGHT, zone))?;
        let config = &insight.spec::<ZoneInsight>().ok()?.subscriptions.last()?.config;
        let config: Value = serde_json::from_str(config).ok()?;
        Some(config.get("store")?.get("type")? == "kubernetes")
    };
    reported().unwrap_or(false)
}
