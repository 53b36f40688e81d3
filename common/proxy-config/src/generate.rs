//! The configuration of one proxy: each part of it has a module, policies edit the draft, then it is encoded.

mod admin;
mod context;
mod direct_access;
mod dns;
mod dynamic;
mod external_tls;
mod http_routes;
mod inbound;
mod inputs;
mod outbound;
mod secrets;
mod transparent;
mod zone_egress;
mod zone_ingress;

use std::cmp::Reverse;

use model::{Kind, Kri};
use policy::Selected;

use crate::config::{ProxyConfig, ResourceType};
use crate::draft::Draft;
use crate::identity::Identity;
use crate::policies;
use crate::proxy::Proxy;
use crate::settings::Settings;
use crate::view::MeshView;

pub(crate) use context::{Context, Transparent};
pub(crate) use http_routes::{header, header_is};
pub use inputs::Inputs;
pub(crate) use transparent::name as passthrough_name;

/// The configuration of one proxy; a function of its arguments alone. Of a Dataplane that cannot be read nothing is
/// generated.
pub fn generate(
    view: &MeshView,
    proxy: &Proxy,
    identity: Option<&Identity>,
    settings: &Settings,
) -> ProxyConfig {
    let context = Context::new(view, proxy, identity, settings);
    context.map(|context| make(&context)).unwrap_or_default()
}

/// The policies that make a resource what it is, the most recently changed first: without any of them it would be
/// another one, or none. A generation for each policy that selects the proxy.
pub fn contributors(
    view: &MeshView,
    proxy: &Proxy,
    identity: Option<&Identity>,
    settings: &Settings,
    (kind, name): (ResourceType, &str),
) -> Vec<Kri> {
    let Some(mut context) = Context::new(view, proxy, identity, settings) else { return Vec::new() };
    let version = |context: &Context<'_>| make(context).get(kind, name).map(|resource| resource.version);
    let whole = version(&context);
    let kinds = Kind::all().filter(|kind| kind.policy.is_some());
    let selected: Vec<_> = kinds.map(|kind| context.policies(kind)).collect();
    let mut found = Vec::new();
    for policy in selected.iter().flat_map(Selected::policies) {
        context.without = Some(&policy.kri);
        if version(&context) != whole {
            found.push((Reverse(policy.resource.modified()), policy.kri.clone()));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.to_string().cmp(&b.1.to_string())));
    found.into_iter().map(|(_, kri)| kri).collect()
}

fn make(context: &Context<'_>) -> ProxyConfig {
    let mut config = ProxyConfig::default();
    let mut draft = Draft::default();
    admin::add(context, &mut draft);
    transparent::add(context, &mut draft);
    inbound::add(context, &mut draft);
    direct_access::add(context, &mut draft);
    dns::add(context, &mut draft);
    zone_ingress::add(context, &mut draft);
    zone_egress::add(context, &mut draft);
    outbound::add(context, &mut draft);
    policies::apply(context, &mut draft);
    dynamic::add(context, &mut draft);
    if let Some(identity) = context.identity {
        secrets::add(context.view.trust(), identity, &mut config);
    }
    let mut finished = draft.finish();
    config.notes = policies::patch(context, &mut finished);
    finished.encode(&mut config);
    config
}
