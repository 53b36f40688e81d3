//! MeshTrafficPermission: who may call. What no policy allows is denied.

use envoy_api::envoy::config::rbac::v3::Action;
use envoy_api::envoy::config::rbac::v3::rbac::Action as Verdict;
use envoy_api::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use envoy_api::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkRbac;
use envoy_api::xds::r#type::matcher::v3::Matcher;
use envoy_api::xds::r#type::matcher::v3::matcher::matcher_list::FieldMatcher;
use envoy_api::xds::r#type::matcher::v3::matcher::matcher_list::predicate::MatchType;
use envoy_api::xds::r#type::matcher::v3::matcher::{MatcherList, MatcherType, OnMatch, on_match};
use model::Kind;
use model::spec::{PeerMatch, PermissionRule};
use policy::{Policy, Section, Selected};
use serde::Deserialize;

use super::peers::{asks_for_server, joined, predicate};
use crate::draft::{Chain, Draft, Filter, Role};
use crate::generate::Context;
use crate::parts::{filter, http_filter, inspect_tls, stat_name, xds_extension};

/// Name of the verdict on what no policy names.
const DEFAULT: &str = "default";

/// What the policies of a section say.
#[derive(Default)]
struct Permissions {
    deny: Vec<FieldMatcher>,
    allow: Vec<FieldMatcher>,
    shadow_deny: Vec<FieldMatcher>,
    looks_at_server: bool,
}

impl Permissions {
    fn of(selected: &Selected, section: &Section) -> Self {
        let mut permissions = Self::default();
        for policy in selected.of_section(section) {
            permissions.add(policy);
        }
        permissions
    }

    fn add(&mut self, policy: &Policy) {
        let (mut deny, mut allow, mut shadow) = (Vec::new(), Vec::new(), Vec::new());
        for rule in policy.items("rules") {
            // A rule that cannot be read allows nothing.
            let Ok(PermissionRule { default }) = PermissionRule::deserialize(rule) else { continue };
            deny.extend(default.deny.into_iter().flatten());
            allow.extend(default.allow.into_iter().flatten());
            shadow.extend(default.allow_with_shadow_deny.into_iter().flatten());
        }
        allow.extend(shadow.iter().cloned());
        self.looks_at_server |= asks_for_server(deny.iter().chain(&allow));
        let name = policy.kri.to_string();
        self.deny.extend(matcher(&deny, &name, Verdict::Deny));
        self.allow.extend(matcher(&allow, &name, Verdict::Allow));
        self.shadow_deny.extend(matcher(&shadow, &name, Verdict::Deny));
    }

    fn enforced(&self) -> Matcher {
        let matchers: Vec<_> = self.deny.iter().chain(&self.allow).cloned().collect();
        let list = MatcherType::MatcherList(MatcherList { matchers: matchers.clone() });
        Matcher {
            on_no_match: Some(Box::new(verdict(DEFAULT, Verdict::Deny))),
            matcher_type: (!matchers.is_empty()).then_some(list),
        }
    }

    fn shadow(&self) -> Option<Matcher> {
        if self.shadow_deny.is_empty() {
            return None;
        }
        let list = MatcherList { matchers: self.shadow_deny.clone() };
        Some(Matcher {
            on_no_match: Some(Box::new(verdict(DEFAULT, Verdict::Deny))),
            matcher_type: Some(MatcherType::MatcherList(list)),
        })
    }

    /// Puts the permissions in front of everything else.
    fn guard(&self, listener: &str, chain: &mut Chain) {
        let manager = chain.filters.iter_mut().find_map(|filter| match filter {
            Filter::Http(manager) => Some(manager),
            _ => None,
        });
        match manager {
            Some(manager) => {
                let rbac = HttpRbac {
                    matcher: Some(self.enforced()),
                    shadow_matcher: self.shadow(),
                    ..HttpRbac::default()
                };
                manager.http_filters.insert(0, http_filter("envoy.filters.http.rbac", &rbac));
            }
            None => {
                let rbac = NetworkRbac {
                    stat_prefix: format!("{}.", stat_name(listener)),
                    matcher: Some(self.enforced()),
                    shadow_matcher: self.shadow(),
                    ..NetworkRbac::default()
                };
                chain.filters.insert(0, Filter::Other(Box::new(filter("envoy.filters.network.rbac", &rbac))));
            }
        }
    }
}

/// Guards every chain in which peers prove who they are.
pub(crate) fn apply(context: &Context<'_>, draft: &mut Draft) {
    if context.identity.is_none() {
        return;
    }
    let selected = context.policies(Kind::MESH_TRAFFIC_PERMISSION);
    for listener in draft.listeners.values_mut() {
        let (Role::Inbound { section, .. } | Role::ZoneEgress(section)) = &listener.role else { continue };
        let permissions = Permissions::of(&selected, section);
        let guarded = listener.chains.iter_mut().filter(|chain| chain.tls.is_some());
        for chain in guarded {
            permissions.guard(&listener.message.name, chain);
        }
        if permissions.looks_at_server {
            inspect_tls(&mut listener.message.listener_filters);
        }
    }
}

fn verdict(name: &str, verdict: Verdict) -> OnMatch {
    let action = Action { name: name.into(), action: verdict.into() };
    OnMatch {
        on_match: Some(on_match::OnMatch::Action(xds_extension("envoy.filters.rbac.action", &action))),
        ..OnMatch::default()
    }
}

/// What to do when any of the peers calls; `None` without peers.
fn matcher(peers: &[PeerMatch], policy: &str, action: Verdict) -> Option<FieldMatcher> {
    let predicates: Vec<_> = peers.iter().filter_map(predicate).collect();
    let predicate = joined(predicates, MatchType::OrMatcher)?;
    Some(FieldMatcher { predicate: Some(predicate), on_match: Some(verdict(policy, action)) })
}
