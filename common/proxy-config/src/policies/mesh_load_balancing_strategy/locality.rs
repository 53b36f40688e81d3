//! Near endpoints first: affinity within the own zone, and which other zones take over.

use envoy_api::envoy::config::endpoint::v3::cluster_load_assignment::Policy;
use model::Labels;
use model::spec::{AffinityTag, CrossZone, Failover, LocalityAwareness, ToZonesType};

use crate::config::{ConfigResource, ResourceType};
use crate::generate::Context;
use crate::view::{Destination, Endpoint, assignment as message};

/// Percent of the endpoints that must be healthy for all calls to stay, unless the policy says otherwise.
const THRESHOLD: f64 = 50.0;

/// Whether near endpoints of the own zone come first.
pub(super) fn has_affinity(locality: &LocalityAwareness) -> bool {
    locality.disabled != Some(true) && !tags(locality).is_empty()
}

fn tags(locality: &LocalityAwareness) -> &[AffinityTag] {
    let tags = locality.local_zone.as_ref().and_then(|local| local.affinity_tags.as_deref());
    tags.unwrap_or_default()
}

/// The endpoints of a destination as one proxy sees them; `None` where they are as for every other.
pub(super) fn assignment(
    context: &Context<'_>,
    locality: &LocalityAwareness,
    destination: &Destination,
) -> Option<ConfigResource> {
    let endpoints = destination.endpoints.clone();
    let own = context.view.zone();
    if locality.disabled == Some(true) {
        let equal = endpoints.into_iter().map(|endpoint| Endpoint { priority: 0, ..endpoint });
        let message = message(&destination.name, equal.collect());
        return Some(ConfigResource::encode(ResourceType::Endpoint, &message));
    }
    if locality.local_zone.is_none() && locality.cross_zone.is_none() {
        return None;
    }
    let near = Near::new(tags(locality), context.proxy.dataplane.labels());
    let failover =
        locality.cross_zone.as_ref().and_then(|cross| cross.failover.as_deref()).unwrap_or_default();
    let endpoints = endpoints.into_iter().filter_map(|endpoint| {
        if endpoint.zone.is_empty() || endpoint.zone == own {
            let sub_zone = near.sub_zone(&endpoint).unwrap_or_default();
            return Some(Endpoint { sub_zone, priority: 0, ..endpoint });
        }
        Some(Endpoint { priority: priority(failover, own, &endpoint.zone)?, ..endpoint })
    });
    let mut message = message(&destination.name, endpoints.collect());
    for group in &mut message.endpoints {
        let place = group.locality.clone().unwrap_or_default();
        if !near.groups.is_empty() && (place.zone.is_empty() || place.zone == own) {
            let weight = near.groups.iter().find(|group| group.sub_zone == place.sub_zone);
            group.load_balancing_weight = Some(weight.map_or(1, |group| group.weight));
        }
    }
    let overprovisioning_factor = Some(overprovisioning(locality.cross_zone.as_ref()));
    message.policy = Some(Policy { overprovisioning_factor, ..Policy::default() });
    Some(ConfigResource::encode(ResourceType::Endpoint, &message))
}

/// How far endpoints may fail before the next ones take over: whole hundreds, as with other control planes of this
/// API.
fn overprovisioning(cross: Option<&CrossZone>) -> u32 {
    let threshold = cross.and_then(|cross| cross.failover_threshold.as_ref()?.percentage.as_f64());
    let threshold = threshold.filter(|threshold| *threshold > 0.0).unwrap_or(THRESHOLD);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is clamped")]
    let hundreds = (100.0 / threshold).clamp(0.0, 1e6) as u32;
    100 * hundreds
}

/// The first rule that is for the own zone and names the other one: later rules are tried later.
fn priority(failover: &[Failover], own: &str, other: &str) -> Option<u32> {
    let is_for_us =
        |rule: &Failover| rule.from.as_ref().is_none_or(|from| from.zones.iter().any(|zone| zone == own));
    let names = |rule: &Failover| {
        let named = rule.to.zones.iter().flatten().any(|zone| zone == other);
        match rule.to.r#type {
            ToZonesType::None => false,
            ToZonesType::Only => named,
            ToZonesType::Any => true,
            ToZonesType::AnyExcept => !named,
        }
    };
    let rules = failover.iter().enumerate().filter(|(_, rule)| is_for_us(rule));
    // Nothing comes after a rule that sends calls nowhere.
    let mut rules = rules.take_while(|(_, rule)| rule.to.r#type != ToZonesType::None);
    let (index, _) = rules.find(|(_, rule)| names(rule))?;
    u32::try_from(index + 1).ok()
}

/// Groups of endpoints that share a label's value with the proxy.
struct Near {
    groups: Vec<Group>,
}

struct Group {
    key: String,
    value: String,
    sub_zone: String,
    weight: u32,
}

impl Near {
    fn new(tags: &[AffinityTag], own: &Labels) -> Self {
        let groups = tags.iter().enumerate().filter_map(|(at, tag)| {
            let value = own.get(&tag.key)?;
            // Nine times what all later ones get.
            let later = u32::try_from(tags.len() - at - 1).unwrap_or(u32::MAX);
            let weight = tag.weight.unwrap_or_else(|| 9_u32.saturating_mul(10_u32.saturating_pow(later)));
            let sub_zone = format!("{}={value}", tag.key);
            Some(Group { key: tag.key.clone(), value: value.clone(), sub_zone, weight })
        });
        Self { groups: groups.collect() }
    }

    fn sub_zone(&self, endpoint: &Endpoint) -> Option<String> {
        let has = |group: &&Group| endpoint.tags.get(&group.key) == Some(&group.value);
        Some(self.groups.iter().find(has)?.sub_zone.clone())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules() -> Vec<Failover> {
        serde_json::from_value(json!([
            {"from": {"zones": ["east"]}, "to": {"type": "Only", "zones": ["west"]}},
            {"from": {"zones": ["north"]}, "to": {"type": "Any"}},
            {"to": {"type": "AnyExcept", "zones": ["south"]}},
            {"to": {"type": "None"}},
            {"to": {"type": "Any"}},
        ]))
        .expect("rules")
    }

    #[test]
    fn the_first_rule_that_names_a_zone_gives_its_place() {
        let rules = rules();
        let of = |own: &str, other: &str| priority(&rules, own, other);
        assert_eq!((of("east", "west"), of("east", "north"), of("east", "south")), (Some(1), Some(3), None));
        assert_eq!((of("north", "south"), of("south", "west")), (Some(2), Some(3)));
    }

    #[test]
    fn thresholds_become_whole_hundreds() {
        let of = |percentage: serde_json::Value| {
            overprovisioning(Some(
                &serde_json::from_value(json!({"failoverThreshold": {"percentage": percentage}}))
                    .expect("a threshold"),
            ))
        };
        assert_eq!(
            (of(json!(100)), of(json!(70)), of(json!("25")), overprovisioning(None)),
            (100, 100, 400, 200)
        );
    }

    #[test]
    fn each_tag_outweighs_all_later_ones() {
        let tags: Vec<AffinityTag> =
            serde_json::from_value(json!([{"key": "node"}, {"key": "rack"}, {"key": "row"}])).expect("tags");
        let own = Labels::from([("node".into(), "n1".into()), ("row".into(), "r1".into())]);
        let near = Near::new(&tags, &own);
        let found: Vec<_> = near.groups.iter().map(|group| (group.sub_zone.as_str(), group.weight)).collect();
        assert_eq!(found, [("node=n1", 900), ("row=r1", 9)]);
    }
}
