//! One delta stream, serving side, without I/O: requests and newer views go in, responses come out.
//!
//! At most one response of a type is unanswered. What changes meanwhile is remembered by name only, so that a
//! slow peer skips intermediate states and memory stays bounded by what it has acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::ordmap::DiffItem;
use kds_proto::core::ControlPlane;
use kds_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource as DiscoveryResource};
use kds_proto::envelope::Envelope;
use model::Kind;

use crate::MAX_MESSAGE;
use crate::peer::{FEATURE_PAGED, Peer};
use crate::view::{View, WireMap, WireResource};

/// Room for names, versions and framing in a response that is filled with resources.
const RESPONSE_BUDGET: usize = MAX_MESSAGE / 2;

/// What one peer may see of a view.
pub trait Scope: Send {
    /// Whether the peer is sent a resource.
    fn visible(&self, view: &View, kind: Kind, resource: &WireResource) -> bool;

    /// Whether the answer of [`Scope::visible`] may differ between two views for unchanged resources.
    fn changed(&self, older: &View, newer: &View) -> bool;
}

/// What was sent of a type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Responses sent.
    pub sent: u64,
    /// Responses accepted.
    pub acknowledged: u64,
    /// Responses refused.
    pub rejected: u64,
}

#[derive(Default)]
struct Subscription {
    /// Wire names and versions as the peer holds them once it has answered.
    held: BTreeMap<Arc<str>, Arc<str>>,
    /// The view's map as of the last look.
    seen: WireMap,
    /// Names to look at again.
    dirty: BTreeSet<Arc<str>>,
    /// Nonce of the response that is not answered yet.
    unanswered: Option<String>,
    /// Nothing was sent yet: the first answer goes out even if it is empty.
    fresh: bool,
}

/// One serving stream.
pub struct ServerSession {
    identifier: String,
    view: Arc<View>,
    scope: Box<dyn Scope>,
    subscriptions: BTreeMap<Kind, Subscription>,
    counters: BTreeMap<Kind, Counters>,
    peer: Option<Peer>,
    nonce: u64,
}

impl ServerSession {
    /// A stream to a peer that sees `scope` of `view`; `identifier` names this control plane in responses.
    pub fn new(identifier: &str, view: Arc<View>, scope: Box<dyn Scope>) -> Self {
        Self {
            identifier: identifier.into(),
            view,
            scope,
            subscriptions: BTreeMap::new(),
            counters: BTreeMap::new(),
            peer: None,
            nonce: 0,
        }
    }

    /// What the peer said of itself in its first request.
    pub fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// What was sent, by kind.
    pub fn counters(&self) -> &BTreeMap<Kind, Counters> {
        &self.counters
    }

    /// Takes a request: a subscription, an acknowledgement or a refusal.
    pub fn request(&mut self, request: DeltaDiscoveryRequest) -> Vec<DeltaDiscoveryResponse> {
        if self.peer.is_none() {
            self.peer = request.node.as_ref().map(Peer::of);
        }
        let Some(kind) = Kind::by_name(&request.type_url) else {
            return self.unknown_type(&request);
        };
        let first = !self.subscriptions.contains_key(&kind);
        let subscription = self.subscriptions.entry(kind).or_default();
        if first {
            let held = request.initial_resource_versions.iter();
            subscription.held =
                held.map(|(name, version)| (name.as_str().into(), version.as_str().into())).collect();
            subscription.fresh = true;
            subscription.dirty = subscription.held.keys().cloned().collect();
        } else if subscription.unanswered.as_deref() == Some(&request.response_nonce) {
            subscription.unanswered = None;
            let counters = self.counters.entry(kind).or_default();
            match &request.error_detail {
                None => counters.acknowledged += 1,
                Some(error) => {
                    counters.rejected += 1;
                    tracing::warn!(%kind, reason = %error.message, "the peer refused a part of a response");
                }
            }
        }
        self.pump(kind)
    }

