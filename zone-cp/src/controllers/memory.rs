//! What lasts between passes: the snapshot that was followed, the index of it, and what is due later.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Key, Kind, Timestamp};
use store::{Op, Snapshot};

use super::index::Index;
use super::scope::{Scope, Scopes};
use super::{Settings, plan_scope};

/// What controllers remember between passes.
pub(crate) struct Memory {
    settings: Settings,
    /// The newest snapshot whose changes were looked at.
    seen: Arc<Snapshot>,
    index: Index,
    /// When to plan again what belongs to a resource, whatever changes until then.
    wakes: BTreeMap<Key, Timestamp>,
}

impl Memory {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, seen: Arc::default(), index: Index::default(), wakes: BTreeMap::new() }
    }

    /// Follows to a newer snapshot and answers what has to be planned again.
    pub(crate) fn advance(&mut self, snapshot: &Arc<Snapshot>) -> Scopes {
        let scopes = self.index.advance(&self.settings.plane, &self.seen, snapshot);
        self.seen = Arc::clone(snapshot);
        scopes
    }

    /// What is due.
    pub(crate) fn due(&self, now: Timestamp) -> Scopes {
        let mut scopes = Scopes::default();
        for (key, _) in self.wakes.iter().filter(|(_, at)| **at <= now) {
            if key.kind == Kind::MESH_SERVICE {
                scopes.of(&key.mesh).services.insert(Arc::clone(&key.name));
            } else {
                scopes.add_everything(&self.seen, &key.mesh);
            }
        }
        scopes
    }

    /// When something is due next.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.wakes.values().min().copied()
    }

    /// The writes that bring a part of a mesh to what follows from the snapshot.
    pub(crate) fn plan(&mut self, mesh: &str, scope: &Scope, now: Timestamp) -> Vec<Op> {
        for name in &scope.services {
            self.wakes.remove(&Key::new(Kind::MESH_SERVICE, mesh, name));
        }
        if scope.identities {
            self.wakes.retain(|key, _| *key.mesh != *mesh || key.kind == Kind::MESH_SERVICE);
        }
        let plan = plan_scope(&self.seen, &self.index, mesh, scope, &self.settings, now);
        let Some(plan) = plan else { return Vec::new() };
        let ops = plan.ops();
        let wakes = plan.into_wakes();
        self.wakes.extend(wakes);
        ops
    }

    #[cfg(test)]
    pub(crate) fn wakes(&self) -> &BTreeMap<Key, Timestamp> {
        &self.wakes
    }
}
