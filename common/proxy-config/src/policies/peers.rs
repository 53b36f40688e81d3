//! Peers that inbound rules name, as conditions in Envoy: as predicates where Envoy matches connections, as state of
//! the connection where routes choose.

use envoy_api::envoy::config::core::v3::data_source::Specifier;
use envoy_api::envoy::config::core::v3::substitution_format_string::Format;
use envoy_api::envoy::config::core::v3::{DataSource, SubstitutionFormatString};
use envoy_api::envoy::config::route::v3::{Route, VirtualHost};
use envoy_api::envoy::extensions::filters::common::set_filter_state::v3::FilterStateValue;
use envoy_api::envoy::extensions::filters::common::set_filter_state::v3::filter_state_value::{Key, Value};
use envoy_api::envoy::extensions::filters::network::set_filter_state::v3::Config as SetFilterState;
use envoy_api::envoy::extensions::matching::common_inputs::network::v3::ServerNameInput;
use envoy_api::envoy::extensions::matching::common_inputs::ssl::v3::UriSanInput;
use envoy_api::envoy::r#type::matcher::v3::filter_state_matcher::Matcher as StateMatch;
use envoy_api::envoy::r#type::matcher::v3::string_matcher::MatchPattern as StatePattern;
use envoy_api::envoy::r#type::matcher::v3::{FilterStateMatcher, StringMatcher as StateString};
use envoy_api::xds::core::v3::TypedExtensionConfig;
use envoy_api::xds::r#type::matcher::v3::StringMatcher;
use envoy_api::xds::r#type::matcher::v3::matcher::matcher_list::Predicate;
use envoy_api::xds::r#type::matcher::v3::matcher::matcher_list::predicate::{
    MatchType, PredicateList, SinglePredicate, single_predicate,
};
use envoy_api::xds::r#type::matcher::v3::string_matcher::MatchPattern;
use model::spec::{MatchType as SpiffeMatch, PeerMatch, SpiffeIdMatch};
use policy::Rule;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::draft::{Chain, Filter};
use crate::parts::{filter, xds_extension};

/// What holds for some peers, or for all that nothing else names.
#[derive(Clone, Debug)]
pub(crate) struct PeerConf<T> {
    /// `None` is everybody else.
    pub(crate) peer: Option<PeerMatch>,
    pub(crate) conf: T,
}

impl<T: DeserializeOwned> PeerConf<T> {
    /// Reads a rule; `None` for one that cannot be read, or that names nobody.
    pub(crate) fn of(rule: &Rule) -> Option<Self> {
        let peer = match &rule.matches {
            None => None,
            Some(matches) => Some(PeerMatch::deserialize(matches).ok().filter(says_something)?),
        };
        Some(Self { peer, conf: rule.conf.decode().ok()? })
    }
}

fn says_something(peer: &PeerMatch) -> bool {
    peer.spiffe_id.is_some() || peer.sni.is_some()
}

/// The condition that a connection is of a peer; `None` for a peer that says nothing.
pub(crate) fn predicate(peer: &PeerMatch) -> Option<Predicate> {
    let spiffe = peer.spiffe_id.as_ref().map(|id| {
        let input = xds_extension("envoy.matching.inputs.uri_san", &UriSanInput {});
        let pattern = match id.r#type {
            SpiffeMatch::Exact => MatchPattern::Exact(id.value.clone()),
            SpiffeMatch::Prefix => MatchPattern::Prefix(id.value.clone()),
        };
        single(input, pattern)
    });
    let server = peer.sni.as_ref().map(|sni| {
        let input = xds_extension("envoy.matching.inputs.server_name", &ServerNameInput {});
        single(input, MatchPattern::Exact(sni.value.clone()))
    });
    joined(spiffe.into_iter().chain(server).collect(), MatchType::AndMatcher)
}

/// One predicate as it is, several under one.
pub(crate) fn joined(
    mut predicates: Vec<Predicate>,
    join: fn(PredicateList) -> MatchType,
) -> Option<Predicate> {
    if predicates.len() > 1 {
        return Some(Predicate { match_type: Some(join(PredicateList { predicate: predicates })) });
    }
    predicates.pop()
}

