//! Readiness as a set of named blockers: the process is ready when none is left.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

/// The blockers of one process. Clones share the set.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    blockers: Arc<watch::Sender<BTreeMap<String, usize>>>,
}

/// Keeps the process unready under its name until it is dropped.
#[must_use = "a blocker that is dropped at once blocks nothing"]
#[derive(Debug)]
pub struct Blocker {
    name: String,
    blockers: Arc<watch::Sender<BTreeMap<String, usize>>>,
}

impl Readiness {
    /// An empty set: ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a blocker. Two blockers may share a name; both have to go.
    pub fn blocker(&self, name: impl Into<String>) -> Blocker {
        let name = name.into();
        self.blockers.send_modify(|set| *set.entry(name.clone()).or_insert(0) += 1);
        Blocker { name, blockers: Arc::clone(&self.blockers) }
    }

    /// Whether no blocker is left.
    pub fn is_ready(&self) -> bool {
        self.blockers.borrow().is_empty()
    }

    /// The names that block, in order.
    pub fn blockers(&self) -> Vec<String> {
        self.blockers.borrow().keys().cloned().collect()
    }

    /// Resolves when no blocker is left.
    pub async fn ready(&self) {
        let mut changes = self.blockers.subscribe();
        // An error would mean that the sender is gone, but `self` holds it.
        let _ = changes.wait_for(BTreeMap::is_empty).await;
    }
}

impl Drop for Blocker {
    fn drop(&mut self) {
        self.blockers.send_modify(|set| {
            if let Some(count) = set.get_mut(&self.name) {
                *count -= 1;
                if *count == 0 {
                    set.remove(&self.name);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_when_the_last_blocker_is_dropped() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        let store = readiness.blocker("store");
        let first = readiness.blocker("peers");
        let second = readiness.clone().blocker("peers");
        assert_eq!(readiness.blockers(), ["peers", "store"]);
        drop(first);
        drop(store);
        assert_eq!(readiness.blockers(), ["peers"]);
        assert!(!readiness.is_ready());
        drop(second);
        readiness.ready().await;
        assert!(readiness.is_ready());
    }
}
