//! The inbound view: what applies to connections that arrive at a section, by who makes them.

use std::collections::BTreeMap;

use model::Kri;
use serde_json::Value;

use crate::conf::Conf;

/// What applies to one group of connections.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Which connections; `None` is all that no other rule names.
    pub matches: Option<Value>,
    /// What applies to them.
    pub conf: Conf,
}

/// Sort key of a match: smaller ones are more specific.
type Specificity = (bool, bool, bool, String);

/// Configurations in merge order, each with its policy.
type Confs<'a> = Vec<(&'a Kri, &'a Value)>;

/// Peers by identity first, exact before prefix, then those that name a server.
fn specificity(matches: &Value) -> Specificity {
    let spiffe = matches.get("spiffeID");
    let exact = spiffe.and_then(|id| id.get("type")).and_then(Value::as_str) == Some("Exact");
    (spiffe.is_none(), !exact, matches.get("sni").is_none(), matches.to_string())
}

/// Groups `(policy, rule)` pairs, given in merge order, by what they match.
pub(crate) fn group<'a>(items: impl IntoIterator<Item = (&'a Kri, &'a Value)>) -> Vec<Rule> {
    let mut matched: BTreeMap<Specificity, (Value, Confs<'_>)> = BTreeMap::new();
    let mut catch_all: Confs<'_> = Vec::new();
    for (kri, rule) in items {
        let conf = rule.get("default").unwrap_or(&Value::Null);
        let matches = rule.get("matches").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if matches.is_empty() {
            catch_all.push((kri, conf));
        }
        for item in matches {
            let (_, confs) = matched.entry(specificity(item)).or_insert_with(|| (item.clone(), Vec::new()));
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