    /// Takes a newer view.
    pub fn advance(&mut self, view: Arc<View>) -> Vec<DeltaDiscoveryResponse> {
        let rescoped = self.scope.changed(&self.view, &view);
        self.view = view;
        if rescoped {
            for (kind, subscription) in &mut self.subscriptions {
                let names = self.view.kind(*kind).into_iter().flat_map(|map| map.keys().cloned());
                subscription.dirty.extend(names);
            }
        }
        let kinds: Vec<Kind> = self.subscriptions.keys().copied().collect();
        kinds.into_iter().flat_map(|kind| self.pump(kind)).collect()
    }

    /// A type we do not have: an empty answer once, as the peer's own engine gives, unless it would make the
    /// peer drop what only it knows. Silence preserves the peer's copies.
    fn unknown_type(&self, request: &DeltaDiscoveryRequest) -> Vec<DeltaDiscoveryResponse> {
        tracing::debug!(r#type = %request.type_url, "the peer asks for a type that is not known here");
        Vec::new()
    }

    /// The revision that a response shows, for peers that are ours; others would not know what it means.
    fn revision(&self) -> String {
        let ours = self.peer.as_ref().is_some_and(|peer| peer.has(FEATURE_PAGED));
        if ours { self.view.snapshot().revision().to_string() } else { String::new() }
    }

    fn pump(&mut self, kind: Kind) -> Vec<DeltaDiscoveryResponse> {
        let Some(subscription) = self.subscriptions.get_mut(&kind) else { return Vec::new() };
        let empty = WireMap::new();
        let current = self.view.kind(kind).unwrap_or(&empty);
        for item in subscription.seen.diff(current) {
            let name = match item {
                DiffItem::Add(name, _) | DiffItem::Remove(name, _) => name,
                DiffItem::Update { new: (name, _), .. } => name,
            };
            subscription.dirty.insert(Arc::clone(name));
        }
        subscription.seen = current.clone();
        if subscription.unanswered.is_some() {
            return Vec::new();
        }
        let paged = !subscription.fresh || self.peer.as_ref().is_some_and(|peer| peer.has(FEATURE_PAGED));
        let (resources, removed) =
            subscription.collect(paged, |wire| self.scope.visible(&self.view, kind, wire));
        if resources.is_empty() && removed.is_empty() && !subscription.fresh {
            return Vec::new();
        }
        subscription.fresh = false;
        self.nonce += 1;
        let nonce = self.nonce.to_string();
        subscription.unanswered = Some(nonce.clone());
        self.counters.entry(kind).or_default().sent += 1;
        vec![DeltaDiscoveryResponse {
            system_version_info: self.revision(),
            type_url: kind.info().name.into(),
            nonce,
            resources,
            removed_resources: removed,
            control_plane: Some(ControlPlane { identifier: self.identifier.clone() }),
            ..Default::default()
        }]
    }
}

impl Subscription {
    /// Takes changed and removed resources out of the dirty names, as many as fit.
    fn collect(
        &mut self,
        paged: bool,
        visible: impl Fn(&WireResource) -> bool,
    ) -> (Vec<DiscoveryResource>, Vec<String>) {
        let (mut resources, mut removed, mut size) = (Vec::new(), Vec::new(), 0);
        while let Some(name) = self.dirty.pop_first() {
            let wire = self.seen.get(&name).filter(|wire| visible(wire));
            match wire {
                Some(wire) if self.held.get(&name) == Some(&wire.version) => {}
                Some(wire) => {
                    if paged && size > 0 && size + wire.bytes.len() > RESPONSE_BUDGET {
                        self.dirty.insert(name);
                        break;
                    }
                    size += wire.bytes.len();
                    self.held.insert(name, Arc::clone(&wire.version));
                    resources.push(DiscoveryResource {
                        name: wire.name.to_string(),
                        version: wire.version.to_string(),
                        resource: Some(Envelope::any(wire.bytes.to_vec())),
                        ..Default::default()
                    });
                }
                None => {
                    if self.held.remove(&name).is_some() {
                        removed.push(name.to_string());
                    }
                }
            }
        }
        (resources, removed)
    }
}
