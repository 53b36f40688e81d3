//! What the proxies of a mesh share, made once per snapshot that concerns the mesh. Streams wait for the view of
//! their mesh; a change of nothing that they rely on does not wake them.

mod interest;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use model::Kind;
use proxy_config::MeshView;
use store::Snapshot;
use store::index::SnapshotReceiver;
use tokio::sync::{Notify, watch};

use interest::Interest;
pub(crate) use interest::{Relied, Subscription};
use names::{Addresses, Names};

/// Changes within this time are worked out together: about as long as a burst of commits takes.
const DEBOUNCE: Duration = Duration::from_millis(5);

/// A mesh at a revision.
pub(crate) struct MeshState {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) view: MeshView,
}

impl MeshState {
    fn new(snapshot: &Arc<Snapshot>, mesh: &str, zone: &str, addresses: &Addresses) -> Arc<Self> {
        let view = MeshView::with_names(snapshot, mesh, zone, addresses);
        Arc::new(Self { snapshot: Arc::clone(snapshot), view })
    }

    /// The mesh at a newer snapshot.
    fn at(&self, newest: &Arc<Snapshot>) -> Arc<Self> {
        let view = self.view.advance(&self.snapshot, newest);
        Arc::new(Self { snapshot: Arc::clone(newest), view })
    }
}

/// The views that streams wait for.
pub(crate) struct Views {
    zone: String,
    state: Mutex<State>,
    /// A view was made that nobody had asked for before.
    fresh: Notify,
}

struct State {
    /// The snapshot that all views show, as far as it concerns them.
    seen: Arc<Snapshot>,
    meshes: BTreeMap<String, Published>,
    /// Of host names that views use.
    addresses: Addresses,
}

/// The view of a mesh and those who wait for it.
struct Published {
    states: watch::Sender<Arc<MeshState>>,
    interested: Vec<Weak<Interest>>,
}

impl Published {
    fn subscribe(&mut self) -> Subscription {
        let subscription = Subscription::new(self.states.subscribe());
        self.interested.push(Arc::downgrade(&subscription.0));
        subscription
    }

    fn publish(&mut self, state: Arc<MeshState>) {
        self.states.send_replace(state);
        self.interested.retain(|interest| interest.upgrade().inspect(|interest| interest.look()).is_some());
    }

    fn host_names(&self) -> BTreeSet<String> {
        self.states.borrow().view.host_names()
    }
}

/// Which meshes a change touches.
#[derive(Debug, PartialEq, Eq)]
enum Touched {
    All,
    Some(BTreeSet<String>),
}

impl Views {
    /// Views of a zone, none of which is made before somebody waits for it.
    pub(crate) fn new(zone: &str, snapshot: Arc<Snapshot>) -> Self {
        let state = State { seen: snapshot, meshes: BTreeMap::new(), addresses: Addresses::new() };
        Self { zone: zone.into(), state: Mutex::new(state), fresh: Notify::new() }
    }

    /// The view of a mesh, now and as it changes.
    pub(crate) fn subscribe(&self, mesh: &str) -> Subscription {
        let mut state = self.lock();
        if let Some(published) = state.meshes.get_mut(mesh) {
            return published.subscribe();
        }
        let made = MeshState::new(&state.seen, mesh, &self.zone, &state.addresses);
        let mut published = Published { states: watch::Sender::new(made), interested: Vec::new() };
        let subscription = published.subscribe();
        state.meshes.insert(mesh.to_owned(), published);
        self.fresh.notify_one();
        subscription
    }

