//! The configuration of one proxy: each part of it has a module, policies edit the draft, then it is encoded.

mod admin;
mod context;
mod direct_access;
mod dns;
mod dynamic;
mod external_tls;
mod http_routes;
mod inbound;
mod outbound;
mod secrets;
mod transparent;
mod zone_egress;
mod zone_ingress;

use crate::config::ProxyConfig;
use crate::draft::Draft;
use crate::identity::Identity;
use crate::policies;
use crate::proxy::Proxy;
use crate::settings::Settings;
use crate::view::MeshView;

pub(crate) use context::{Context, Transparent};
pub(crate) use http_routes::{header, header_is};

/// The configuration of one proxy; a function of its arguments alone. Of a Dataplane that cannot be read nothing is
/// generated.
pub fn generate(
    view: &MeshView,
    proxy: &Proxy,
    identity: Option<&Identity>,
    settings: &Settings,
) -> ProxyConfig {
    let mut config = ProxyConfig::default();
    let Some(context) = Context::new(view, proxy, identity, settings) else { return config };
    let mut draft = Draft::default();
    admin::add(&context, &mut draft);
    transparent::add(&context, &mut draft);
    inbound::add(&context, &mut draft);
    direct_access::add(&context, &mut draft);
    dns::add(&context, &mut draft);
    zone_ingress::add(&context, &mut draft);
    zone_egress::add(&context, &mut draft);
    outbound::add(&context, &mut draft);
    policies::apply(&context, &mut draft);
    dynamic::add(&context, &mut draft);
    if let Some(identity) = identity {
        secrets::add(view.trust(), identity, &mut config);
    }
    let mut finished = draft.finish();
    config.notes = policies::patch(&context, &mut finished);
    finished.encode(&mut config);
    config
}
