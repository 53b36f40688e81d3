//! Routes of several policies to one destination: rules with the same match become one.

use std::sync::Arc;

use serde_json::Value;

use crate::merge::merge;
use crate::selected::{Destination, Selected};
use crate::set::Policy;

/// A rule of routes to a destination.
#[derive(Clone, Debug)]
pub struct RoutedRule {
    /// The route that has the last word on it.
    pub route: Arc<Policy>,
    /// Position of the rule among those of its `to` item.
    pub index: usize,
    /// Which requests; null where the kind has no matches.
    pub matches: Value,
    /// What becomes of them.
    pub conf: Value,
}

impl RoutedRule {
    /// The section by which identifiers name the rule.
    pub fn section(&self) -> String {
        format!("rule_{}", self.index)
    }
}

impl Selected {
    /// The rules of routes to a destination. The routes with the last word come first, each with its rules in order.
    pub fn routed(&self, destination: &Destination<'_>) -> Vec<RoutedRule> {
        routed(&self.to_positions(destination))
    }
}

/// The rules at positions of routes given in merge order, see [`Selected::routed`].
pub fn routed(positions: &[(Arc<Policy>, usize)]) -> Vec<RoutedRule> {
    // Several items of one route stay in their order, so that its first match stays first.
    let mut grouped: Vec<(&Arc<Policy>, Vec<&Value>)> = Vec::new();
    for (policy, index) in positions {
        let Some(item) = policy.items("to").nth(*index) else { continue };
        match grouped.iter_mut().find(|(held, _)| held.kri == policy.kri) {
            Some((_, items)) => items.push(item),
            None => grouped.push((policy, vec![item])),
        }
    }
    let mut rules: Vec<RoutedRule> = Vec::new();
    for (route, items) in grouped.into_iter().rev() {
        for item in items {
            let listed = item.get("rules").and_then(Value::as_array).into_iter().flatten();
            for (index, rule) in listed.enumerate() {
                add(&mut rules, route, index, rule);
            }
        }
    }
    rules
}

/// Adds a rule that has less to say than those that are there.
fn add(rules: &mut Vec<RoutedRule>, route: &Arc<Policy>, index: usize, rule: &Value) {
    let matches = rule.get("matches").unwrap_or(&Value::Null);
    let weaker = rule.get("default").unwrap_or(&Value::Null);
    match rules.iter_mut().find(|held| held.matches == *matches) {
        Some(held) => {
            let mut conf = weaker.clone();
            merge(&mut conf, &held.conf);
            held.conf = conf;
        }
        None => rules.push(RoutedRule {
            route: Arc::clone(route),
            index,
            matches: matches.clone(),
            conf: weaker.clone(),
        }),
    }
}
