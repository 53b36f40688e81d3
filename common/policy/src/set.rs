//! The policies of one kind in one mesh, read once and kept in the order in which they are merged.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::spec::{TargetRef, labels_select};
use model::{Kri, Resource, labels};
use serde::Deserialize;
use serde_json::Value;

use crate::order::{Rank, Role, TargetKind, by_name};
use crate::proxy::Proxy;
use crate::reference::Reference;
use crate::selected::{Destination, Selected};

/// A policy and its parsed spec.
#[derive(Debug)]
pub struct Policy {
    /// The resource.
    pub resource: Arc<Resource>,
    /// Its identifier.
    pub kri: Kri,
    /// Its spec.
    pub spec: Value,
    target: TargetRef,
    role: Role,
    pub(crate) rank: Rank,
    /// Targets of the items of `to`, item by item.
    pub(crate) to: Vec<Option<Reference>>,
}

impl Policy {
    fn read(resource: &Arc<Resource>) -> Option<Self> {
        let kri = resource.kri()?;
        let spec: Value = serde_json::from_slice(resource.raw_spec().bytes()).ok()?;
        let target = match spec.get("targetRef") {
            None | Some(Value::Null) => TargetRef { kind: "Mesh".into(), ..TargetRef::default() },
            Some(target) => TargetRef::deserialize(target).ok()?,
        };
        let kind = TargetKind::parse(&target.kind)?;
        let rank = Rank::of(resource, kind, section_name(&target).is_some());
        let role = Role::of(resource);
        let to = spec.get("to").and_then(Value::as_array).into_iter().flatten().map(Reference::of).collect();
        Some(Self { resource: Arc::clone(resource), kri, spec, target, role, rank, to })
    }

    /// Whether it is only computed for inspection.
    pub fn is_shadow(&self) -> bool {
        self.resource.label(labels::EFFECT) == Some("shadow")
    }

    /// Items of a list of the spec, for example `rules` or `to`.
    pub fn items(&self, list: &str) -> impl Iterator<Item = &Value> {
        self.spec.get(list).and_then(Value::as_array).into_iter().flatten()
    }

    /// Whether an item of its `to` list applies to a destination.
    pub fn item_applies(&self, index: usize, destination: &Destination<'_>) -> bool {
        self.to.get(index).and_then(Option::as_ref).is_some_and(|one| one.applies_to(destination))
    }

    fn reaches_zone_of(&self, proxy: &Proxy<'_>) -> bool {
        let of_a_zone = self.resource.label(labels::ORIGIN) == Some("zone");
        match self.resource.zone() {
            Some(zone) if of_a_zone && self.role != Role::Producer => zone == proxy.zone,
            _ => true,
        }
    }

    fn reaches_namespace_of(&self, proxy: &Proxy<'_>) -> bool {
        match self.role {
            Role::Consumer | Role::WorkloadOwner => self.resource.namespace() == proxy.dataplane.namespace(),
            Role::System | Role::Producer => true,
        }
    }

    fn selects(&self, proxy: &Proxy<'_>) -> bool {
        let selected = match self.target.kind.as_str() {
            "Mesh" => true,
            "Dataplane" => {
                self.target.labels.as_ref().is_none_or(|wanted| labels_select(wanted, proxy.dataplane))
                    && section_name(&self.target)
                        .is_none_or(|name| proxy.sections.iter().any(|section| section.is(name)))
            }
            _ => false,
        };
        selected
            && (proxy.with_shadow || !self.is_shadow())
            && self.reaches_zone_of(proxy)
            && self.reaches_namespace_of(proxy)
    }

    /// The section of the proxy it is limited to.
    pub fn section_name(&self) -> Option<&str> {
        section_name(&self.target)
    }
}

fn section_name(target: &TargetRef) -> Option<&str> {
    target.section_name.as_deref().filter(|name| !name.is_empty())
}

/// The policies of one kind in one mesh.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    policies: Arc<[Arc<Policy>]>,
}

impl PolicySet {
    /// Reads policies. One that cannot be read, or whose target is of a kind we do not know, selects nothing.
    pub fn new<'a>(resources: impl IntoIterator<Item = &'a Arc<Resource>>) -> Self {
        Self::default().advance(resources)
    }

    /// The set of other resources; of those that are in this one too, what was read is taken over.
    #[must_use]
    pub fn advance<'a>(&self, resources: impl IntoIterator<Item = &'a Arc<Resource>>) -> Self {
        let held: BTreeMap<_, _> =
            self.policies.iter().map(|policy| (policy.resource.key(), policy)).collect();
        let read = |resource: &'a Arc<Resource>| match held.get(resource.key()) {
            Some(policy) if Arc::ptr_eq(&policy.resource, resource) => Some(Arc::clone(policy)),
            _ => Policy::read(resource).map(Arc::new),
        };
        let mut policies: Vec<_> = resources.into_iter().filter_map(read).collect();
        policies.sort_by(|a, b| {
            a.rank.cmp(&b.rank).then_with(|| by_name(&a.resource).cmp(&by_name(&b.resource)))
        });
        Self { policies: policies.into() }
    }

    /// Whether this is the very same set.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.policies, &other.policies)
    }

    /// All policies, in the order in which they are merged.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// The policies that select a proxy or some of its sections.
    pub fn select(&self, proxy: &Proxy<'_>) -> Selected {
        Selected::new(self.selecting(proxy).cloned().collect())
    }

    /// Those policies themselves, in the order in which they are merged.
    pub fn selecting<'a>(&'a self, proxy: &'a Proxy<'_>) -> impl Iterator<Item = &'a Arc<Policy>> {
        self.policies.iter().filter(|policy| policy.selects(proxy))
    }
}
