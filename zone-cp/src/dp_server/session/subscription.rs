//! What one stream asked for of one type, what it holds, and what is still to be sent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use envoy_api::envoy::service::discovery::v3::{DeltaDiscoveryRequest, Resource};

use proxy_config::{ConfigResource, Version};

use super::blame::{self, Blame};
use super::{CLUSTER, Counters, LISTENER, MAX_NAMES, RESPONSE_BUDGET, Resources, SessionError, WILDCARD};

/// What a response told.
#[derive(Default)]
struct Told {
    /// Resources and their versions.
    sent: BTreeMap<Arc<str>, Version>,
    /// Names of what is gone.
    removed: Vec<Arc<str>>,
}

/// A resource that the proxy refused: it goes on with the version before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The version that it refused; `None` where it refused that something is gone.
    pub(crate) version: Option<Version>,
    /// Why, in its words.
    pub(crate) reason: String,
}

/// State of one type on one stream.
#[derive(Default)]
pub(super) struct Subscription {
    wildcard: bool,
    /// Names asked for one by one.
    names: BTreeSet<Arc<str>>,
    /// Names and versions that the proxy holds once it has answered; no version where it is not one of ours.
    held: BTreeMap<Arc<str>, Option<Version>>,
    /// Names that were asked for and not answered: to send even if the proxy holds the version, or to say that
    /// they are not there.
    asked: BTreeSet<Arc<str>>,
    /// New or changed, with the version, or asked for and not there: to be told as soon as possible.
    updates: BTreeMap<Arc<str>, Option<Version>>,
    /// Held and not wanted any more.
    removals: BTreeSet<Arc<str>>,
    /// Updates and removals are not those of the newest configuration.
    stale: bool,
    /// A request was seen.
    opened: bool,
    /// The first request told of resources from an earlier stream.
    resumed: bool,
    /// An empty answer is due: the proxy waits for a first one.
    owes_answer: bool,
    /// Nonce of the response that is not answered yet.
    unanswered: Option<String>,
    /// What the unanswered response told.
    told: Told,
    /// What the proxy refused and was not told otherwise since, by name.
    refused: BTreeMap<Arc<str>, Refused>,
    /// Resources of a response that was refused as a whole, to be sent group by group until it is clear which of
    /// them it was.
    suspects: VecDeque<BTreeSet<Arc<str>>>,
    pub(super) counters: Counters,
}

impl Subscription {
    pub(super) fn request(&mut self, request: &DeltaDiscoveryRequest) -> Result<(), SessionError> {
        self.answer(request);
        if !self.opened {
            self.opened = true;
            self.resumed = !request.initial_resource_versions.is_empty();
            let held = request.initial_resource_versions.iter();
            self.held = held.map(|(name, text)| (name.as_str().into(), version(text))).collect();
            self.wildcard = request.resource_names_subscribe.is_empty() && is_collection(&request.type_url);
            self.owes_answer = self.wildcard && !self.resumed;
            self.stale = true;
            self.subscribe(request, false);
        } else if !request.resource_names_subscribe.is_empty()
            || !request.resource_names_unsubscribe.is_empty()
        {
            self.stale = true;
            self.subscribe(request, true);
        }
        if self.names.len() > MAX_NAMES || self.held.len() > MAX_NAMES {
            return Err(SessionError::TooManyNames(request.type_url.clone()));
        }
        Ok(())
    }

    /// A refused resource counts as held, and goes out again when its content changes. All others of the response are
    /// either there already, or are sent again without it.
    fn answer(&mut self, request: &DeltaDiscoveryRequest) {
        if self.unanswered.is_none() || self.unanswered.as_ref() != Some(&request.response_nonce) {
            return;
        }
        self.unanswered = None;
        let told = std::mem::take(&mut self.told);
        let Some(error) = &request.error_detail else {
            self.counters.acknowledged += 1;
            self.accepted(told);
            return;
        };
        self.counters.rejected += 1;
        match blame::of(&error.message, told.sent.keys()) {
            Blame::Named(reasons) => {
                self.accepted_but(told, reasons);
            }
            Blame::All { suspect } => self.refused_whole(told, suspect, &error.message),
        }
    }

