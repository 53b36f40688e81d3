//! Looks into proxies of this zone, for the API and for the global.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use control_api::{AdminQuery, InspectError, ProxyInspector};
use model::spec::DataplaneInsight;
use model::{Key, Kind};
use proxy_config::{AdminTls, Identity, Metadata, Proxy, Settings};
use serde_json::Value;

use super::context::Context;
use super::{AdminError, Handle, admin};

#[async_trait]
impl ProxyInspector for Handle {
    async fn configuration(&self, dataplane: &Key, shadow: bool) -> Result<Value, InspectError> {
        configuration(&self.context, dataplane, shadow)
    }

    async fn admin(&self, dataplane: &Key, query: AdminQuery) -> Result<Bytes, InspectError> {
        admin::ask(&self.context, dataplane, query).await.map_err(|error| match error {
            AdminError::NotConnected(key) => InspectError::NotConnected(key.to_string()),
            error => InspectError::Unreachable(error.to_string()),
        })
    }
}

/// What a proxy is to hold, made from the newest snapshot and from what the proxy last said of itself. It has no
/// certificate and no key in it.
fn configuration(context: &Context, key: &Key, shadow: bool) -> Result<Value, InspectError> {
    let unknown = || InspectError::NotConnected(key.to_string());
    let state = context.views.subscribe(&key.mesh).newest();
    let dataplane = state.snapshot.resource(key).ok_or_else(unknown)?;
    // Views do not follow insights: they are newer in the newest snapshot.
    let snapshot = Arc::clone(&context.deps.snapshots.borrow());
    let insight = Key::new(Kind::DATAPLANE_INSIGHT, &key.mesh, &key.name);
    let insight = snapshot.resource(&insight).and_then(|insight| insight.spec::<DataplaneInsight>().ok());
    let metadata = insight.and_then(|insight| insight.metadata.as_ref()).ok_or_else(unknown)?;
    let proxy = Proxy::new(Arc::clone(dataplane), Metadata::from_struct(metadata))
        .with_admin_tls(Arc::new(AdminTls::blank()));
    let identity = state.view.identity_of(dataplane).and_then(|identity| {
        let id = proxy_config::spiffe::id(identity, dataplane, state.view.zone())?;
        Some(Identity::without_key(identity.kri()?, id))
    });
    let settings = Settings { shadow_policies: shadow, ..context.config.settings.clone() };
    let config = proxy_config::generate(&state.view, &proxy, identity.as_ref(), &settings);
    Ok(config.to_json())
}
