//! What one stream asked for of one type, what it holds, and what is still to be sent.

use std::collections::{BTreeMap, BTreeSet};

use envoy_api::envoy::service::discovery::v3::{DeltaDiscoveryRequest, Resource};

use super::{CLUSTER, Counters, LISTENER, MAX_NAMES, RESPONSE_BUDGET, SessionError, WILDCARD, Wanted};

/// State of one type on one stream.
#[derive(Default)]
pub(super) struct Subscription {
    wildcard: bool,
    /// Names asked for one by one.
    names: BTreeSet<String>,
    /// Names and versions that the proxy holds once it has answered.
    held: BTreeMap<String, String>,
    /// Names to send even if the proxy holds the version.
    again: BTreeSet<String>,
    /// New, changed, or asked for and not there: to be told as soon as possible.
    updates: BTreeSet<String>,
    /// Held and not wanted any more.
    removals: BTreeSet<String>,
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
    /// Why the newest response was refused.
    refusal: Option<String>,
    pub(super) counters: Counters,
}

impl Subscription {
    pub(super) fn request(&mut self, request: &DeltaDiscoveryRequest) -> Result<(), SessionError> {
        self.answer(request);
        if !self.opened {
            self.opened = true;
            self.resumed = !request.initial_resource_versions.is_empty();
            self.held.clone_from(&request.initial_resource_versions);
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

    /// A refusal says that something of a response was not applied, not that nothing was: what was sent counts
    /// as held, and goes out again when its content changes.
    fn answer(&mut self, request: &DeltaDiscoveryRequest) {
        if self.unanswered.is_none() || self.unanswered.as_ref() != Some(&request.response_nonce) {
            return;
        }
        self.unanswered = None;
        match &request.error_detail {
            None => {
                self.counters.acknowledged += 1;
                self.refusal = None;
            }
            Some(error) => {
                self.counters.rejected += 1;
                self.refusal = Some(error.message.clone());
            }
        }
    }

    /// Names that are asked for anew are sent even if they are held: the proxy may have dropped them.
    fn subscribe(&mut self, request: &DeltaDiscoveryRequest, anew: bool) {
        for name in &request.resource_names_unsubscribe {
            self.again.remove(name);
            if name == WILDCARD {
                self.wildcard = false;
                let names = &self.names;
                self.held.retain(|held, _| names.contains(held));
            } else if self.names.remove(name) && !self.wildcard {
                self.held.remove(name);
            }
        }
        for name in &request.resource_names_subscribe {
            if name == WILDCARD {
                self.owes_answer |= !self.wildcard && !self.resumed;
                self.wildcard = true;
                continue;
            }
            if anew || !self.held.contains_key(name) {
                self.again.insert(name.clone());
            }
            self.names.insert(name.clone());
        }
    }

    /// The configuration changed.
    pub(super) fn stale(&mut self) {
        self.stale = true;
    }

    /// Has a resource sent though its version is held.
    pub(super) fn again(&mut self, name: &str) {
        if self.held.contains_key(name) {
            self.again.insert(name.to_owned());
            self.stale = true;
        }
    }

    /// Works out what is to be sent.
    pub(super) fn plan(&mut self, type_url: &str, wanted: &dyn Wanted) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        self.updates.clear();
        let mut gone: BTreeSet<&str> = self.held.keys().map(String::as_str).collect();
        for (name, version) in wanted.versions(type_url) {
            gone.remove(name);
            let asked = self.wildcard || self.names.contains(name);
            let newer = self.held.get(name).is_none_or(|held| held != version);
            if asked && (newer || self.again.contains(name)) {
                self.updates.insert(name.to_owned());
            }
        }
        self.removals = gone.into_iter().map(str::to_owned).collect();
        let missing = self.again.iter().filter(|name| wanted.resource(type_url, name).is_none());
        self.updates.extend(missing.cloned());
    }

    /// Takes out what may be sent now, as much as fits one response; `None` when there is nothing.
    pub(super) fn take(
        &mut self,
        type_url: &str,
        wanted: &dyn Wanted,
        may_update: bool,
        may_remove: bool,
    ) -> Option<(Vec<Resource>, Vec<String>)> {
        // Endpoints may have become stale by the clusters that went out just before.
        self.plan(type_url, wanted);
        if self.unanswered.is_some() {
            return None;
        }
        let (mut resources, mut removed) =
            if may_update { self.take_updates(type_url, wanted) } else { Default::default() };
        if may_remove && self.updates.is_empty() {
            for name in std::mem::take(&mut self.removals) {
                self.held.remove(&name);
                removed.push(name);
            }
        }
        let owed = may_update && std::mem::take(&mut self.owes_answer);
        resources.shrink_to_fit();
        (owed || !resources.is_empty() || !removed.is_empty()).then_some((resources, removed))
    }

    fn take_updates(&mut self, type_url: &str, wanted: &dyn Wanted) -> (Vec<Resource>, Vec<String>) {
        let (mut resources, mut missing, mut size) = (Vec::new(), Vec::new(), 0);
        while let Some(name) = self.updates.pop_first() {
            let Some((version, body)) = wanted.resource(type_url, &name) else {
                self.again.remove(&name);
                self.held.remove(&name);
                self.removals.remove(&name);
                missing.push(name);
                continue;
            };
            if size > 0 && size + body.value.len() > RESPONSE_BUDGET {
                self.updates.insert(name);
                break;
            }
            size += body.value.len();
            self.again.remove(&name);
            self.held.insert(name.clone(), version.to_owned());
            let version = version.to_owned();
            resources.push(Resource { name, version, resource: Some(body), ..Default::default() });
        }
        (resources, missing)
    }

    /// A response went out.
    pub(super) fn sent(&mut self, nonce: String) {
        self.unanswered = Some(nonce);
        self.counters.sent += 1;
    }

    /// Why the newest response was refused, if it was.
    pub(super) fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
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
