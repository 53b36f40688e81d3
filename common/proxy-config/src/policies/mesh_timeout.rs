//! MeshTimeout: how long connections, requests and silences may last; holds without policies too.

use envoy_api::envoy::config::core::v3::HttpProtocolOptions;
use envoy_api::envoy::config::route::v3::Route;
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use model::Kind;
use model::duration::GoDuration;
use model::spec::{HttpTimeouts, PeerMatch, Protocol, TimeoutConf};
use policy::{Section, Selected};
use prost_types::Duration;

use super::outbound::OutboundConfs;
use super::peers::{PeerConf, asks_for_server, split_routes};
use crate::draft::{Chain, Cluster, Draft, Filter, Role};
use crate::generate::Context;
use crate::parts::{action_mut, duration, inspect_tls, routes_mut, seconds};
use crate::view::Destination;

/// Under which connections remember their peer.
const STATE: &str = "kuma.mesh_timeout.match";

/// Seconds that hold where no policy says anything.
const CONNECT: i64 = 5;
const IDLE: i64 = 60 * 60;
const REQUEST: i64 = 15;
const STREAM_IDLE: i64 = 30 * 60;
const NO_LIMIT: i64 = 0;

/// What a policy says of a duration, or a number of seconds where it says nothing.
fn or(said: Option<GoDuration>, default: i64) -> Option<Duration> {
    said.map(duration).or_else(|| seconds(default))
}

fn http(conf: &TimeoutConf) -> HttpTimeouts {
    conf.http.clone().unwrap_or_default()
}

fn edit_cluster(conf: &TimeoutConf, cluster: &mut Cluster, protocol: Protocol) {
    cluster.message.connect_timeout = or(conf.connection_timeout, CONNECT);
    if !matches!(protocol, Protocol::Http | Protocol::Http2) {
        return;
    }
    let said = http(conf);
    if let Some(options) = &mut cluster.http {
        options.common_http_protocol_options = Some(HttpProtocolOptions {
            idle_timeout: or(conf.idle_timeout, IDLE),
            max_stream_duration: or(said.max_stream_duration, NO_LIMIT),
            max_connection_duration: or(said.max_connection_duration, NO_LIMIT),
            ..HttpProtocolOptions::default()
        });
    }
}

fn edit_chain(conf: &TimeoutConf, chain: &mut Chain) {
    for filter in &mut chain.filters {
        match filter {
            Filter::Http(manager) => {
                edit_manager(conf, manager);
                routes_mut(manager).for_each(|route| edit_route(conf, route));
            }
            Filter::Tcp(proxy) => proxy.idle_timeout = or(conf.idle_timeout, IDLE),
            Filter::Other(_) => {}
        }
    }
}

fn edit_manager(conf: &TimeoutConf, manager: &mut HttpConnectionManager) {
    manager.request_headers_timeout = or(http(conf).request_headers_timeout, NO_LIMIT);
    // The idle time of connections is that of the cluster.
    manager.common_http_protocol_options.get_or_insert_default().idle_timeout = seconds(0);
}

fn edit_route(conf: &TimeoutConf, route: &mut Route) {
    let said = http(conf);
    let Some(action) = action_mut(route) else { return };
    action.timeout = or(said.request_timeout, REQUEST);
    if said.stream_idle_timeout.is_some() || action.idle_timeout.is_none() {
        action.idle_timeout = or(said.stream_idle_timeout, STREAM_IDLE);
    }
}

