//! MeshTimeout: how long connections, requests and silences may last; holds without policies too.

use envoy_api::envoy::config::core::v3::HttpProtocolOptions;
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use model::Kind;
use model::spec::Protocol;
use policy::{Section, Selected};
use prost_types::Duration;
use serde::Deserialize;
use serde_json::Value;

use super::duration;
use crate::draft::{Chain, Cluster, Draft, Filter, Role};
use crate::generate::Context;
use crate::parts::{action_mut, routes_mut, seconds};
use crate::view::Destination;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    connection_timeout: Option<String>,
    idle_timeout: Option<String>,
    http: Http,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Http {
    request_timeout: Option<String>,
    stream_idle_timeout: Option<String>,
    max_stream_duration: Option<String>,
    max_connection_duration: Option<String>,
    request_headers_timeout: Option<String>,
}

/// What a policy says of a duration, or a number of seconds where it says nothing that can be read.
fn or(said: Option<&String>, default: i64) -> Option<Duration> {
    said.and_then(|text| duration::parse(text)).or_else(|| seconds(default))
}

impl Conf {
    fn connect(&self) -> Option<Duration> {
        or(self.connection_timeout.as_ref(), 5)
    }

    fn idle(&self) -> Option<Duration> {
        or(self.idle_timeout.as_ref(), 60 * 60)
    }

    fn edit_cluster(&self, cluster: &mut Cluster, protocol: Protocol) {
        cluster.message.connect_timeout = self.connect();
        if !matches!(protocol, Protocol::Http | Protocol::Http2) {
            return;
        }
        if let Some(http) = &mut cluster.http {
            http.common_http_protocol_options = Some(HttpProtocolOptions {
                idle_timeout: self.idle(),
                max_stream_duration: or(self.http.max_stream_duration.as_ref(), 0),
                max_connection_duration: or(self.http.max_connection_duration.as_ref(), 0),
                ..HttpProtocolOptions::default()
            });
        }
    }

    fn edit_chain(&self, chain: &mut Chain) {
        for filter in &mut chain.filters {
            match filter {
                Filter::Http(manager) => self.edit_manager(manager),
                Filter::Tcp(proxy) => proxy.idle_timeout = self.idle(),
                Filter::Other(_) => {}
            }
        }
    }

    fn edit_manager(&self, manager: &mut HttpConnectionManager) {
        manager.request_headers_timeout = or(self.http.request_headers_timeout.as_ref(), 0);
        // The idle time of connections is that of the cluster.
        let common = manager.common_http_protocol_options.get_or_insert_default();
        common.idle_timeout = seconds(0);
        for action in routes_mut(manager).filter_map(action_mut) {
            action.timeout = or(self.http.request_timeout.as_ref(), 15);
            if self.http.stream_idle_timeout.is_some() || action.idle_timeout.is_none() {
                action.idle_timeout = or(self.http.stream_idle_timeout.as_ref(), 30 * 60);
            }
        }
    }
}

/// Sets all timeouts.
pub(crate) fn apply(context: &Context<'_>, draft: &mut Draft) {
    let selected = context.policies(Kind::MESH_TIMEOUT);
    for cluster in draft.clusters.values_mut() {
        match cluster.role.clone() {
            Role::Inbound { section, protocol } => {
                inbound(&selected, &section).edit_cluster(cluster, protocol)
            }
            Role::Outbound(destination) | Role::External(destination) => {
                outbound(&selected, &destination).edit_cluster(cluster, destination.protocol);
            }
            _ => {}
        }
    }
    for listener in draft.listeners.values_mut() {
        match &listener.role {
            Role::Inbound { section, .. } => {
                let conf = inbound(&selected, section);
                listener.chains.iter_mut().for_each(|chain| conf.edit_chain(chain));
            }
            Role::Outbound(destination) => {
                let conf = outbound(&selected, destination);
                listener.chains.iter_mut().for_each(|chain| conf.edit_chain(chain));
            }
            Role::ZoneEgress(section) => {
                for chain in &mut listener.chains {
                    if let Some(conf) = egress(&selected, section, chain.destination.as_deref()) {
                        conf.edit_chain(chain);
                    }
                }
            }
            _ => {}
        }
    }
}

fn inbound(selected: &Selected, section: &Section) -> Conf {
    selected.catch_all(section).and_then(|conf| conf.decode().ok()).unwrap_or_default()
}

fn outbound(selected: &Selected, destination: &Destination) -> Conf {
    selected.to(&destination.as_target()).and_then(|conf| conf.decode().ok()).unwrap_or_default()
}

/// What is said of connections to a server, else of all; an egress keeps what it has where nothing is said.
fn egress(selected: &Selected, section: &Section, destination: Option<&Destination>) -> Option<Conf> {
    let rules = selected.rules(section);
    let names = |matches: &Option<Value>| {
        let sni = matches.as_ref()?.get("sni")?.get("value")?.as_str()?;
        Some(sni == destination?.sni)
    };
    let rule = rules
        .iter()
        .find(|rule| names(&rule.matches).unwrap_or(false))
        .or_else(|| rules.iter().find(|rule| rule.matches.is_none()))?;
    rule.conf.decode().ok()
}
