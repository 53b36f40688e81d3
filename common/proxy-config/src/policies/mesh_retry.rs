//! MeshRetry: which failed calls are made again.

mod http;

use envoy_api::envoy::config::route::v3::RetryPolicy;
use model::Kind;
use model::spec::{Protocol, RetryConf};

use super::outbound::OutboundConfs;
use crate::draft::{Chain, Draft, Filter, Role};
use crate::generate::Context;
use crate::parts::{action_mut, routes_mut};

/// Adds retries to what the application calls.
pub(crate) fn apply(context: &Context<'_>, draft: &mut Draft) {
    let selected = context.policies(Kind::MESH_RETRY);
    if selected.is_empty() {
        return;
    }
    for listener in draft.listeners.values_mut() {
        let Role::Outbound(destination) = &listener.role else { continue };
        for chain in &mut listener.chains {
            let confs = OutboundConfs::<RetryConf>::of(&selected, destination, &chain.origins);
            edit(&confs, destination.protocol, chain);
        }
    }
}

fn edit(confs: &OutboundConfs<RetryConf>, protocol: Protocol, chain: &mut Chain) {
    for filter in &mut chain.filters {
        match filter {
            Filter::Http(manager) => {
                for route in routes_mut(manager) {
                    let retry = confs.route(&route.name).and_then(|conf| policy(conf, protocol));
                    if let (Some(retry), Some(action)) = (retry, action_mut(route)) {
                        action.retry_policy = Some(retry);
                    }
                }
            }
            Filter::Tcp(proxy) if protocol == Protocol::Tcp => {
                let tcp = confs.destination().and_then(|conf| conf.tcp.as_ref());
                proxy.max_connect_attempts = tcp.and_then(|tcp| tcp.max_connect_attempt);
            }
            Filter::Tcp(_) | Filter::Other(_) => {}
        }
    }
}

/// HTTP/2 that is no gRPC has no retries, as with other control planes of this API.
fn policy(conf: &RetryConf, protocol: Protocol) -> Option<RetryPolicy> {
    match protocol {
        Protocol::Http => http::of_http(conf.http.as_ref()?),
        Protocol::Grpc => http::of_grpc(conf.grpc.as_ref()?),
        _ => None,
    }
}
