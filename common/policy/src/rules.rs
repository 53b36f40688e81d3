//! The inbound view: what applies to connections that arrive at a section, by who makes them.

use std::collections::BTreeMap;

use model::Kri;
use serde_json::Value;

use crate::conf::Conf;
use crate::set::Policy;

/// What applies to one group of connections.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Which connections; `None` is all that no other rule names.
    pub matches: Option<Value>,
    /// What applies to them.
    pub conf: Conf,
}

/// One match of an item of a policy's `rules` list, or the item itself where it has none.
#[derive(Clone, Debug)]
pub struct InboundItem<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// Position of the item in its list.
    pub index: usize,
    /// Which connections; `None` is all.
    pub matches: Option<&'a Value>,
    /// What the item says of them.
    pub conf: &'a Value,
}

/// Every match of every item of policies given in merge order: the more specific match comes first, then the
/// merge order holds.
pub(crate) fn each<'a>(policies: impl IntoIterator<Item = &'a Policy>) -> Vec<InboundItem<'a>> {
    let mut items = Vec::new();
    for policy in policies {
        for (index, rule) in policy.items("rules").enumerate() {
            let conf = rule.get("default").unwrap_or(&Value::Null);
            let matches =
                rule.get("matches").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            if matches.is_empty() {
                items.push(InboundItem { policy, index, matches: None, conf });
            }
            items.extend(matches.iter().map(|one| InboundItem { policy, index, matches: Some(one), conf }));
        }
    }
    items.sort_by_key(|item| item.matches.map_or((true, true, true, true), rank));
    items
}

/// Sort key of a match: smaller ones are more specific.
type Rank = (bool, bool, bool, bool);

/// Configurations in merge order, each with its policy.
type Confs<'a> = Vec<(&'a Kri, &'a Value)>;

/// Peers by identity first, exact before prefix, then those that name a server, then all others.
fn rank(matches: &Value) -> Rank {
    let spiffe = matches.get("spiffeID");
    let exact = spiffe.and_then(|id| id.get("type")).and_then(Value::as_str) == Some("Exact");
    (false, spiffe.is_none(), !exact, matches.get("sni").is_none())
}

/// Groups `(policy, rule)` pairs, given in merge order, by what they match.
pub(crate) fn group<'a>(items: impl IntoIterator<Item = (&'a Kri, &'a Value)>) -> Vec<Rule> {
    let mut matched: BTreeMap<(Rank, String), (Value, Confs<'_>)> = BTreeMap::new();
    let mut catch_all: Confs<'_> = Vec::new();
    for (kri, rule) in items {
        let conf = rule.get("default").unwrap_or(&Value::Null);
        let matches = rule.get("matches").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if matches.is_empty() {
            catch_all.push((kri, conf));
        }
        for item in matches {
            let (_, confs) =
                matched.entry((rank(item), item.to_string())).or_insert_with(|| (item.clone(), Vec::new()));
            confs.push((kri, conf));
        }
    }
    let mut rules: Vec<Rule> = matched
        .into_values()
        .filter_map(|(matches, confs)| Some(Rule { matches: Some(matches), conf: Conf::of(confs)? }))
        .collect();
    rules.extend(Conf::of(catch_all).map(|conf| Rule { matches: None, conf }));
    rules
}