    fn accepted(&mut self, told: Told) {
        for name in told.sent.keys().chain(&told.removed) {
            self.refused.remove(name);
        }
    }

    /// The proxy took everything but what it names.
    fn accepted_but(&mut self, told: Told, reasons: BTreeMap<Arc<str>, String>) {
        let versions = told.sent.clone();
        self.accepted(told);
        for (name, reason) in reasons {
            let version = versions.get(&name).copied();
            self.refused.insert(name, Refused { version, reason });
        }
    }

    /// The proxy took nothing, or nobody knows what.
    fn refused_whole(&mut self, told: Told, suspect: Option<Arc<str>>, reason: &str) {
        let Told { sent, removed } = told;
        if sent.len() <= 1 {
            let refused = match sent.into_iter().next() {
                Some((name, version)) => Some((name, Some(version))),
                None => removed.first().map(|name| (Arc::clone(name), None)),
            };
            if let Some((name, version)) = refused {
                // What is gone besides is told again, by itself.
                self.untold(removed.iter().filter(|_| version.is_some()));
                self.refused.insert(name, Refused { version, reason: reason.to_owned() });
            }
            return;
        }
        self.untold(sent.keys().chain(&removed));
        let groups = match suspect {
            Some(suspect) => {
                let others = sent.into_keys().filter(|name| *name != suspect).collect();
                [others, BTreeSet::from([suspect])]
            }
            None => {
                let half = sent.len() / 2;
                let mut first: Vec<_> = sent.into_keys().collect();
                let second = first.split_off(half);
                [first.into_iter().collect(), second.into_iter().collect()]
            }
        };
        for group in groups.into_iter().rev() {
            self.suspects.push_front(group);
        }
    }

