//! The policies of one kind that select one proxy, and the views on what they say.

use std::sync::Arc;

use model::{Kri, Resource};
use serde_json::Value;

use crate::conf::Conf;
use crate::order::by_name;
use crate::proxy::Section;
use crate::reference::Reference;
use crate::rules::{self, InboundItem, Rule};
use crate::set::Policy;

#[derive(Clone, Debug)]
pub(crate) struct Match {
    pub(crate) policy: Arc<Policy>,
}

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

/// A `to` item of a policy.
struct ToItem<'a> {
    policy: &'a Arc<Policy>,
    reference: &'a Reference,
    index: usize,
    item: &'a Value,
}

impl ToItem<'_> {
    fn conf(&self) -> &Value {
        self.item.get("default").unwrap_or(&Value::Null)
    }
}

/// The policies of one kind that select one proxy, in the order in which they are merged.
#[derive(Clone, Debug, Default)]
pub struct Selected {
    matches: Vec<Match>,
}

impl Selected {
    pub(crate) fn new(matches: Vec<Match>) -> Self {
        Self { matches }
    }

    /// The same without one policy.
    #[must_use]
    pub fn without(mut self, policy: &Kri) -> Self {
        self.matches.retain(|found| found.policy.kri != *policy);
        self
    }

    /// The policies.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.matches.iter().map(|found| &found.policy)
    }

    /// Whether none selects the proxy.
    pub fn is_empty(&self) -> bool {
        self.matches.is_empty()
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
        let items = self.to_items();
        Conf::of(
            items
                .iter()
                .filter(|item| item.reference.applies_to(destination))
                .map(|item| (&item.policy.kri, item.conf())),
        )
    }

    /// The outbound view of a rule of a route; `None` when no policy names the route.
    pub fn to_route(&self, route: &RouteRule<'_>) -> Option<Conf> {
        let items = self.to_items();
        if !items.iter().any(|item| item.reference.names_route(route)) {
            return None;
        }
        Conf::of(
            items
                .iter()
                .filter(|item| item.reference.applies_to_route(route))
                .map(|item| (&item.policy.kri, item.conf())),
        )
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
        self.to_items()
            .iter()
            .filter(|item| item.reference.applies_to(destination))
            .map(|item| (Arc::clone(item.policy), item.index))
            .collect()
    }

    fn to_items(&self) -> Vec<ToItem<'_>> {
        let mut items: Vec<ToItem<'_>> = self
            .of_proxy()
            .flat_map(|policy| {
                let references = policy.to.iter().enumerate();
                references.zip(policy.items("to")).map(move |both| (policy, both))
            })
            .filter_map(|(policy, ((index, reference), item))| {
                Some(ToItem { policy, reference: reference.as_ref()?, index, item })
            })
            .collect();
        // A stable sort: items of one policy stay in their order.
        items.sort_by(|a, b| {
            a.policy
                .rank
                .cmp(&b.policy.rank)
                .then_with(|| a.reference.rank().cmp(&b.reference.rank()))
                .then_with(|| by_name(&a.policy.resource).cmp(&by_name(&b.policy.resource)))
        });
        items
    }
}
