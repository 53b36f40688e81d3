//! MeshLoadBalancingStrategy: which endpoint of a destination takes a call.

mod locality;

use envoy_api::envoy::config::cluster::v3::cluster::common_lb_config::{
    LocalityConfigSpecifier, LocalityWeightedLbConfig,
};
use envoy_api::envoy::config::cluster::v3::cluster::{
    LbConfig, LbPolicy, LeastRequestLbConfig, MaglevLbConfig, RingHashLbConfig, ring_hash_lb_config,
};
use envoy_api::envoy::config::core::v3::RuntimeDouble;
use envoy_api::envoy::config::route::v3::route_action::HashPolicy as RouteHashPolicy;
use envoy_api::envoy::config::route::v3::route_action::hash_policy::{
    ConnectionProperties, Cookie, FilterState, Header, PolicySpecifier, QueryParameter,
};
use model::Kind;
use model::spec::{
    HashFunction, HashPolicy, HashPolicyType, IntOrString, LoadBalancer, LoadBalancerType, LoadBalancingConf,
};
use policy::Selected;

use super::outbound::OutboundConfs;
use crate::draft::{Chain, Cluster, Draft, Filter, Role};
use crate::generate::Context;
use crate::parts::{action_mut, duration, routes_mut};
use crate::view::Destination;

/// Largest table of Envoy's Maglev, a prime.
const MOST_TABLE: u64 = 5_000_011;

/// Size of a ring unless something else is said.
const ENVOYS_LEAST_RING: u64 = 1024;

/// Balances what the application calls, and what an egress forwards.
pub(crate) fn apply(context: &Context<'_>, draft: &mut Draft) {
    let selected = context.policies(Kind::MESH_LOAD_BALANCING_STRATEGY);
    if selected.is_empty() {
        return;
    }
    for cluster in draft.clusters.values_mut() {
        match cluster.role.clone() {
            Role::Outbound(destination) => {
                let Some(conf) = conf(&selected, &destination) else { continue };
                balance(&conf, cluster);
                if let Some(locality) = &conf.locality_awareness {
                    if locality::has_affinity(locality) {
                        weigh_localities(cluster);
                    }
                    if let Some(assignment) = locality::assignment(context, locality, &destination) {
                        draft.assignments.insert(destination.name.clone(), assignment);
                    }
                }
            }
            // What is outside the mesh is in no zone.
            Role::External(destination) => {
                if let Some(conf) = conf(&selected, &destination) {
                    balance(&conf, cluster);
                }
            }
            _ => {}
        }
    }
    for listener in draft.listeners.values_mut() {
        let whole = match &listener.role {
            Role::Outbound(destination) => Some(destination.clone()),
            Role::ZoneEgress(_) => None,
            _ => continue,
        };
        for chain in &mut listener.chains {
            if let Some(destination) = whole.clone().or_else(|| chain.destination.clone()) {
                hash(&selected, &destination, chain);
            }
        }
    }
}

fn conf(selected: &Selected, destination: &Destination) -> Option<LoadBalancingConf> {
    selected.to(&destination.as_target())?.decode().ok()
}

fn balance(conf: &LoadBalancingConf, cluster: &mut Cluster) {
    let Some(balancer) = &conf.load_balancer else { return };
    cluster.message.lb_policy = match balancer.r#type {
        LoadBalancerType::RoundRobin => LbPolicy::RoundRobin,
        LoadBalancerType::LeastRequest => LbPolicy::LeastRequest,
        LoadBalancerType::RingHash => LbPolicy::RingHash,
        LoadBalancerType::Random => LbPolicy::Random,
        LoadBalancerType::Maglev => LbPolicy::Maglev,
    }
    .into();
    cluster.message.lb_config = settings(balancer);
}