    /// Follows the snapshots, and the addresses of names in them, until the snapshots end.
    pub(crate) async fn follow(&self, mut snapshots: SnapshotReceiver) {
        let mut names = Names::default();
        loop {
            let newest = Arc::clone(&snapshots.borrow_and_update());
            self.advance(newest);
            tokio::select! {
                changed = snapshots.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    tokio::time::sleep(DEBOUNCE).await;
                }
                found = names.next(self.host_names()) => self.learn(found),
                () = self.fresh.notified() => {}
            }
        }
    }

    /// Host names that views use.
    fn host_names(&self) -> BTreeSet<String> {
        let state = self.lock();
        state.meshes.values().flat_map(Published::host_names).collect()
    }

    /// Takes addresses and makes the views anew that use one which is another now.
    fn learn(&self, found: Addresses) {
        let state = &mut *self.lock();
        let news: Addresses =
            found.into_iter().filter(|(name, address)| state.addresses.get(name) != Some(address)).collect();
        if news.is_empty() {
            return;
        }
        tracing::info!(addresses = ?news, "hosts have other addresses");
        state.addresses.extend(news.clone());
        for (mesh, published) in &mut state.meshes {
            if published.host_names().iter().any(|name| news.contains_key(name)) {
                published.publish(MeshState::new(&state.seen, mesh, &self.zone, &state.addresses));
            }
        }
    }

    /// Takes a newer snapshot and makes the views of meshes that it changes and that somebody waits for.
    fn advance(&self, newest: Arc<Snapshot>) {
        let state = &mut *self.lock();
        // Whoever subscribes next gets a fresh one.
        state.meshes.retain(|_, published| published.states.receiver_count() > 0);
        let touched = touched(&state.seen, &newest);
        state.seen = newest;
        for (mesh, published) in &mut state.meshes {
            let is_touched = match &touched {
                Touched::All => true,
                Touched::Some(meshes) => meshes.contains(mesh),
            };
            if is_touched {
                let next = published.states.borrow().at(&state.seen);
                published.publish(next);
            }
        }
    }

    /// A panic while the lock is held leaves an older view: go on with it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn touched(older: &Snapshot, newer: &Snapshot) -> Touched {
    let mut meshes = BTreeSet::new();
    for kind in Kind::all().filter(|kind| proxy_config::concerns(*kind) && newer.differs(older, *kind)) {
        for key in newer.changed_keys(older, kind) {
            if kind == Kind::MESH {
                meshes.insert(key.name.to_string());
            } else if kind.is_mesh_scoped() {
                meshes.insert(key.mesh.to_string());
            } else {
                return Touched::All;
            }
        }
    }
    Touched::Some(meshes)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use model::{Key, Resource};

    use super::*;

    fn is_woken(subscription: &Subscription) -> bool {
        subscription.changed().now_or_never().is_some()
    }

    fn put(snapshot: &Arc<Snapshot>, kind: Kind, mesh: &str, name: &str) -> Arc<Snapshot> {
        let resource = Resource::builder(Key::new(kind, mesh, name)).build();
        Arc::new(Snapshot::clone(snapshot).with(resource))
    }

    #[test]
    fn a_change_wakes_its_mesh_only() {
        let empty = Arc::new(Snapshot::default());
        let views = Views::new("east", Arc::clone(&empty));
        let (a, b) = (views.subscribe("a"), views.subscribe("b"));
        let woken = || (is_woken(&a), is_woken(&b));
        let next = put(&empty, Kind::DATAPLANE, "a", "web");
        views.advance(Arc::clone(&next));
        assert_eq!(woken(), (true, false));
        let next = put(&next, Kind::DATAPLANE_INSIGHT, "a", "web");
        views.advance(Arc::clone(&next));
        assert_eq!(woken(), (false, false), "what is observed changes no configuration");
        let next = put(&next, Kind::MESH, "", "b");
        views.advance(Arc::clone(&next));
        assert_eq!(woken(), (false, true));
        views.advance(next);
        assert_eq!(woken(), (false, false));
    }

    #[test]
    fn an_address_wakes_the_meshes_that_use_its_name() {
        let named = |mesh: &str| {
            let key = Key::new(Kind::DATAPLANE, mesh, "web");
            let mut builder = Resource::builder(key);
            let document =
                serde_json::json!({"networking": {"address": "web.example", "inbound": [{"port": 80}]}});
            builder.spec = model::Payload::from_json(Kind::DATAPLANE.format, &document).unwrap();
            builder.build()
        };
        let views = Views::new("east", Arc::new(Snapshot::default().with(named("a"))));
        let (a, b) = (views.subscribe("a"), views.subscribe("b"));
        assert_eq!(views.host_names(), BTreeSet::from(["web.example".to_owned()]));
        let found = |address: &str| Addresses::from([("web.example".to_owned(), address.parse().unwrap())]);
        views.learn(found("10.0.0.1"));
        assert!(is_woken(&a) && !is_woken(&b));
        views.learn(found("10.0.0.1"));
        views.learn(Addresses::new());
        assert!(!is_woken(&a));
    }

    #[test]
    fn a_mesh_that_nobody_waits_for_is_forgotten() {
        let empty = Arc::new(Snapshot::default());
        let views = Views::new("east", Arc::clone(&empty));
        drop(views.subscribe("a"));
        let next = put(&empty, Kind::DATAPLANE, "a", "web");
        views.advance(Arc::clone(&next));
        assert!(views.lock().meshes.is_empty());
        assert_eq!(views.subscribe("a").newest().snapshot.revision(), next.revision());
    }
}