    /// Nobody knows what the proxy holds under these names.
    fn untold<'a>(&mut self, names: impl Iterator<Item = &'a Arc<str>>) {
        for name in names {
            self.held.insert(Arc::clone(name), None);
            self.stale = true;
        }
    }

    /// Names that are asked for anew are sent even if they are held: the proxy may have dropped them.
    fn subscribe(&mut self, request: &DeltaDiscoveryRequest, anew: bool) {
        for name in &request.resource_names_unsubscribe {
            let name = name.as_str();
            self.asked.remove(name);
            if name == WILDCARD {
                self.wildcard = false;
                let names = &self.names;
                self.held.retain(|held, _| names.contains(held));
                self.refused.retain(|held, _| names.contains(held));
            } else if self.names.remove(name) && !self.wildcard {
                self.held.remove(name);
                self.refused.remove(name);
            }
        }
        for name in request.resource_names_subscribe.iter().filter(|name| !name.is_empty()) {
            if name == WILDCARD {
                self.owes_answer |= !self.wildcard && !self.resumed;
                self.wildcard = true;
                continue;
            }
            let name: Arc<str> = name.as_str().into();
            if anew || !self.held.contains_key(&name) {
                self.asked.insert(Arc::clone(&name));
            }
            self.names.insert(name);
        }
    }

    /// The configuration changed.
    pub(super) fn stale(&mut self) {
        self.stale = true;
    }

    /// What the proxy holds of these names is of no use to it any more.
    pub(super) fn outdate<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        for name in names {
            if let Some(version) = self.held.get_mut(name) {
                *version = None;
            }
            self.stale = true;
        }
    }

    /// The version of a resource that the proxy holds.
    pub(super) fn version(&self, name: &str) -> Option<Version> {
        self.held.get(name).copied().flatten()
    }

    /// Works out what is to be sent; `version` tells under which version.
    pub(super) fn plan(&mut self, wanted: &Resources, version: impl Fn(&str, &ConfigResource) -> Version) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        let due = wanted.iter().filter_map(|(name, resource)| {
            let version = Some(version(name, resource));
            let follows = self.wildcard || self.names.contains(name);
            let same = self.held.get(name) == Some(&version);
            (follows && (!same || self.asked.contains(name))).then(|| (Arc::clone(name), version))
        });
        let missing = self.asked.iter().filter(|name| !wanted.contains_key(*name));
        self.updates = due.chain(missing.map(|name| (Arc::clone(name), None))).collect();
        self.removals = self.held.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
    }

    /// Takes out what may be sent now, as much as fits one response; `None` when there is nothing.
    pub(super) fn take(
        &mut self,
        wanted: &Resources,
        may_update: bool,
        may_remove: bool,
    ) -> Option<(Vec<Resource>, Vec<String>)> {
        if self.unanswered.is_some() {
            return None;
        }
        let (resources, mut removed) =
            if may_update { self.take_updates(wanted) } else { Default::default() };
        if may_remove && self.updates.is_empty() {
            for name in std::mem::take(&mut self.removals) {
                self.held.remove(&name);
                removed.push(name.to_string());
                self.told.removed.push(name);
            }
        }
        let owed = may_update && std::mem::take(&mut self.owes_answer);
        (owed || !resources.is_empty() || !removed.is_empty()).then_some((resources, removed))
    }

    fn take_updates(&mut self, wanted: &Resources) -> (Vec<Resource>, Vec<String>) {
        let (mut resources, mut missing, mut size) = (Vec::new(), Vec::new(), 0);
        let mut due = self.due();
        while let Some((name, version)) = due.pop_first() {
            let (Some(resource), Some(version)) = (wanted.get(&name), version) else {
                self.asked.remove(&name);
                self.held.remove(&name);
                self.removals.remove(&name);
                self.refused.remove(&name);
                missing.push(name.to_string());
                continue;
            };
            if size > 0 && size + resource.value.len() > RESPONSE_BUDGET {
                due.insert(name, Some(version));
                break;
            }
            size += resource.value.len();
            self.asked.remove(&name);
            resources.push(Resource {
                name: name.to_string(),
                version: version.to_string(),
                resource: Some(resource.to_any()),
                ..Default::default()
            });
            self.told.sent.insert(Arc::clone(&name), version);
            self.held.insert(name, Some(version));
        }
        self.updates.append(&mut due);
        (resources, missing)
    }

    /// Takes out what may share a response: all, or the next of those that one was refused with.
    fn due(&mut self) -> BTreeMap<Arc<str>, Option<Version>> {
        while let Some(group) = self.suspects.pop_front() {
            let all = std::mem::take(&mut self.updates);
            let (due, later) = all.into_iter().partition(|(name, _)| group.contains(name));
            self.updates = later;
            let due: BTreeMap<_, _> = due;
            if !due.is_empty() {
                return due;
            }
        }
        std::mem::take(&mut self.updates)
    }

    /// A response went out.
    pub(super) fn sent(&mut self, nonce: String) {
        self.unanswered = Some(nonce);
        self.counters.sent += 1;
    }

    /// Sends what was refused again, each resource alone.
    pub(super) fn retry(&mut self) {
        let names: Vec<Arc<str>> = self.refused.keys().cloned().collect();
        self.untold(names.iter());
        self.suspects.extend(names.into_iter().map(|name| BTreeSet::from([name])));
    }

    /// What the proxy refused, and did not take since.
    pub(super) fn refused(&self) -> &BTreeMap<Arc<str>, Refused> {
        &self.refused
    }

    /// Whether the stream continues an earlier one.
    pub(super) fn was_resumed(&self) -> bool {
        self.resumed
    }

    /// Nothing is waiting to be sent or answered, removals aside.
    pub(super) fn is_quiet(&self) -> bool {
        self.unanswered.is_none() && self.updates.is_empty() && !self.stale
    }

    /// Nothing is waiting to be sent or answered.
    pub(super) fn is_settled(&self) -> bool {
        self.is_quiet() && self.removals.is_empty()
    }
}

/// Types of which a proxy asks for all by naming none.
fn is_collection(type_url: &str) -> bool {
    [CLUSTER, LISTENER].contains(&type_url)
}

/// Reads a version as it was written into a response.
fn version(text: &str) -> Option<Version> {
    u64::from_str_radix(text, 16).ok().map(Version).filter(|version| version.to_string() == text)
}
