//! The chains of connections that pass through, and the clusters that take them to where they were going.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use envoy_api::envoy::config::cluster::v3::Cluster as ClusterMessage;
use envoy_api::envoy::config::core::v3::CidrRange;
use envoy_api::envoy::config::listener::v3::{FilterChain, FilterChainMatch};
use envoy_api::envoy::config::route::v3::route::Action;
use envoy_api::envoy::config::route::v3::{
    DirectResponseAction, Route, RouteConfiguration, VirtualHost, route_match::PathSpecifier,
};
use envoy_api::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use model::spec::{PassthroughMatch, PassthroughMatchType, PassthroughProtocol, Protocol};

use crate::draft::{Chain, Filter};
use crate::parts::{
    self, http_manager, original_destination_cluster, path_match, prefix_route, route_configuration,
    tcp_proxy, to_cluster,
};
use crate::settings::Cidr;

/// What a listener of one family of addresses has.
#[derive(Default)]
pub(super) struct Made {
    pub(super) chains: Vec<Chain>,
    pub(super) clusters: Vec<MadeCluster>,
}

/// A cluster, and what it speaks.
pub(super) struct MadeCluster {
    pub(super) message: ClusterMessage,
    pub(super) protocol: PassthroughProtocol,
}

/// The version of HTTP that a cluster speaks; `None` for HTTP/1.1 and what is no HTTP.
pub(super) fn http_version(protocol: PassthroughProtocol) -> Option<HttpProtocolOptions> {
    match protocol {
        PassthroughProtocol::Grpc | PassthroughProtocol::Http2 => parts::http_version(Protocol::Http2),
        _ => None,
    }
}

/// A destination at one port.
struct Place<'a> {
    of: &'a PassthroughMatch,
    range: Option<Cidr>,
    port: Option<u32>,
}

/// The chains for destinations of one family. Of two that Envoy cannot tell apart the first stays.
pub(super) fn of(matches: &[PassthroughMatch], v6: bool) -> Made {
    let mut made = Made::default();
    let mut named: BTreeMap<Option<u32>, Vec<&Place<'_>>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut clusters = BTreeSet::new();
    let places = places(matches, v6);
    for place in &places {
        let name = place.name();
        if clusters.insert(name.clone()) {
            let message = original_destination_cluster(&name);
            made.clusters.push(MadeCluster { message, protocol: place.of.protocol });
        }
        if place.is_http() && place.range.is_none() {
            named.entry(place.port).or_default().push(place);
            continue;
        }
        let chain_match = place.chain_match();
        if seen.insert(key(&chain_match)) {
            let filter = if place.is_http() {
                let routes = vec![prefix_route("/", to_cluster(&name))];
                http(&name, route_configuration(&name, &name, routes))
            } else {
                Filter::Tcp(Box::new(tcp_proxy(&name, &name)))
            };
            made.chains.push(chain(&name, chain_match, filter));
        }
    }
    // Names are seen in requests only: one chain a port takes all of them.
    for (port, places) in named {
        let Some(first) = places.first() else { continue };
        let name = format!("meshpassthrough_{}_{}", first.of.protocol.as_str(), shown(port));
        let chain_match = FilterChainMatch { prefix_ranges: Vec::new(), ..first.chain_match() };
        if seen.insert(key(&chain_match)) {
            made.chains.push(chain(&name, chain_match, http(&name, by_host(&name, &places))));
        }
    }
    made
}

fn key(of: &FilterChainMatch) -> (Option<u32>, String, Vec<String>, Vec<String>) {
    let ranges =
        of.prefix_ranges.iter().map(|range| format!("{}/{:?}", range.address_prefix, range.prefix_len));
    (of.destination_port, of.transport_protocol.clone(), of.server_names.clone(), ranges.collect())
}

/// Matches without a port hold on every port that another one names: Envoy chooses by the port first.
fn places(matches: &[PassthroughMatch], v6: bool) -> Vec<Place<'_>> {
    let ports: BTreeSet<u32> = matches.iter().filter_map(|one| one.port).collect();
    let mut places = Vec::new();
    for of in matches {
        let range = match of.r#type {
            PassthroughMatchType::Domain => None,
            PassthroughMatchType::Ip => of.value.parse::<IpAddr>().ok().map(Cidr::of_host),
            PassthroughMatchType::Cidr => Cidr::parse(&of.value),
        };
        if of.r#type != PassthroughMatchType::Domain
            && range.as_ref().is_none_or(|range| range.address.is_ipv6() != v6)
        {
            continue;
        }
        let place = |port| Place { of, range, port };
        places.push(place(of.port));
        if of.port.is_none() {
            places.extend(ports.iter().map(|port| place(Some(*port))));
        }
    }
    // What names a port comes before the copy of what names none.
    places.sort_by_key(|place| place.of.port.is_none());
    places
}

fn shown(port: Option<u32>) -> String {
    port.map_or_else(|| "*".to_owned(), |port| port.to_string())
}

