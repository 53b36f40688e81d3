//! One delta stream, serving side, without I/O: requests and newer views go in, responses come out.
//!
//! At most one response of a type is unanswered. What changes meanwhile is remembered by name and by the version
//! the peer has, so that a slow peer skips intermediate states. A stream that is in step remembers nothing but
//! the view it is in step with, which all streams share.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::ordmap::DiffItem;
use kds_proto::core::ControlPlane;
use kds_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource as DiscoveryResource};
use kds_proto::envelope::Envelope;
use model::Kind;

use crate::peer::{FEATURE_PAGED, Peer};
use crate::view::{View, WireMap, WireResource};

/// Resources in one response, bytes, where the peer takes a first answer in parts: all zones that connect at once
/// have one such response in memory, raw and compressed. At 100 ms to the other side it still allows 5 MiB/s.
const RESPONSE_BUDGET: usize = 512 * 1024;

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
    /// The view's map as of the last look. INVARIANT: of names that are not dirty, the peer holds exactly those
    /// that are visible to it, in the versions of this map.
    seen: WireMap,
    /// Names to look at again, each with the version that the peer holds.
    dirty: BTreeMap<Arc<str>, Option<Arc<str>>>,
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
            subscription.dirty =
                held.map(|(name, version)| (name.as_str().into(), Some(version.as_str().into()))).collect();
            subscription.fresh = true;
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
        if self.scope.changed(&self.view, &view) {
            for (kind, subscription) in &mut self.subscriptions {
                subscription.doubt(|wire| self.scope.visible(&self.view, *kind, wire));
            }
        }
        // What was visible before is asked of the older view.
        for (kind, subscription) in &mut self.subscriptions {
            subscription.follow(view.kind(*kind), |wire| self.scope.visible(&self.view, *kind, wire));
        }
        self.view = view;
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
        // Of a subscription that is new, nothing was seen yet.
        subscription.follow(self.view.kind(kind), |wire| self.scope.visible(&self.view, kind, wire));
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
    /// Moves on to a newer map; `visible` is asked about the older one.
    fn follow(&mut self, current: Option<&WireMap>, visible: impl Fn(&WireResource) -> bool) {
        let empty = WireMap::new();
        let current = current.unwrap_or(&empty);
        for item in self.seen.diff(current) {
            let (name, older) = match item {
                DiffItem::Add(name, _) => (name, None),
                DiffItem::Remove(name, older) => (name, Some(older)),
                DiffItem::Update { old: (_, older), new: (name, _) } => (name, Some(older)),
            };
            if !self.dirty.contains_key(name) {
                let held = older.filter(|wire| visible(wire)).map(|wire| Arc::clone(&wire.version));
                self.dirty.insert(Arc::clone(name), held);
            }
        }
        self.seen = current.clone();
    }

    /// Every name is to be looked at again; `visible` tells what the peer could see until now.
    fn doubt(&mut self, visible: impl Fn(&WireResource) -> bool) {
        for (name, wire) in &self.seen {
            if !self.dirty.contains_key(name) {
                let held = visible(wire).then(|| Arc::clone(&wire.version));
                self.dirty.insert(Arc::clone(name), held);
            }
        }
    }

    /// Takes changed and removed resources out of the dirty names, as many as fit.
    fn collect(
        &mut self,
        paged: bool,
        visible: impl Fn(&WireResource) -> bool,
    ) -> (Vec<DiscoveryResource>, Vec<String>) {
        let (mut resources, mut removed, mut size) = (Vec::new(), Vec::new(), 0);
        while let Some((name, held)) = self.dirty.pop_first() {
            match self.seen.get(&name).filter(|wire| visible(wire)) {
                Some(wire) if held.as_ref() == Some(&wire.version) => {}
                Some(wire) => {
                    if paged && size > 0 && size + wire.bytes.len() > RESPONSE_BUDGET {
                        self.dirty.insert(name, held);
                        break;
                    }
                    size += wire.bytes.len();
                    resources.push(DiscoveryResource {
                        name: wire.name.to_string(),
                        version: wire.version.to_string(),
                        resource: Some(Envelope::any(wire.bytes.to_vec())),
                        ..Default::default()
                    });
                }
                None if held.is_some() => removed.push(name.to_string()),
                None => {}
            }
        }
        (resources, removed)
    }
}
