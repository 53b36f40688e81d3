//! The policies of one kind that select one proxy, and the views on what they say.

use std::sync::Arc;

use model::{Kri, Resource};
use serde_json::Value;

use crate::conf::Conf;
use crate::items::{ToItem, ToItems};
use crate::proxy::Section;
use crate::rules::{self, InboundItem, Rule};
use crate::set::Policy;

/// A destination of outbound traffic as policies see it.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// The service.
    pub resource: &'a Resource,
    /// Name of its port, or the port as text.
    pub section: &'a str,
    /// Its port.
    pub port: u32,
}

/// A rule of a route, which policies can name instead of the service behind it.
#[derive(Clone, Copy, Debug)]
pub struct RouteRule<'a> {
    /// The route.
    pub resource: &'a Resource,
    /// The section of the rule, `rule_<index>`.
    pub section: &'a str,
}

/// The policies of one kind that select one proxy, in the order in which they are merged.
#[derive(Clone, Debug, Default)]
pub struct Selected {
    policies: Vec<Arc<Policy>>,
    to: ToItems,
}

impl Selected {
    pub(crate) fn new(policies: Vec<Arc<Policy>>) -> Self {
        let of_proxy = policies.iter().filter(|policy| policy.section_name().is_none());
        Self { to: ToItems::new(of_proxy), policies }
    }

    /// The same without one policy.
    #[must_use]
    pub fn without(mut self, policy: &Kri) -> Self {
        self.policies.retain(|found| found.kri != *policy);
        Self::new(self.policies)
    }

    /// The policies.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.iter()
    }

    /// Whether none selects the proxy.
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// The policies that apply to a section of the proxy.
    pub fn of_section<'a>(&'a self, section: &'a Section) -> impl Iterator<Item = &'a Arc<Policy>> {
        self.policies().filter(|policy| policy.section_name().is_none_or(|name| section.is(name)))
    }

    /// The policies that apply to the proxy as a whole.
    fn of_proxy(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies().filter(|policy| policy.section_name().is_none())
    }

    /// The inbound view of a section: rules for particular peers first, the rule for all others last.
    pub fn rules(&self, section: &Section) -> Vec<Rule> {
        rules::group(
            self.of_section(section)
                .flat_map(|policy| policy.items("rules").map(move |rule| (&policy.kri, rule))),
        )
    }

    /// The inbound view of a section before anything is merged, the most specific matches first.
    pub fn rule_items<'a>(&'a self, section: &'a Section) -> Vec<InboundItem<'a>> {
        rules::each(self.of_section(section).map(|policy| &**policy))
    }

    /// What applies to connections to a section that no rule names a peer for.
    pub fn catch_all(&self, section: &Section) -> Option<Conf> {
        self.rules(section).pop().filter(|rule| rule.matches.is_none()).map(|rule| rule.conf)
    }

    /// The proxy view: one configuration for the whole proxy.
    pub fn proxy(&self) -> Option<Conf> {
        Conf::of(self.of_proxy().filter_map(|policy| Some((&policy.kri, policy.spec.get("default")?))))
    }

    /// The outbound view of a destination.
    pub fn to(&self, destination: &Destination<'_>) -> Option<Conf> {
        Conf::of(self.to_items(destination).map(|item| (&item.policy.kri, item.conf())))
    }

    /// The outbound view of what is no destination of the mesh.
    pub fn to_mesh(&self) -> Option<Conf> {
        Conf::of(self.to.of_mesh().map(|item| (&item.policy.kri, item.conf())))
    }

    /// The outbound view of a rule of a route; `None` when no policy names the route.
    pub fn to_route(&self, route: &RouteRule<'_>) -> Option<Conf> {
        let items = || self.to.of(route.resource);
        let names = |item: &ToItem| item.reference().is_some_and(|one| one.names_route(route));
        if !items().any(names) {
            return None;
        }
        let applies = |item: &&ToItem| item.reference().is_some_and(|one| one.applies_to_route(route));
        Conf::of(items().filter(applies).map(|item| (&item.policy.kri, item.conf())))
    }

    /// The `to` items that apply to a destination, unmerged, in merge order: for kinds with a merge of their own.
    pub fn to_each(&self, destination: &Destination<'_>) -> Vec<(Arc<Policy>, Value)> {
        let items = self.to_positions(destination).into_iter();
        items
            .filter_map(|(policy, index)| {
                let item = policy.items("to").nth(index)?.clone();
                Some((policy, item))
            })
            .collect()
    }

    /// The `to` items that apply to a destination as positions in their policies, in merge order.
    pub fn to_positions(&self, destination: &Destination<'_>) -> Vec<(Arc<Policy>, usize)> {
        self.to_items(destination).map(|item| (Arc::clone(&item.policy), item.index)).collect()
    }

    fn to_items<'a>(&'a self, destination: &Destination<'a>) -> impl Iterator<Item = &'a ToItem> {
        let destination = *destination;
        let applies = move |item: &&ToItem| item.reference().is_some_and(|one| one.applies_to(&destination));
        self.to.of(destination.resource).filter(applies)
    }
}
