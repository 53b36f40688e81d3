//! What the proxies of a mesh share, made once per snapshot that concerns the mesh. Streams wait for the view of
//! their mesh; a change elsewhere does not wake them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::Kind;
use proxy_config::MeshView;
use store::Snapshot;
use store::index::SnapshotReceiver;
use tokio::sync::watch;

/// Changes within this time are worked out together: about as long as a burst of commits takes.
const DEBOUNCE: Duration = Duration::from_millis(5);

/// A mesh at a revision.
pub(crate) struct MeshState {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) view: MeshView,
}

impl MeshState {
    fn new(snapshot: &Arc<Snapshot>, mesh: &str, zone: &str) -> Arc<Self> {
        let view = MeshView::new(snapshot, mesh, zone);
        Arc::new(Self { snapshot: Arc::clone(snapshot), view })
    }
}

/// The views that streams wait for.
pub(crate) struct Views {
    zone: String,
    state: Mutex<State>,
}

struct State {
    /// The snapshot that all views show, as far as it concerns them.
    seen: Arc<Snapshot>,
    meshes: BTreeMap<String, watch::Sender<Arc<MeshState>>>,
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
        Self { zone: zone.into(), state: Mutex::new(State { seen: snapshot, meshes: BTreeMap::new() }) }
    }

    /// The view of a mesh, now and as it changes.
    pub(crate) fn subscribe(&self, mesh: &str) -> watch::Receiver<Arc<MeshState>> {
        let mut state = self.lock();
        if let Some(sender) = state.meshes.get(mesh) {
            return sender.subscribe();
        }
        let (sender, receiver) = watch::channel(MeshState::new(&state.seen, mesh, &self.zone));
        state.meshes.insert(mesh.to_owned(), sender);
        receiver
    }

    /// Follows the snapshots until they end.
    pub(crate) async fn follow(&self, mut snapshots: SnapshotReceiver) {
        loop {
            let newest = Arc::clone(&snapshots.borrow_and_update());
            self.advance(newest);
            if snapshots.changed().await.is_err() {
                return;
            }
            tokio::time::sleep(DEBOUNCE).await;
        }
    }

    /// Takes a newer snapshot and makes the views of meshes that it changes and that somebody waits for.
    fn advance(&self, newest: Arc<Snapshot>) {
        let mut state = self.lock();
        // Whoever subscribes next gets a fresh one.
        state.meshes.retain(|_, sender| sender.receiver_count() > 0);
        let touched = touched(&state.seen, &newest);
        state.seen = newest;
        for (mesh, sender) in &state.meshes {
            let is_touched = match &touched {
                Touched::All => true,
                Touched::Some(meshes) => meshes.contains(mesh),
            };
            if is_touched {
                sender.send_replace(MeshState::new(&state.seen, mesh, &self.zone));
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
    use model::{Key, Resource};

    use super::*;

    fn put(snapshot: &Arc<Snapshot>, kind: Kind, mesh: &str, name: &str) -> Arc<Snapshot> {
        let resource = Resource::builder(Key::new(kind, mesh, name)).build();
        Arc::new(Snapshot::clone(snapshot).with(resource))
    }

    #[test]
    fn a_change_wakes_its_mesh_only() {
        let empty = Arc::new(Snapshot::default());
        let views = Views::new("east", Arc::clone(&empty));
        let (mut a, mut b) = (views.subscribe("a"), views.subscribe("b"));
        let mut woken = || {
            let woken = (a.has_changed().unwrap(), b.has_changed().unwrap());
            a.mark_unchanged();
            b.mark_unchanged();
            woken
        };
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
    fn a_mesh_that_nobody_waits_for_is_forgotten() {
        let empty = Arc::new(Snapshot::default());
        let views = Views::new("east", Arc::clone(&empty));
        drop(views.subscribe("a"));
        let next = put(&empty, Kind::DATAPLANE, "a", "web");
        views.advance(Arc::clone(&next));
        assert!(views.lock().meshes.is_empty());
        assert_eq!(views.subscribe("a").borrow().snapshot.revision(), next.revision());
    }
}