/// The settings of the algorithm that is chosen; those of others say nothing.
fn settings(balancer: &LoadBalancer) -> Option<LbConfig> {
    match balancer.r#type {
        LoadBalancerType::LeastRequest => balancer.least_request.as_ref().map(|least| {
            let bias = least.active_request_bias.as_ref().and_then(IntOrString::as_f64);
            LbConfig::LeastRequestLbConfig(LeastRequestLbConfig {
                choice_count: least.choice_count,
                active_request_bias: bias.map(|default_value| RuntimeDouble {
                    default_value,
                    runtime_key: "least_request.active_request_bias".into(),
                }),
                ..LeastRequestLbConfig::default()
            })
        }),
        LoadBalancerType::RingHash => balancer.ring_hash.as_ref().map(|ring| {
            let function = match ring.hash_function {
                None | Some(HashFunction::XXHash) => ring_hash_lb_config::HashFunction::XxHash,
                Some(HashFunction::MurmurHash2) => ring_hash_lb_config::HashFunction::MurmurHash2,
            };
            let (least, most) = (ring.min_ring_size.map(u64::from), ring.max_ring_size.map(u64::from));
            // Envoy's own minimum, or that of another policy, may be above the maximum: it would refuse that.
            let within = most.filter(|most| *most < least.unwrap_or(ENVOYS_LEAST_RING));
            LbConfig::RingHashLbConfig(RingHashLbConfig {
                minimum_ring_size: within.or(least),
                maximum_ring_size: most,
                hash_function: function.into(),
            })
        }),
        LoadBalancerType::Maglev => balancer.maglev.as_ref().map(|maglev| {
            let size = maglev.table_size.map(|size| prime(u64::from(size)));
            LbConfig::MaglevLbConfig(MaglevLbConfig { table_size: size })
        }),
        LoadBalancerType::RoundRobin | LoadBalancerType::Random => None,
    }
}

/// The smallest prime that is not below a number, as far as Envoy goes: it refuses tables of other sizes.
fn prime(number: u64) -> u64 {
    let is_prime = |number: &u64| {
        *number > 1 && (2..).take_while(|by| by * by <= *number).all(|by| !number.is_multiple_of(by))
    };
    (number..MOST_TABLE).find(is_prime).unwrap_or(MOST_TABLE)
}

fn weigh_localities(cluster: &mut Cluster) {
    let common = cluster.message.common_lb_config.get_or_insert_default();
    common.locality_config_specifier =
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(LocalityWeightedLbConfig::default()));
}

/// Adds to routes what requests are told apart by.
fn hash(selected: &Selected, destination: &Destination, chain: &mut Chain) {
    let confs = OutboundConfs::<LoadBalancingConf>::of(selected, destination, &chain.origins);
    for filter in &mut chain.filters {
        let Filter::Http(manager) = filter else { continue };
        for route in routes_mut(manager) {
            let Some(conf) = confs.route(&route.name) else { continue };
            let policies = conf.hash_policies.iter().flatten().filter_map(hash_policy).collect();
            if let Some(action) = action_mut(route) {
                action.hash_policy = policies;
            }
        }
    }
}

fn hash_policy(policy: &HashPolicy) -> Option<RouteHashPolicy> {
    let specifier = match policy.r#type {
        HashPolicyType::Header => PolicySpecifier::Header(Header {
            header_name: policy.header.as_ref()?.name.clone(),
            ..Header::default()
        }),
        HashPolicyType::Cookie => {
            let cookie = policy.cookie.as_ref()?;
            PolicySpecifier::Cookie(Cookie {
                name: cookie.name.clone(),
                ttl: cookie.ttl.map(duration),
                path: cookie.path.clone().unwrap_or_default(),
                ..Cookie::default()
            })
        }
        HashPolicyType::Connection => {
            let source_ip = policy.connection.as_ref()?.source_ip.unwrap_or_default();
            PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip })
        }
        HashPolicyType::QueryParameter => PolicySpecifier::QueryParameter(QueryParameter {
            name: policy.query_parameter.as_ref()?.name.clone(),
        }),
        HashPolicyType::FilterState => {
            PolicySpecifier::FilterState(FilterState { key: policy.filter_state.as_ref()?.key.clone() })
        }
    };
    Some(RouteHashPolicy { terminal: policy.terminal.unwrap_or_default(), policy_specifier: Some(specifier) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_the_size_of_a_prime() {
        for (number, expected) in [(0, 2), (2, 2), (100, 101), (65_537, 65_537), (5_000_012, MOST_TABLE)] {
            assert_eq!(prime(number), expected, "{number}");
        }
    }
}
