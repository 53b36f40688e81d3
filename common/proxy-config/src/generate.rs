//! The configuration of one proxy.

mod secrets;

use crate::config::ProxyConfig;
use crate::identity::Identity;
use crate::proxy::Proxy;
use crate::settings::Settings;
use crate::view::MeshView;

/// The configuration of one proxy; a function of its arguments alone.
pub fn generate(
    view: &MeshView,
    _proxy: &Proxy,
    identity: Option<&Identity>,
    _settings: &Settings,
) -> ProxyConfig {
    let mut config = ProxyConfig::default();
    if let Some(identity) = identity {
        secrets::add(view.trust(), identity, &mut config);
    }
    config
}
