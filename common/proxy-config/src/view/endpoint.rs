//! Where a destination is served, and the message that tells it.

use std::collections::BTreeMap;
use std::sync::Arc;

use envoy_api::envoy::config::core::v3::{Locality, Metadata};
use envoy_api::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_api::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint as EndpointMessage, LbEndpoint, LocalityLbEndpoints,
};
use model::{Labels, labels};

use crate::parts::{document, host};

/// One place where a destination is served. The order is that of the message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Endpoint {
    /// The zone; empty for what is in none.
    pub(crate) zone: String,
    /// Part of the zone.
    pub(crate) sub_zone: String,
    /// Larger ones take over when the smaller ones fail.
    pub(crate) priority: u32,
    /// An address, or a name where the cluster resolves it.
    pub(crate) host: String,
    /// The port.
    pub(crate) port: u32,
    /// What is known of it.
    pub(crate) tags: Arc<Labels>,
}

impl Endpoint {
    fn same_place(&self, other: &Self) -> bool {
        (&self.zone, &self.sub_zone, self.priority, &self.host, self.port)
            == (&other.zone, &other.sub_zone, other.priority, &other.host, other.port)
    }

    fn locality(&self) -> (&str, &str, u32) {
        (&self.zone, &self.sub_zone, self.priority)
    }

    fn message(&self) -> LbEndpoint {
        let endpoint =
            EndpointMessage { address: Some(host(&self.host, self.port)), ..EndpointMessage::default() };
        LbEndpoint {
            metadata: metadata(&self.tags),
            load_balancing_weight: Some(1),
            host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
            ..LbEndpoint::default()
        }
    }
}

/// Tags for load balancing and for choosing a transport.
pub(crate) fn metadata(tags: &Labels) -> Option<Metadata> {
    let shown = tags.iter().filter(|(key, _)| *key != labels::SERVICE);
    let fields = document(shown.map(|(key, value)| (key.as_str(), value.as_str())));
    if fields.fields.is_empty() {
        return None;
    }
    let filter_metadata = BTreeMap::from([
        ("envoy.lb".to_owned(), fields.clone()),
        ("envoy.transport_socket_match".to_owned(), fields),
    ]);
    Some(Metadata { filter_metadata, ..Metadata::default() })
}

/// The message with the endpoints of a cluster. A place counts once.
pub(crate) fn assignment(cluster: &str, mut endpoints: Vec<Endpoint>) -> ClusterLoadAssignment {
    endpoints.sort();
    endpoints.dedup_by(|a, b| a.same_place(b));
    let localities = endpoints.chunk_by(|a, b| a.locality() == b.locality()).filter_map(|group| {
        let first = group.first()?;
        let locality = (!first.zone.is_empty() || !first.sub_zone.is_empty()).then(|| Locality {
            zone: first.zone.clone(),
            sub_zone: first.sub_zone.clone(),
            ..Locality::default()
        });
        Some(LocalityLbEndpoints {
            locality,
            lb_endpoints: group.iter().map(Endpoint::message).collect(),
            priority: first.priority,
            ..LocalityLbEndpoints::default()
        })
    });
    ClusterLoadAssignment {
        cluster_name: cluster.into(),
        endpoints: localities.collect(),
        ..ClusterLoadAssignment::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(zone: &str, priority: u32, host: &str) -> Endpoint {
        let tags = Arc::new(Labels::from([("a".into(), "b".into()), (labels::SERVICE.into(), "s".into())]));
        let (zone, host) = (zone.to_owned(), host.to_owned());
        Endpoint { zone, sub_zone: String::new(), priority, host, port: 80, tags }
    }

    #[test]
    fn localities_are_ordered_and_a_place_counts_once() {
        let endpoints = vec![
            endpoint("west", 1, "10.0.0.3"),
            endpoint("east", 0, "10.0.0.2"),
            endpoint("east", 0, "10.0.0.1"),
        ];
        let mut again = endpoints.clone();
        again.reverse();
        again.push(endpoint("east", 0, "10.0.0.1"));
        let message = assignment("c", endpoints);
        assert_eq!(message, assignment("c", again));
        let zones: Vec<_> = message
            .endpoints
            .iter()
            .map(|locality| {
                let zone = locality.locality.as_ref().map(|found| found.zone.as_str());
                (zone, locality.priority, locality.lb_endpoints.len())
            })
            .collect();
        assert_eq!(zones, [(Some("east"), 0, 2), (Some("west"), 1, 1)]);
    }

    #[test]
    fn the_name_of_the_service_is_no_tag_of_an_endpoint() {
        let told = metadata(&endpoint("", 0, "h").tags).expect("one tag is left");
        let fields = told.filter_metadata.get("envoy.lb").expect("for load balancing");
        assert_eq!(fields.fields.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(metadata(&Labels::new()), None);
    }
}
