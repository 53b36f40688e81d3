//! The items of the `to` lists of the policies that select a proxy: sorted once, found by what they name.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::Resource;
use serde_json::Value;

use crate::order::{TargetKind, by_name};
use crate::reference::Reference;
use crate::set::Policy;

/// An item of a `to` list.
#[derive(Clone, Debug)]
pub(crate) struct ToItem {
    pub(crate) policy: Arc<Policy>,
    pub(crate) index: usize,
}

impl ToItem {
    /// What it names; items that can name nothing are left out.
    pub(crate) fn reference(&self) -> Option<&Reference> {
        self.policy.to.get(self.index)?.as_ref()
    }

    pub(crate) fn conf(&self) -> &Value {
        let item = self.policy.items("to").nth(self.index);
        item.and_then(|item| item.get("default")).unwrap_or(&Value::Null)
    }
}

/// Items in merge order. Most of them name one service by its display name: looking for what applies to a service
/// passes over all that name others.
#[derive(Clone, Debug, Default)]
pub(crate) struct ToItems {
    items: Vec<ToItem>,
    by_display_name: BTreeMap<TargetKind, BTreeMap<String, Vec<usize>>>,
    others: Vec<usize>,
}

impl ToItems {
    pub(crate) fn new<'a>(policies: impl Iterator<Item = &'a Arc<Policy>>) -> Self {
        let each = policies.flat_map(|policy| {
            let known = policy.to.iter().enumerate().filter(|(_, reference)| reference.is_some());
            known.map(|(index, _)| ToItem { policy: Arc::clone(policy), index })
        });
        let mut items: Vec<ToItem> = each.collect();
        // A stable sort: items of one policy stay in their order.
        items.sort_by(|a, b| {
            let rank = |item: &ToItem| item.reference().map(Reference::rank);
            a.policy
                .rank
                .cmp(&b.policy.rank)
                .then_with(|| rank(a).cmp(&rank(b)))
                .then_with(|| by_name(&a.policy.resource).cmp(&by_name(&b.policy.resource)))
        });
        let mut found = Self { items, ..Self::default() };
        for (at, item) in found.items.iter().enumerate() {
            match item.reference().and_then(Reference::display_name) {
                Some((kind, name)) => {
                    let of_kind = found.by_display_name.entry(kind).or_default();
                    of_kind.entry(name.to_owned()).or_default().push(at);
                }
                None => found.others.push(at),
            }
        }
        found
    }

    /// Items for whatever is called, in merge order.
    pub(crate) fn of_mesh(&self) -> impl Iterator<Item = &ToItem> {
        self.items.iter().filter(|item| item.reference().is_some_and(Reference::is_mesh))
    }

    /// Items that may name a resource, in merge order.
    pub(crate) fn of(&self, resource: &Resource) -> impl Iterator<Item = &ToItem> {
        let kind = TargetKind::parse(resource.kind().name);
        let of_kind = kind.and_then(|kind| self.by_display_name.get(&kind));
        let named = of_kind.and_then(|names| names.get(resource.display_name()));
        let named = named.map(Vec::as_slice).unwrap_or_default();
        Merged { left: named, right: &self.others }.filter_map(|at| self.items.get(at))
    }
}

/// Two ascending lists as one.
struct Merged<'a> {
    left: &'a [usize],
    right: &'a [usize],
}

impl Iterator for Merged<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let from = match (self.left.first(), self.right.first()) {
            (Some(left), Some(right)) if left < right => &mut self.left,
            (Some(_), None) => &mut self.left,
            _ => &mut self.right,
        };
        let (first, rest) = from.split_first()?;
        *from = rest;
        Some(*first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascending_lists_stay_ascending_together() {
        let merged = |left: &[usize], right: &[usize]| Merged { left, right }.collect::<Vec<_>>();
        assert_eq!(merged(&[1, 4], &[0, 2, 5]), [0, 1, 2, 4, 5]);
        assert_eq!(merged(&[], &[3]), [3]);
        assert_eq!(merged(&[3], &[]), [3]);
    }
}
