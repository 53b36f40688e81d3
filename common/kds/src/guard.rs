//! The guard against mass removal: when a peer removes most of what it has of a kind at once, its removals wait
//! until somebody confirms them. What is added and changed goes on. A peer that lost its store, or was started with
//! another one, looks exactly like a peer whose operator deleted everything; only a person can tell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::kind::Flow;
use model::{Key, Kind, Resource, Timestamp, labels};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use store::{Store, StoreError};

use crate::incoming::{Role, delete};

/// Removals of a kind within this time count as one.
const WINDOW: Duration = Duration::from_secs(60);
/// Resources that are read at a time to be counted.
const PAGE: usize = 1000;

/// How much a peer may remove of a kind within a minute.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// Share of what the peer has, 0 to 1; with 1 nothing ever waits.
    pub share: f64,
    /// This many may always be removed.
    pub count: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { share: 0.5, count: 20 }
    }
}

/// Removals of one kind that wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Who removed them.
    pub peer: String,
    /// What would be removed.
    pub keys: BTreeSet<Key>,
}

/// The guard of a control plane. Clones share it.
#[derive(Clone, Default)]
pub struct Guard(Arc<Inner>);

#[derive(Default)]
struct Inner {
    limits: Limits,
    state: Mutex<BTreeMap<String, Peer>>,
    withheld: Family<PeerLabels, Gauge>,
}

#[derive(Default)]
struct Peer {
    /// Removals that were let through, by kind, since when.
    windows: BTreeMap<Kind, (Timestamp, usize)>,
    waiting: Option<(Role, BTreeSet<Key>)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PeerLabels {
    peer: String,
}

impl Guard {
    /// A guard that shows in a registry what waits.
    pub fn new(limits: Limits, registry: &mut Registry) -> Self {
        let withheld = Family::default();
        let about = "Removals by a peer that wait for a confirmation";
        registry.register("kds_withheld_removals", about, Family::clone(&withheld));
        Self(Arc::new(Inner { limits, withheld, ..Inner::default() }))
    }

    /// What waits, by peer.
    pub fn waiting(&self) -> Vec<Waiting> {
        let state = self.lock();
        let waiting = state.iter().filter_map(|(peer, held)| Some((peer, held.waiting.as_ref()?)));
        waiting.map(|(peer, (_, keys))| Waiting { peer: peer.clone(), keys: keys.clone() }).collect()
    }

    /// Removes what waits of a peer; answers how many resources are gone.
    ///
    /// # Errors
    /// The store's; what was not removed waits on.
    pub async fn confirm(&self, peer: &str, store: &Store) -> Result<usize, StoreError> {
        let waiting = self.lock().get(peer).and_then(|held| held.waiting.clone());
        let Some((role, keys)) = waiting else { return Ok(0) };
        let removed = delete(store, &role, keys.iter()).await?;
        tracing::info!(peer, removed, "removals that waited were confirmed");
        self.forget(peer, &keys);
        Ok(removed)
    }

    /// A new stream of a peer begins: it will say again what it has removed.
    pub(crate) fn restart(&self, role: &Role) {
        let peer = role.peer();
        let keys = self.lock().get(peer).and_then(|held| held.waiting.as_ref().map(|(_, keys)| keys.clone()));
        self.forget(peer, &keys.unwrap_or_default());
    }

    /// These are there again.
    pub(crate) fn returned(&self, role: &Role, keys: &BTreeSet<Key>) {
        self.forget(role.peer(), keys);
    }

    fn forget(&self, peer: &str, keys: &BTreeSet<Key>) {
        let mut state = self.lock();
        let Some(held) = state.get_mut(peer) else { return };
        let Some((_, waiting)) = &mut held.waiting else { return };
        waiting.retain(|key| !keys.contains(key));
        self.show(peer, waiting.len());
        if waiting.is_empty() {
            held.waiting = None;
        }
    }

    /// Whether removals of one kind may be carried out now. Otherwise they wait, and the reason is answered.
    pub(crate) async fn admit(
        &self,
        (store, role): (&Store, &Role),
        kind: Kind,
        keys: &BTreeSet<Key>,
        now: Timestamp,
    ) -> Result<Result<(), String>, StoreError> {
        let Limits { share, count } = self.0.limits;
        let before = {
            let mut state = self.lock();
            let window =
                state.entry(role.peer().to_owned()).or_default().windows.entry(kind).or_insert((now, 0));
            if window.0.plus(WINDOW) < now {
                *window = (now, 0);
            }
            window.1
        };
        let removed = before + keys.len();
        // Counting reads all of the kind: it is done for the rare large removals only.
        if removed > count && share < 1.0 && is_guarded(kind) {
            let theirs = before + count_of(store, role, kind).await?;
            #[expect(
                clippy::cast_precision_loss,
                reason = "a share of more than 2^52 resources may be off by one"
            )]
            let excessive = removed as f64 > share * theirs as f64;
            if excessive {
                return Ok(Err(self.withhold(role, kind, keys, theirs)));
            }
        }
        if let Some(window) = self.lock().entry(role.peer().to_owned()).or_default().windows.get_mut(&kind) {
            window.1 += keys.len();
        }
        Ok(Ok(()))
    }

    fn withhold(&self, role: &Role, kind: Kind, keys: &BTreeSet<Key>, of: usize) -> String {
        let peer = role.peer();
        let mut state = self.lock();
        let held = state.entry(peer.to_owned()).or_default();
        let (_, waiting) = held.waiting.get_or_insert_with(|| (role.clone(), BTreeSet::new()));
        waiting.extend(keys.iter().cloned());
        self.show(peer, waiting.len());
        tracing::error!(
            peer, %kind, removals = keys.len(), of,
            "a mass removal waits: confirm it with POST /withheld-removals/{peer}/confirm"
        );
        format!("user error: the removal of {} of {of} {kind} waits for a confirmation", keys.len())
    }

    fn show(&self, peer: &str, waiting: usize) {
        let gauge = self.0.withheld.get_or_create(&PeerLabels { peer: peer.into() }).clone();
        gauge.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Peer>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn count_of(store: &Store, role: &Role, kind: Kind) -> Result<usize, StoreError> {
    let (mut count, mut start) = (0, None);
    loop {
        let page = store.list(kind, None, start.as_ref(), PAGE).await?;
        count += page.items.iter().filter(|stored| is_judged(role, &stored.resource)).count();
        match page.next {
            Some(next) => start = Some(next),
            None => return Ok(count),
        }
    }
}

/// Whether anything depends on resources of a kind: observations may go at any rate.
fn is_guarded(kind: Kind) -> bool {
    !kind.name.ends_with("Insight")
}

/// Whether a resource counts. What other zones have and the global passes on does not: taking a zone out is an
/// operator's act at the global, and the global has guarded it against the zone's own loss.
pub(crate) fn is_judged(role: &Role, resource: &Resource) -> bool {
    let foreign = *role == Role::Zone
        && resource.key().kind.flow.has(Flow::PROVIDED_BY_ZONE)
        && resource.labels().contains_key(labels::ZONE);
    !foreign && role.is_from_peer(resource.key().kind, resource.labels())
}
