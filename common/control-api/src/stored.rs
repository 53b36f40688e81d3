//! Proxies as the store knows them: for a control plane to which no proxy connects.

use std::sync::Arc;

use async_trait::async_trait;
use model::spec::DataplaneInsight;
use model::{Key, Kind};
use proxy_config::{AdminTls, Identity, MeshView, Metadata, Proxy, Settings, generate, spiffe};
use serde_json::Value;
use store::index::SnapshotReceiver;

use crate::{InspectError, ProxyInspector};

/// Generates configurations from resources and from what insights remember of proxies; asks no proxy anything.
pub struct StoredProxies {
    snapshots: SnapshotReceiver,
    zone: String,
}

impl StoredProxies {
    /// The proxies of a zone.
    pub fn new(snapshots: SnapshotReceiver, zone: impl Into<String>) -> Self {
        Self { snapshots, zone: zone.into() }
    }
}

#[async_trait]
impl ProxyInspector for StoredProxies {
    async fn configuration(&self, dataplane: &Key, shadow: bool) -> Result<Value, InspectError> {
        let snapshot = Arc::clone(&self.snapshots.borrow());
        let unknown = || InspectError::NotConnected(dataplane.to_string());
        let resource = snapshot.resource(dataplane).ok_or_else(unknown)?;
        let insight = Key::new(Kind::DATAPLANE_INSIGHT, &dataplane.mesh, &dataplane.name);
        let insight = snapshot.resource(&insight).and_then(|insight| insight.spec::<DataplaneInsight>().ok());
        let metadata = insight.ok_or_else(unknown)?.metadata.clone().unwrap_or_default();
        let view = MeshView::new(&snapshot, &dataplane.mesh, &self.zone);
        let proxy = Proxy::new(Arc::clone(resource), Metadata::from_struct(&metadata))
            .with_admin_tls(Arc::new(AdminTls::blank()));
        let identity = view.identity_of(resource).and_then(|identity| {
            Some(Identity::without_key(identity.kri()?, spiffe::id(identity, resource, view.zone())?))
        });
        let settings = Settings { shadow_policies: shadow, ..Settings::default() };
        Ok(generate(&view, &proxy, identity.as_ref(), &settings).to_json())
    }
}