fn single(input: TypedExtensionConfig, pattern: MatchPattern) -> Predicate {
    let value = StringMatcher { match_pattern: Some(pattern), ..StringMatcher::default() };
    let predicate =
        SinglePredicate { input: Some(input), matcher: Some(single_predicate::Matcher::ValueMatch(value)) };
    Predicate { match_type: Some(MatchType::SinglePredicate(predicate)) }
}

/// Gives each peer routes of its own: every route is there once for each peer, the most specific first, and then for
/// everybody else. `edit` says what a peer's route does. `state` begins the names under which connections remember
/// their peer, for example `kuma.mesh_rate_limit.match`.
pub(crate) fn split_routes<T>(
    chain: &mut Chain,
    state: &str,
    confs: &[PeerConf<T>],
    edit: impl Fn(&mut Route, &T),
) {
    let mut is_http = false;
    for filter in &mut chain.filters {
        let Filter::Http(manager) = filter else { continue };
        is_http = true;
        for host in crate::parts::hosts_mut(manager) {
            split_host(host, state, confs, &edit);
        }
    }
    let peers: Vec<&PeerMatch> = confs.iter().filter_map(|conf| conf.peer.as_ref()).collect();
    if is_http && !peers.is_empty() {
        chain.filters.insert(0, remember(state, &peers));
    }
}

fn split_host<T>(host: &mut VirtualHost, state: &str, confs: &[PeerConf<T>], edit: &impl Fn(&mut Route, &T)) {
    for mut route in std::mem::take(&mut host.routes) {
        for PeerConf { peer, conf } in confs {
            let Some(peer) = peer else { continue };
            let mut own = route.clone();
            own.r#match.get_or_insert_default().filter_state.extend(conditions(state, peer));
            edit(&mut own, conf);
            host.routes.push(own);
        }
        if let Some(others) = confs.iter().find(|conf| conf.peer.is_none()) {
            edit(&mut route, &others.conf);
        }
        host.routes.push(route);
    }
}

fn conditions(state: &str, peer: &PeerMatch) -> Vec<FilterStateMatcher> {
    let matcher = |name: &str, pattern: StatePattern| {
        let value = StateString { match_pattern: Some(pattern), ..StateString::default() };
        FilterStateMatcher { key: format!("{state}.{name}"), matcher: Some(StateMatch::StringMatch(value)) }
    };
    let spiffe = peer.spiffe_id.as_ref().map(|SpiffeIdMatch { r#type, value }| {
        let pattern = match r#type {
            SpiffeMatch::Exact => StatePattern::Exact(value.clone()),
            SpiffeMatch::Prefix => StatePattern::Prefix(value.clone()),
        };
        matcher("spiffe_id", pattern)
    });
    let server = peer.sni.as_ref().map(|sni| matcher("sni", StatePattern::Exact(sni.value.clone())));
    spiffe.into_iter().chain(server).collect()
}

/// Connections remember their peer, as far as peers are asked for. The certificate is known after the handshake.
fn remember(state: &str, peers: &[&PeerMatch]) -> Filter {
    let value = |name: &str, format: &str| {
        let text =
            DataSource { specifier: Some(Specifier::InlineString(format.into())), ..DataSource::default() };
        let format = SubstitutionFormatString {
            format: Some(Format::TextFormatSource(text)),
            ..SubstitutionFormatString::default()
        };
        FilterStateValue {
            key: Some(Key::ObjectKey(format!("{state}.{name}"))),
            factory_key: "envoy.string".into(),
            value: Some(Value::FormatString(format)),
            ..FilterStateValue::default()
        }
    };
    let spiffe = peers.iter().any(|peer| peer.spiffe_id.is_some());
    let server = peers.iter().any(|peer| peer.sni.is_some());
    let values = spiffe
        .then(|| value("spiffe_id", "%DOWNSTREAM_PEER_URI_SAN%"))
        .into_iter()
        .chain(server.then(|| value("sni", "%REQUESTED_SERVER_NAME%")));
    let config =
        SetFilterState { on_downstream_tls_handshake: values.collect(), ..SetFilterState::default() };
    Filter::Other(Box::new(filter("envoy.filters.network.set_filter_state", &config)))
}

/// Whether a rule asks for the server name, which is known only where somebody looks for it.
pub(crate) fn asks_for_server<'a>(peers: impl IntoIterator<Item = &'a PeerMatch>) -> bool {
    peers.into_iter().any(|peer| peer.sni.is_some())
}
