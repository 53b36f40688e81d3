//! The policies of one kind that select one proxy, and the views on what they say.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::Resource;
use model::spec::{TargetRef, labels_select};
use serde::Deserialize;
use serde_json::Value;

use crate::conf::Conf;
use crate::order::{TargetKind, by_name};
use crate::proxy::Section;
use crate::rules::{self, Rule};
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

/// A `to` item with what it names.
struct ToItem<'a> {
    policy: &'a Policy,
    target: TargetRef,
    kind: TargetKind,
    name: Option<&'a str>,
    item: &'a Value,
}

impl ToItem<'_> {
    fn section(&self) -> Option<&str> {
        self.target.section_name.as_deref().filter(|name| !name.is_empty())
    }

    fn names(&self, resource: &Resource) -> bool {
        let by_labels = self.target.labels.as_ref().filter(|wanted| !wanted.is_empty());
        match (by_labels, self.name) {
            (Some(wanted), _) => labels_select(wanted, resource),
            (None, Some(name)) => resource.display_name() == name || resource.name() == name,
            (None, None) => true,
        }
    }

    fn applies_to(&self, destination: &Destination<'_>) -> bool {
        if self.kind == TargetKind::Mesh {
            return true;
        }
        let section = Section { name: destination.section.to_owned(), port: destination.port };
        TargetKind::parse(destination.resource.kind().name) == Some(self.kind)
            && self.names(destination.resource)
            && self.section().is_none_or(|name| section.is(name))
    }

    fn applies_to_route(&self, route: &RouteRule<'_>) -> bool {
        self.kind == TargetKind::Mesh || self.names_route(route)
    }

    fn names_route(&self, route: &RouteRule<'_>) -> bool {
        self.kind == TargetKind::MeshHttpRoute
            && self.names(route.resource)
            && self.section().is_none_or(|name| name == route.section)
    }

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
                .filter(|item| item.applies_to(destination))
                .map(|item| (&item.policy.kri, item.conf())),
        )
    }

    /// The outbound view of a rule of a route; `None` when no policy names the route.
    pub fn to_route(&self, route: &RouteRule<'_>) -> Option<Conf> {
        let items = self.to_items();
        if !items.iter().any(|item| item.names_route(route)) {
            return None;
        }
        Conf::of(
            items
                .iter()
                .filter(|item| item.applies_to_route(route))
                .map(|item| (&item.policy.kri, item.conf())),
        )
    }

    /// The `to` items that apply to a destination, unmerged, in merge order: for kinds with a merge of their own.
    pub fn to_each(&self, destination: &Destination<'_>) -> Vec<(Arc<Policy>, Value)> {
        let by_kri: BTreeMap<_, _> = self.policies().map(|policy| (&policy.kri, policy)).collect();
        self.to_items()
            .iter()
            .filter(|item| item.applies_to(destination))
            .filter_map(|item| Some((Arc::clone(by_kri.get(&item.policy.kri)?), item.item.clone())))
            .collect()
    }

    fn to_items(&self) -> Vec<ToItem<'_>> {
        let mut items: Vec<ToItem<'_>> = self
            .of_proxy()
            .flat_map(|policy| policy.items("to").map(move |item| (policy, item)))
            .filter_map(|(policy, item)| {
                let reference = item.get("targetRef")?;
                let target = TargetRef::deserialize(reference).ok()?;
                let kind = TargetKind::parse(&target.kind)?;
                let name = reference.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
                Some(ToItem { policy, target, kind, name, item })
            })
            .collect();
        // A stable sort: items of one policy stay in their order.
        items.sort_by(|a, b| {
            a.policy
                .rank
                .cmp(&b.policy.rank)
                .then_with(|| a.kind.cmp(&b.kind))
                .then_with(|| a.section().is_some().cmp(&b.section().is_some()))
                .then_with(|| by_name(&a.policy.resource).cmp(&by_name(&b.policy.resource)))
        });
        items
    }
}