impl Place<'_> {
    fn name(&self) -> String {
        format!("meshpassthrough_{}_{}_{}", self.of.protocol.as_str(), self.of.value, shown(self.port))
    }

    fn is_http(&self) -> bool {
        use PassthroughProtocol::{Grpc, Http, Http2};
        matches!(self.of.protocol, Http | Http2 | Grpc)
    }

    fn chain_match(&self) -> FilterChainMatch {
        let prefix_ranges: Vec<CidrRange> = self.range.iter().map(parts::cidr).collect();
        let is_tls = self.of.protocol == PassthroughProtocol::Tls;
        let by_name = is_tls && self.range.is_none();
        let alpn: &[&str] = if self.is_http() { &["http/1.1", "h2c"] } else { &[] };
        FilterChainMatch {
            transport_protocol: if is_tls { "tls" } else { "raw_buffer" }.into(),
            destination_port: self.port,
            server_names: by_name.then(|| self.of.value.to_lowercase()).into_iter().collect(),
            application_protocols: alpn.iter().map(|protocol| (*protocol).into()).collect(),
            prefix_ranges,
            ..FilterChainMatch::default()
        }
    }
}

fn chain(name: &str, chain_match: FilterChainMatch, filter: Filter) -> Chain {
    let message =
        FilterChain { name: name.into(), filter_chain_match: Some(chain_match), ..FilterChain::default() };
    Chain { message, filters: vec![filter], ..Chain::default() }
}

fn http(name: &str, routes: RouteConfiguration) -> Filter {
    Filter::Http(Box::new(http_manager(name, routes, [].into_iter())))
}

/// A host for each name, and an answer for those that are not named.
fn by_host(name: &str, places: &[&Place<'_>]) -> RouteConfiguration {
    let mut taken = BTreeSet::new();
    let mut hosts: Vec<VirtualHost> = Vec::new();
    for place in places {
        let domain = place.of.value.to_lowercase();
        if !taken.insert(domain.clone()) {
            continue;
        }
        let cluster = place.name();
        let with_port = format!("{domain}:{}", shown(place.port));
        hosts.push(VirtualHost {
            name: domain.clone(),
            domains: vec![domain, with_port],
            routes: vec![prefix_route("/", to_cluster(&cluster))],
            ..VirtualHost::default()
        });
    }
    let refusal = DirectResponseAction { status: 503, ..DirectResponseAction::default() };
    hosts.push(VirtualHost {
        name: "no_match".into(),
        domains: vec!["*".into()],
        routes: vec![Route {
            r#match: Some(path_match(PathSpecifier::Prefix("/".into()))),
            action: Some(Action::DirectResponse(refusal)),
            ..Route::default()
        }],
        ..VirtualHost::default()
    });
    RouteConfiguration { virtual_hosts: hosts, ..route_configuration(name, name, Vec::new()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(made: &Made) -> Vec<&str> {
        made.chains.iter().map(|chain| chain.message.name.as_str()).collect()
    }

    #[test]
    fn every_destination_has_its_chain_and_hosts_share_one() {
        let matches: Vec<PassthroughMatch> = serde_json::from_value(json!([
            {"type": "Domain", "value": "example.com", "protocol": "tls", "port": 443},
            {"type": "IP", "value": "192.0.2.1", "port": 80},
            {"type": "CIDR", "value": "2001:db8::/32"},
            {"type": "Domain", "value": "a.example", "protocol": "http", "port": 80},
            {"type": "Domain", "value": "b.example", "protocol": "http2", "port": 80},
        ]))
        .expect("matches");
        let v4 = of(&matches, false);
        assert_eq!(
            names(&v4),
            [
                "meshpassthrough_tls_example.com_443",
                "meshpassthrough_tcp_192.0.2.1_80",
                "meshpassthrough_http_80",
            ]
        );
        let clusters: Vec<_> = v4.clusters.iter().map(|cluster| cluster.message.name.as_str()).collect();
        assert!(clusters.contains(&"meshpassthrough_http2_b.example_80"), "{clusters:?}");
        // A match without a port also holds on the ports that others name.
        let v6 = of(&matches, true);
        for port in ["*", "80", "443"] {
            let name = format!("meshpassthrough_tcp_2001:db8::/32_{port}");
            assert!(names(&v6).contains(&name.as_str()), "{:?}", names(&v6));
        }
    }

    #[test]
    fn envoy_can_tell_all_chains_apart() {
        let matches: Vec<PassthroughMatch> = serde_json::from_value(json!([
            {"type": "IP", "value": "192.0.2.1", "protocol": "http", "port": 80},
            {"type": "IP", "value": "192.0.2.1", "protocol": "http2", "port": 80},
            {"type": "IP", "value": "192.0.2.1", "protocol": "grpc"},
        ]))
        .expect("matches");
        let made = of(&matches, false);
        assert_eq!(names(&made), ["meshpassthrough_http_192.0.2.1_80", "meshpassthrough_grpc_192.0.2.1_*"]);
    }
}
