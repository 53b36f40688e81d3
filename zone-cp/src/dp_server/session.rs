//! One delta ADS stream without I/O: requests and newer configurations go in, responses come out.
//!
//! A proxy holds one unanswered response of a type; what changes meanwhile is remembered by name only, so that
//! memory is bounded by the configuration and a slow proxy skips states between. Order is make before break:
//! clusters, then their endpoints and secrets, then, when these are answered, listeners and routes; clusters that
//! are gone go last, when no listener can lead to them any more.

mod blame;
mod subscription;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use envoy_api::envoy::config::core::v3::ControlPlane;
use envoy_api::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use proxy_config::{ConfigResource, ProxyConfig, ResourceType, Version};

pub(crate) use subscription::Refused;
use subscription::Subscription;

/// Type of clusters.
pub(crate) const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// Type of endpoints.
pub(crate) const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
/// Type of secrets.
pub(crate) const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/// Type of listeners.
pub(crate) const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
/// Type of route configurations.
pub(crate) const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";

/// In the order in which they are sent.
const ORDER: [&str; 5] = [CLUSTER, ENDPOINTS, SECRET, LISTENER, ROUTE];
/// In the order in which they go away; all others after these.
const REMOVAL: [&str; 3] = [LISTENER, ROUTE, CLUSTER];
/// Stands for every resource of a type.
const WILDCARD: &str = "*";
/// Types a stream may ask for: Envoy knows a dozen.
const MAX_TYPES: usize = 32;
/// Names a stream may ask for, of one type: as many clusters as an Envoy of many gigabytes holds.
const MAX_NAMES: usize = 100_000;
/// Encoded resources in one response: half of the message limit of gRPC clients, names and framing aside.
const RESPONSE_BUDGET: usize = 2 << 20;

/// Resources of one type by name.
pub(crate) type Resources = BTreeMap<Arc<str>, ConfigResource>;

/// What a proxy is to hold.
pub(crate) trait Wanted: Send + Sync {
    /// Resources of a type.
    fn of(&self, type_url: &str) -> &Resources;
}

impl Wanted for ProxyConfig {
    fn of(&self, type_url: &str) -> &Resources {
        static NONE: Resources = Resources::new();
        ResourceType::from_type_url(type_url).map_or(&NONE, |kind| self.of(kind))
    }
}

/// What was sent of a type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Responses sent.
    pub(crate) sent: u64,
    /// Responses accepted.
    pub(crate) acknowledged: u64,
    /// Responses refused.
    pub(crate) rejected: u64,
}

/// A proxy that asks for more than a proxy can use.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum SessionError {
    /// Too many types.
    #[error("a stream may ask for {MAX_TYPES} types of resources")]
    TooManyTypes,
    /// Too many names.
    #[error("a stream may ask for {MAX_NAMES} resources of type {0}")]
    TooManyNames(String),
}

/// Place of a type in the order of sending, and the type.
type TypeKey = (usize, String);

fn key(type_url: &str) -> TypeKey {
    let rank = ORDER.iter().position(|known| *known == type_url).unwrap_or(ORDER.len());
    (rank, type_url.to_owned())
}

/// One stream.
pub(crate) struct Session {
    identifier: String,
    /// Whether the proxy will ask for listeners, so that clusters must not go away before it did.
    has_listeners: bool,
    wanted: Option<Arc<dyn Wanted>>,
    subscriptions: BTreeMap<TypeKey, Subscription>,
    /// Clusters that were sent on this stream before the proxy told which endpoints it has.
    early: BTreeSet<String>,
    nonce: u64,
}

impl Session {
    /// A stream; `identifier` names this control plane in responses.
    pub(crate) fn new(identifier: &str, has_listeners: bool) -> Self {
        Self {
            identifier: identifier.into(),
            has_listeners,
            wanted: None,
            subscriptions: BTreeMap::new(),
            early: BTreeSet::new(),
            nonce: 0,
        }
    }

    /// Takes a request: a subscription, an acknowledgement or a refusal. Answers come from [`Session::pump`].
    pub(crate) fn request(&mut self, request: &DeltaDiscoveryRequest) -> Result<(), SessionError> {
        let key = key(&request.type_url);
        if !self.subscriptions.contains_key(&key) && self.subscriptions.len() >= MAX_TYPES {
            return Err(SessionError::TooManyTypes);
        }
        let subscription = self.subscriptions.entry(key).or_default();
        subscription.request(request)?;
        if request.type_url == ENDPOINTS {
            subscription.outdate(std::mem::take(&mut self.early).iter().map(String::as_str));
        }
        Ok(())
    }

    /// Takes a newer configuration.
    pub(crate) fn advance(&mut self, wanted: Arc<dyn Wanted>) {
        self.wanted = Some(wanted);
        self.subscriptions.values_mut().for_each(Subscription::stale);
    }

    /// What can be sent now.
    pub(crate) fn pump(&mut self) -> Vec<DeltaDiscoveryResponse> {
        let Some(wanted) = self.wanted.clone() else { return Vec::new() };
        let keys: Vec<TypeKey> = self.subscriptions.keys().cloned().collect();
        keys.iter().for_each(|key| self.plan(key, &*wanted));
        keys.iter().filter_map(|key| self.respond(key, &*wanted)).collect()
    }

