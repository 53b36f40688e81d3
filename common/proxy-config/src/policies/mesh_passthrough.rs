//! MeshPassthrough: which connections out of the mesh pass through. Without a policy all do.

mod chains;

use envoy_api::envoy::config::listener::v3::listener_filter::ConfigType;
use envoy_api::envoy::config::listener::v3::listener_filter_chain_match_predicate::{MatchSet, Rule};
use envoy_api::envoy::config::listener::v3::{ListenerFilter, ListenerFilterChainMatchPredicate};
use envoy_api::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use envoy_api::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use envoy_api::envoy::r#type::v3::Int32Range;
use model::Kind;
use model::spec::{PassthroughConf, PassthroughMatch, PassthroughMode, PassthroughProtocol};

use crate::draft::{Cluster, Draft, Role};
use crate::generate::{Context, passthrough_name};
use crate::metadata::Feature;
use crate::parts::tls_inspector;

/// Restricts what passes through.
pub(crate) fn apply(context: &Context<'_>, draft: &mut Draft) {
    let Some(transparent) = &context.transparent else { return };
    let said = context.policies(Kind::MESH_PASSTHROUGH).proxy();
    let Some(conf) = said.and_then(|conf| conf.decode::<PassthroughConf>().ok()) else { return };
    let mode = conf.passthrough_mode.unwrap_or_default();
    if mode == PassthroughMode::All || context.has(Feature::BindOutbounds) {
        return;
    }
    let matches = match mode {
        PassthroughMode::Matched => conf.append_match.unwrap_or_default(),
        PassthroughMode::All | PassthroughMode::None => Vec::new(),
    };
    for v6 in [false, true].into_iter().filter(|v6| transparent.ipv6 || !v6) {
        let name = passthrough_name("outbound", v6);
        // The listener stays: without its cluster it leads nowhere.
        draft.clusters.remove(&name);
        let made = chains::of(&matches, v6);
        let Some(listener) = draft.listeners.get_mut(&name).filter(|_| !made.chains.is_empty()) else {
            continue;
        };
        listener.chains = made.chains;
        listener.message.use_original_dst = None;
        listener.message.listener_filters = looks(&matches);
        for cluster in made.clusters {
            let http = chains::http_version(cluster.protocol);
            draft.add_cluster(Cluster { http, ..Cluster::new(Role::Passthrough, cluster.message) });
        }
    }
}

/// What is looked at before a chain is chosen. MySQL servers speak first: nothing is waited for on their ports.
fn looks(matches: &[PassthroughMatch]) -> Vec<ListenerFilter> {
    let silent = matches.iter().filter(|one| one.protocol == PassthroughProtocol::Mysql);
    let ports: std::collections::BTreeSet<u32> = silent.filter_map(|one| one.port).collect();
    let disabled = any_of(ports.into_iter().map(at_port).collect());
    let original = ListenerFilter {
        name: "envoy.filters.listener.original_dst".into(),
        config_type: Some(ConfigType::TypedConfig(envoy_api::pack(&OriginalDst::default()))),
        ..ListenerFilter::default()
    };
    let http = ListenerFilter {
        name: "envoy.filters.listener.http_inspector".into(),
        config_type: Some(ConfigType::TypedConfig(envoy_api::pack(&HttpInspector::default()))),
        filter_disabled: disabled.clone(),
    };
    vec![original, ListenerFilter { filter_disabled: disabled, ..tls_inspector() }, http]
}

fn at_port(port: u32) -> ListenerFilterChainMatchPredicate {
    let start = i32::try_from(port).unwrap_or(i32::MAX);
    let range = Int32Range { start, end: start.saturating_add(1) };
    ListenerFilterChainMatchPredicate { rule: Some(Rule::DestinationPortRange(range)) }
}

/// One predicate as it is, several under one.
fn any_of(mut rules: Vec<ListenerFilterChainMatchPredicate>) -> Option<ListenerFilterChainMatchPredicate> {
    if rules.len() < 2 {
        return rules.pop();
    }
    Some(ListenerFilterChainMatchPredicate { rule: Some(Rule::OrMatch(MatchSet { rules })) })
}
