//! MeshFaultInjection: faults that a proxy adds to requests over HTTP.

use envoy_api::envoy::config::core::v3::TypedExtensionConfig;
use envoy_api::envoy::extensions::common::matching::v3::ExtensionWithMatcher;
use envoy_api::envoy::extensions::filters::common::fault::v3::fault_delay::FaultDelaySecifier;
use envoy_api::envoy::extensions::filters::common::fault::v3::fault_rate_limit::{FixedLimit, LimitType};
use envoy_api::envoy::extensions::filters::common::fault::v3::{FaultDelay, FaultRateLimit};
use envoy_api::envoy::extensions::filters::common::matcher::action::v3::SkipFilter;
use envoy_api::envoy::extensions::filters::http::fault::v3::fault_abort::ErrorType;
use envoy_api::envoy::extensions::filters::http::fault::v3::{FaultAbort, HttpFault};
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy_api::xds::r#type::matcher::v3::Matcher;
use envoy_api::xds::r#type::matcher::v3::matcher::matcher_list::predicate::MatchType;
use envoy_api::xds::r#type::matcher::v3::matcher::matcher_list::{FieldMatcher, Predicate};
use envoy_api::xds::r#type::matcher::v3::matcher::{MatcherList, MatcherType, OnMatch, on_match};
use model::Kind;
use model::spec::{Abort, Delay, Fault, FaultConf, PeerMatch, ResponseBandwidth};
use policy::{Rule, Section, Selected};

use super::peers::{PeerConf, asks_for_server, predicate};
use super::percent::fraction;
use crate::draft::{Draft, Filter, Role};
use crate::generate::Context;
use crate::parts::{before_router, duration, extension, http_filter, inspect_tls, xds_extension};

const FAULT: &str = "envoy.filters.http.fault";

/// Statuses with which Envoy answers in place of the application.
const STATUSES: std::ops::Range<u32> = 200..600;

/// Adds faults to the requests that inbounds and egresses take.
pub(crate) fn apply(context: &Context<'_>, draft: &mut Draft) {
    let selected = context.policies(Kind::MESH_FAULT_INJECTION);
    if selected.is_empty() {
        return;
    }
    for listener in draft.listeners.values_mut() {
        let (Role::Inbound { section, .. } | Role::ZoneEgress(section)) = &listener.role else { continue };
        let Faults { filters, looks_at_server } = Faults::of(&selected, section);
        for filter in listener.chains.iter_mut().flat_map(|chain| &mut chain.filters) {
            let Filter::Http(manager) = filter else { continue };
            filters.iter().cloned().for_each(|fault| before_router(manager, fault));
        }
        if looks_at_server {
            inspect_tls(&mut listener.message.listener_filters);
        }
    }
}

/// The faults of a section.
#[derive(Default)]
struct Faults {
    filters: Vec<HttpFilter>,
    looks_at_server: bool,
}

impl Faults {
    fn of(selected: &Selected, section: &Section) -> Self {
        let mut faults = Self::default();
        for rule in selected.rules(section) {
            faults.add(&rule);
        }
        faults
    }

    fn add(&mut self, rule: &Rule) {
        // A list is not merged: it is the last policy's.
        let Some(name) = rule.conf.policies.last().map(ToString::to_string) else { return };
        let Some(PeerConf { peer, conf }) = PeerConf::<FaultConf>::of(rule) else { return };
        let faults = conf.http.iter().flatten().filter_map(fault);
        self.filters.extend(faults.map(|fault| match &peer {
            None => http_filter(&name, &fault),
            Some(peer) => http_filter(&name, &for_peer(peer, &fault)),
        }));
        self.looks_at_server |= asks_for_server(&peer);
    }
}

/// A filter that is skipped for everybody but a peer.
fn for_peer(peer: &PeerMatch, fault: &HttpFault) -> ExtensionWithMatcher {
    let skip = OnMatch {
        on_match: Some(on_match::OnMatch::Action(xds_extension("skip", &SkipFilter {}))),
        ..OnMatch::default()
    };
    let other =
        predicate(peer).map(|peer| Predicate { match_type: Some(MatchType::NotMatcher(Box::new(peer))) });
    let matcher = FieldMatcher { predicate: other, on_match: Some(skip) };
    let list = MatcherType::MatcherList(MatcherList { matchers: vec![matcher] });
    let extension_config: TypedExtensionConfig = extension(FAULT, fault);
    ExtensionWithMatcher {
        xds_matcher: Some(Matcher { matcher_type: Some(list), ..Matcher::default() }),
        extension_config: Some(extension_config),
        ..ExtensionWithMatcher::default()
    }
}

/// `None` for one that does nothing.
fn fault(said: &Fault) -> Option<HttpFault> {
    let fault = HttpFault {
        abort: said.abort.as_ref().and_then(abort),
        delay: said.delay.as_ref().and_then(delay),
        response_rate_limit: said.response_bandwidth.as_ref().and_then(slow),
        ..HttpFault::default()
    };
    let does_something =
        fault.abort.is_some() || fault.delay.is_some() || fault.response_rate_limit.is_some();
    does_something.then_some(fault)
}

fn abort(abort: &Abort) -> Option<FaultAbort> {
    let status = u32::try_from(abort.http_status).ok().filter(|status| STATUSES.contains(status))?;
    Some(FaultAbort {
        percentage: Some(fraction(abort.percentage.as_f64()?)),
        error_type: Some(ErrorType::HttpStatus(status)),
        ..FaultAbort::default()
    })
}

fn delay(delay: &Delay) -> Option<FaultDelay> {
    if delay.value.is_negative() || delay.value.is_zero() {
        return None;
    }
    Some(FaultDelay {
        percentage: Some(fraction(delay.percentage.as_f64()?)),
        fault_delay_secifier: Some(FaultDelaySecifier::FixedDelay(duration(delay.value))),
    })
}

fn slow(bandwidth: &ResponseBandwidth) -> Option<FaultRateLimit> {
    let limit_kbps = bandwidth.kbps().filter(|limit| *limit > 0)?;
    Some(FaultRateLimit {
        percentage: Some(fraction(bandwidth.percentage.as_f64()?)),
        limit_type: Some(LimitType::FixedLimit(FixedLimit { limit_kbps })),
    })
}
