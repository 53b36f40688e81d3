//! An immutable view of all resources at a revision. Copies share structure: a change costs what it touches.

use std::sync::{Arc, LazyLock};

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use model::{Key, Kind, Resource};

use crate::contract::{Change, Event, Revision, Stored};

/// Resources of one kind, ordered by mesh and name.
type Resources = OrdMap<Key, Stored>;

static EMPTY: LazyLock<Resources> = LazyLock::new(Resources::new);

/// All resources at a revision.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    revision: Revision,
    kinds: OrdMap<Kind, Resources>,
}

impl Snapshot {
    /// The revision it shows.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// One resource with its revision.
    pub fn get(&self, key: &Key) -> Option<&Stored> {
        self.kinds.get(&key.kind)?.get(key)
    }

    /// One resource.
    pub fn resource(&self, key: &Key) -> Option<&Arc<Resource>> {
        self.get(key).map(|stored| &stored.resource)
    }

    /// Resources of a kind, over all meshes.
    pub fn kind(&self, kind: Kind) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources(kind).values().map(|stored| &stored.resource)
    }

    /// Resources of a kind in one mesh.
    pub fn in_mesh(&self, kind: Kind, mesh: &str) -> impl Iterator<Item = &Arc<Resource>> + use<'_> {
        let first = Key { kind, mesh: mesh.into(), name: "".into() };
        // No name of a mesh is between: the bounds are found once, and no key is compared on the way.
        let after = Key { kind, mesh: format!("{mesh}\0").into(), name: "".into() };
        self.resources(kind).range(first..after).map(|(_, stored)| &stored.resource)
    }

    /// How many resources of a kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        self.resources(kind).len()
    }

    fn resources(&self, kind: Kind) -> &Resources {
        self.kinds.get(&kind).unwrap_or(&EMPTY)
    }

    /// Whether any resource of a kind differs from an older snapshot, told without looking at them.
    pub fn differs(&self, older: &Self, kind: Kind) -> bool {
        !self.resources(kind).ptr_eq(older.resources(kind))
    }

    /// Keys of a kind that were written or removed since an older snapshot; costs what changed.
    pub fn changed_keys(&self, older: &Self, kind: Kind) -> Vec<Key> {
        let diff = older.resources(kind).diff(self.resources(kind));
        diff.map(|item| match item {
            DiffItem::Add(key, _) | DiffItem::Remove(key, _) => key.clone(),
            DiffItem::Update { new: (key, _), .. } => key.clone(),
        })
        .collect()
    }

    /// The snapshot with one more resource at a revision: for tests and what-if questions.
    pub fn with(mut self, resource: Resource) -> Self {
        let revision = Revision(self.revision.0 + 1);
        self.apply(&Event { revision, change: Change::Put(Arc::new(resource)) });
        self
    }

    /// The snapshot without a resource: for tests and what-if questions.
    pub fn without(mut self, key: &Key) -> Self {
        let revision = Revision(self.revision.0 + 1);
        self.apply(&Event { revision, change: Change::Delete(key.clone()) });
        self
    }

    pub(crate) fn apply(&mut self, event: &Event) {
        let resources = self.kinds.entry(event.change.key().kind).or_default();
        match &event.change {
            Change::Put(resource) => {
                let stored = Stored { resource: Arc::clone(resource), revision: event.revision };
                resources.insert(resource.key().clone(), stored);
            }
            Change::Delete(key) => {
                resources.remove(key);
            }
        }
        self.revision = self.revision.max(event.revision);
    }

    /// Takes over the whole content of a kind, touching only what differs.
    pub(crate) fn reset(&mut self, kind: Kind, live: Vec<Stored>, revision: Revision) {
        let resources = self.kinds.entry(kind).or_default();
        let mut gone: std::collections::BTreeSet<Key> = resources.keys().cloned().collect();
        for stored in live {
            let key = stored.resource.key();
            gone.remove(key);
            if resources.get(key).is_none_or(|held| held.revision != stored.revision) {
                resources.insert(key.clone(), stored);
            }
        }
        for key in gone {
            resources.remove(&key);
        }
        self.revision = self.revision.max(revision);
    }
}

/// Two stored resources are the same when the same commit wrote them.
impl PartialEq for Stored {
    fn eq(&self, other: &Self) -> bool {
        self.revision == other.revision && self.resource.key() == other.resource.key()
    }
}