    /// What was sent, by type.
    pub(crate) fn counters(&self) -> impl Iterator<Item = (&str, Counters)> {
        self.subscriptions.iter().map(|((_, type_url), held)| (type_url.as_str(), held.counters))
    }

    /// What was sent, over all types.
    pub(crate) fn total(&self) -> Counters {
        self.counters().fold(Counters::default(), |total, (_, counters)| Counters {
            sent: total.sent + counters.sent,
            acknowledged: total.acknowledged + counters.acknowledged,
            rejected: total.rejected + counters.rejected,
        })
    }

    /// What the proxy refused and goes on without: type, name and why.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = (&str, &Arc<str>, &Refused)> {
        self.subscriptions.iter().flat_map(|((_, type_url), held)| {
            held.refused().iter().map(move |(name, refused)| (type_url.as_str(), name, refused))
        })
    }

    /// Asks again for what was refused: the reason may have gone away by itself. Each resource goes alone, so that no
    /// other is refused with it.
    pub(crate) fn retry(&mut self) {
        self.subscriptions.values_mut().for_each(Subscription::retry);
    }

    /// Whether the proxy has answered everything that it is to hold.
    pub(crate) fn is_settled(&self) -> bool {
        self.wanted.is_some() && self.subscriptions.values().all(Subscription::is_settled)
    }

    /// Whether the proxy has taken a first configuration, its listeners included: others may be sent to it.
    pub(crate) fn is_serving(&self) -> bool {
        let answered = |held: &Subscription| held.counters.acknowledged + held.counters.rejected > 0;
        self.is_settled()
            && (!self.has_listeners || self.subscriptions.get(&key(LISTENER)).is_some_and(answered))
    }

    /// Works out what is to be sent of a type.
    ///
    /// A cluster that is new or changed warms until it gets endpoints, even if they are the same as before, and
    /// Envoy does not ask again for a name that it still asks for. Endpoints are therefore sent again after their
    /// cluster, and their version says for which cluster they are, so that a reconnect in between shows.
    fn plan(&mut self, key: &TypeKey, wanted: &dyn Wanted) {
        let Some(mut subscription) = self.subscriptions.remove(key) else { return };
        let clusters = if key.1 == ENDPOINTS { self.subscriptions.get(&self::key(CLUSTER)) } else { None };
        subscription.plan(wanted.of(&key.1), |name, resource| {
            let cluster = clusters.and_then(|clusters| clusters.version(name)).map_or(0, |version| version.0);
            Version(resource.version.0 ^ cluster.rotate_left(32))
        });
        self.subscriptions.insert(key.clone(), subscription);
    }

    fn respond(&mut self, key: &TypeKey, wanted: &dyn Wanted) -> Option<DeltaDiscoveryResponse> {
        self.plan(key, wanted);
        let (updates, removals) = (self.may_update(key), self.may_remove(key));
        let subscription = self.subscriptions.get_mut(key)?;
        let (resources, removed_resources) = subscription.take(wanted.of(&key.1), updates, removals)?;
        self.nonce += 1;
        let nonce = self.nonce.to_string();
        subscription.sent(nonce.clone());
        if key.1 == CLUSTER {
            let names = resources.iter().map(|cluster| cluster.name.as_str());
            match self.subscriptions.get_mut(&self::key(ENDPOINTS)) {
                Some(endpoints) => endpoints.outdate(names),
                None => {
                    self.early.extend(names.map(str::to_owned));
                    self.early.retain(|name| wanted.of(CLUSTER).contains_key(name.as_str()));
                }
            }
        }
        Some(DeltaDiscoveryResponse {
            type_url: key.1.clone(),
            nonce,
            resources,
            removed_resources,
            control_plane: Some(ControlPlane { identifier: self.identifier.clone() }),
            ..Default::default()
        })
    }

    /// Listeners and routes wait until what they lead to is there.
    fn may_update(&self, (rank, _): &TypeKey) -> bool {
        let is_first = ORDER.get(*rank).is_some_and(|url| [CLUSTER, ENDPOINTS, SECRET].contains(url));
        is_first || [CLUSTER, ENDPOINTS, SECRET].iter().all(|url| self.is_quiet(url))
    }

    /// What others lead to goes when these others are settled. After a refusal nobody knows which listeners the
    /// proxy runs, so that what they may lead to stays.
    fn may_remove(&self, (_, type_url): &TypeKey) -> bool {
        let mut before = REMOVAL.iter().take_while(|earlier| *earlier != type_url);
        let settled = before.all(|earlier| {
            let held = self.subscriptions.get(&key(earlier));
            held.is_none_or(|held| held.is_settled() && (*earlier == CLUSTER || held.refused().is_empty()))
        });
        let resumed = self.subscriptions.get(&key(CLUSTER)).is_some_and(Subscription::was_resumed);
        let listeners_to_come =
            self.has_listeners && resumed && !self.subscriptions.contains_key(&key(LISTENER));
        settled && !(type_url == CLUSTER && listeners_to_come)
    }

    /// Nothing of a type is waiting to be sent or answered, removals aside.
    fn is_quiet(&self, type_url: &str) -> bool {
        self.subscriptions.get(&key(type_url)).is_none_or(Subscription::is_quiet)
    }
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod tests;