/// Sets all timeouts.
pub(crate) fn apply(context: &Context<'_>, draft: &mut Draft) {
    let selected = context.policies(Kind::MESH_TIMEOUT);
    for cluster in draft.clusters.values_mut() {
        match cluster.role.clone() {
            Role::Inbound { section, protocol } => {
                edit_cluster(&inbound(&selected, &section), cluster, protocol)
            }
            Role::Outbound(destination) | Role::External(destination) => {
                edit_cluster(&outbound(&selected, &destination), cluster, destination.protocol);
            }
            _ => {}
        }
    }
    for listener in draft.listeners.values_mut() {
        match &listener.role {
            Role::Inbound { section, .. } => {
                let conf = inbound(&selected, section);
                let peers = of_peers(rules(&selected, section));
                for chain in &mut listener.chains {
                    edit_chain(&conf, chain);
                    split_routes(chain, STATE, &peers, edit_own);
                }
                if asks_for_server(peers.iter().filter_map(|conf| conf.peer.as_ref())) {
                    inspect_tls(&mut listener.message.listener_filters);
                }
            }
            Role::Outbound(destination) => {
                listener.chains.iter_mut().for_each(|chain| edit_outbound(&selected, destination, chain));
            }
            Role::ZoneEgress(section) => {
                let rules = rules(&selected, section);
                listener.chains.iter_mut().for_each(|chain| edit_egress(&rules, chain));
            }
            _ => {}
        }
    }
}

/// Routes that policies name have timeouts of their own.
fn edit_outbound(selected: &Selected, destination: &Destination, chain: &mut Chain) {
    let confs = OutboundConfs::<TimeoutConf>::of(selected, destination, &chain.origins);
    let nothing = TimeoutConf::default();
    edit_chain(confs.destination().unwrap_or(&nothing), chain);
    for filter in &mut chain.filters {
        let Filter::Http(manager) = filter else { continue };
        for route in routes_mut(manager) {
            if let Some(conf) = confs.route_alone(&route.name) {
                edit_route(conf, route);
            }
        }
    }
}

/// Routes of peers whom rules name differ where these say so.
fn edit_own(route: &mut Route, conf: &TimeoutConf) {
    let said = http(conf);
    let Some(action) = action_mut(route) else { return };
    if said.request_timeout.is_some() {
        action.timeout = said.request_timeout.map(duration);
    }
    if said.stream_idle_timeout.is_some() {
        action.idle_timeout = said.stream_idle_timeout.map(duration);
    }
}

fn rules(selected: &Selected, section: &Section) -> Vec<PeerConf<TimeoutConf>> {
    selected.rules(section).iter().filter_map(PeerConf::of).collect()
}

/// Rules for particular peers, as far as they say anything of requests.
fn of_peers(rules: Vec<PeerConf<TimeoutConf>>) -> Vec<PeerConf<TimeoutConf>> {
    let of_requests = |conf: &PeerConf<TimeoutConf>| {
        let said = http(&conf.conf);
        conf.peer.is_some() && (said.request_timeout.is_some() || said.stream_idle_timeout.is_some())
    };
    rules.into_iter().filter(of_requests).collect()
}

/// A chain of an egress is for one server: rules for others do not count, and what the rest says of peers does as
/// elsewhere. It keeps what it has where nothing is said.
fn edit_egress(rules: &[PeerConf<TimeoutConf>], chain: &mut Chain) {
    let server = chain.destination.as_ref().map(|destination| destination.sni.clone());
    let (mut own, mut others, mut peers) = (None, None, Vec::new());
    for PeerConf { peer, conf } in rules {
        let sni = peer.as_ref().and_then(|peer| peer.sni.as_ref());
        if sni.is_some_and(|sni| Some(&sni.value) != server.as_ref()) {
            continue;
        }
        match peer.as_ref().and_then(|peer| peer.spiffe_id.clone()) {
            Some(id) => {
                let peer = Some(PeerMatch { spiffe_id: Some(id), sni: None });
                peers.push(PeerConf { peer, conf: conf.clone() });
            }
            None if sni.is_some() => own = own.or(Some(conf)),
            None => others = Some(conf),
        }
    }
    if let Some(conf) = own.or(others) {
        edit_chain(conf, chain);
    }
    split_routes(chain, STATE, &of_peers(peers), edit_own);
}

fn inbound(selected: &Selected, section: &Section) -> TimeoutConf {
    selected.catch_all(section).and_then(|conf| conf.decode().ok()).unwrap_or_default()
}

fn outbound(selected: &Selected, destination: &Destination) -> TimeoutConf {
    selected.to(&destination.as_target()).and_then(|conf| conf.decode().ok()).unwrap_or_default()
}
