//! MeshRateLimit: how many requests and connections a proxy takes, by peer where rules name peers.

use envoy_api::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_api::envoy::config::core::v3::{HeaderValue, HeaderValueOption, RuntimeFractionalPercent};
use envoy_api::envoy::config::route::v3::Route;
use envoy_api::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit as HttpLimit;
use envoy_api::envoy::extensions::filters::network::local_ratelimit::v3::LocalRateLimit as TcpLimit;
use envoy_api::envoy::r#type::v3::{HttpStatus, StatusCode, TokenBucket};
use model::Kind;
use model::duration::GoDuration;
use model::spec::{HeaderKeyValue, HttpRateLimit, OnRateLimit, Rate, RateLimitConf, TcpRateLimit};
use policy::{Section, Selected};

use super::peers::{PeerConf, asks_for_server, split_routes};
use super::percent::fraction;
use crate::draft::{Chain, Draft, Filter, Role};
use crate::generate::Context;
use crate::parts::{before_router, duration, filter, http_filter, inspect_tls};

/// Name of the filter of requests, and of what routes say to it.
const HTTP_FILTER: &str = "envoy.filters.http.local_ratelimit";

/// Under which connections remember their peer.
const STATE: &str = "kuma.mesh_rate_limit.match";

/// Envoy refuses to fill a bucket more often.
const LEAST_INTERVAL: GoDuration = GoDuration::from_nanos(50_000_000);

/// Headers that Envoy takes for one answer.
const MAX_HEADERS: usize = 10;

/// Limits what inbounds and egresses take.
pub(crate) fn apply(context: &Context<'_>, draft: &mut Draft) {
    let selected = context.policies(Kind::MESH_RATE_LIMIT);
    if selected.is_empty() {
        return;
    }
    for listener in draft.listeners.values_mut() {
        let (Role::Inbound { section, .. } | Role::ZoneEgress(section)) = &listener.role else { continue };
        let confs = confs(&selected, section);
        for chain in &mut listener.chains {
            limit_requests(chain, &confs);
            limit_connections(chain, &confs);
        }
        if asks_for_server(confs.iter().filter_map(|conf| conf.peer.as_ref())) {
            inspect_tls(&mut listener.message.listener_filters);
        }
    }
}

fn confs(selected: &Selected, section: &Section) -> Vec<PeerConf<RateLimitConf>> {
    selected.rules(section).iter().filter_map(PeerConf::of).collect()
}

/// Requests are limited by what their route says; the filter by itself limits nothing.
fn limit_requests(chain: &mut Chain, confs: &[PeerConf<RateLimitConf>]) {
    let said = confs.iter().filter_map(|PeerConf { peer, conf }| {
        let conf = conf.local.as_ref()?.http.clone()?;
        Some(PeerConf { peer: peer.clone(), conf: http_limit(&conf) })
    });
    let limits: Vec<PeerConf<Option<HttpLimit>>> = said.collect();
    if !limits.iter().any(|limit| limit.conf.is_some()) {
        return;
    }
    for filter in &mut chain.filters {
        let Filter::Http(manager) = filter else { continue };
        let unlimited = HttpLimit { stat_prefix: "rate_limit".into(), ..HttpLimit::default() };
        before_router(manager, http_filter(HTTP_FILTER, &unlimited));
    }
    split_routes(chain, STATE, &limits, |route: &mut Route, limit: &Option<HttpLimit>| {
        if let Some(limit) = limit {
            route.typed_per_filter_config.insert(HTTP_FILTER.into(), envoy_api::pack(limit));
        }
    });
}

/// Connections are limited before their certificate is known: by the server that they ask for where the chain is for
/// one, otherwise all alike.
fn limit_connections(chain: &mut Chain, confs: &[PeerConf<RateLimitConf>]) {
    let destination = chain.destination.as_deref().map(|destination| &*destination.sni);
    let names_server = |conf: &&PeerConf<RateLimitConf>| {
        let peer = conf.peer.as_ref();
        peer.is_some_and(|peer| {
            peer.spiffe_id.is_none() && peer.sni.as_ref().map(|sni| &*sni.value) == destination
        })
    };
    let own = confs.iter().filter(|_| destination.is_some()).find(names_server);
    let said = |conf: &PeerConf<RateLimitConf>| conf.conf.local.as_ref()?.tcp.clone();
    let all = || confs.iter().find(|conf| conf.peer.is_none());
    let Some(conf) = own.and_then(said).or_else(|| all().and_then(said)) else { return };
    if let Some(limit) = tcp_limit(&conf) {
        let limit = filter("envoy.filters.network.local_ratelimit", &limit);
        chain.filters.insert(0, Filter::Other(Box::new(limit)));
    }
}

/// `None` for a limit that is lifted, or that says nothing.
fn http_limit(conf: &HttpRateLimit) -> Option<HttpLimit> {
    let token_bucket = bucket(conf.disabled, conf.request_rate.as_ref())?;
    let answer = conf.on_rate_limit.as_ref();
    let all = |key: &str| {
        let default_value = Some(fraction(100.0));
        Some(RuntimeFractionalPercent { default_value, runtime_key: key.into() })
    };
    Some(HttpLimit {
        stat_prefix: "rate_limit".into(),
        status: answer.and_then(|answer| status(answer.status?)),
        token_bucket: Some(token_bucket),
        filter_enabled: all("local_rate_limit_enabled"),
        filter_enforced: all("local_rate_limit_enforced"),
        response_headers_to_add: answer.map(headers).unwrap_or_default(),
        ..HttpLimit::default()
    })
}

fn tcp_limit(conf: &TcpRateLimit) -> Option<TcpLimit> {
    let token_bucket = Some(bucket(conf.disabled, conf.connection_rate.as_ref())?);
    Some(TcpLimit { stat_prefix: "tcp_rate_limit".into(), token_bucket, ..TcpLimit::default() })
}

fn bucket(disabled: Option<bool>, rate: Option<&Rate>) -> Option<TokenBucket> {
    let rate = rate.filter(|rate| !disabled.unwrap_or(false) && rate.num > 0)?;
    (rate.interval >= LEAST_INTERVAL).then(|| TokenBucket {
        max_tokens: rate.num,
        tokens_per_fill: Some(rate.num),
        fill_interval: Some(duration(rate.interval)),
    })
}

/// A status that Envoy has no name for would be refused with everything around it.
fn status(code: i32) -> Option<HttpStatus> {
    let code = StatusCode::try_from(code).ok().filter(|code| *code != StatusCode::Empty)?;
    Some(HttpStatus { code: code.into() })
}

fn headers(answer: &OnRateLimit) -> Vec<HeaderValueOption> {
    let Some(changes) = &answer.headers else { return Vec::new() };
    let option = |header: &HeaderKeyValue, action: HeaderAppendAction| HeaderValueOption {
        header: Some(HeaderValue {
            key: header.name.clone(),
            value: header.value.clone(),
            ..HeaderValue::default()
        }),
        append_action: action.into(),
        ..HeaderValueOption::default()
    };
    let added = changes.add.iter().flatten();
    let set = changes.set.iter().flatten();
    added
        .map(|header| option(header, HeaderAppendAction::AppendIfExistsOrAdd))
        .chain(set.map(|header| option(header, HeaderAppendAction::OverwriteIfExistsOrAdd)))
        .take(MAX_HEADERS)
        .collect()
}
