//! Who waits for a view, and what it relies on in it. Whether that stands is looked at where views are made: a change
//! wakes those only whom it concerns.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, watch};

use super::MeshState;

/// Tells whether a newer state has all that somebody relies on.
pub(crate) type Relied = Box<dyn FnMut(&MeshState) -> bool + Send>;

/// One who waits for changes of a mesh.
pub(super) struct Interest {
    states: watch::Receiver<Arc<MeshState>>,
    /// `None`: every change concerns it.
    relied: Mutex<Option<Relied>>,
    woken: Notify,
}

impl Interest {
    fn stands(&self) -> bool {
        // A panic while the lock is held leaves what is asked again.
        let mut relied = self.relied.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock, so that states are looked at in their order.
        let newest = Arc::clone(&self.states.borrow());
        relied.as_mut().is_some_and(|relied| relied(&newest))
    }

    /// Looks at the newest state.
    pub(super) fn look(&self) {
        if !self.stands() {
            self.woken.notify_one();
        }
    }
}

/// A view to read, now and as it changes.
pub(crate) struct Subscription(pub(super) Arc<Interest>);

impl Subscription {
    pub(super) fn new(states: watch::Receiver<Arc<MeshState>>) -> Self {
        Self(Arc::new(Interest { states, relied: Mutex::new(None), woken: Notify::new() }))
    }

    /// The newest state.
    pub(crate) fn newest(&self) -> Arc<MeshState> {
        Arc::clone(&self.0.states.borrow())
    }

    /// Whether the newest state has all that is relied on.
    pub(crate) fn stands(&self) -> bool {
        self.0.stands()
    }

    /// From now on only a state in which `relied` does not stand counts as a change. `at` is the state that it is true
    /// of: a newer one that came meanwhile is looked at.
    pub(crate) fn rely(&self, at: &Arc<MeshState>, relied: Option<Relied>) {
        *self.0.relied.lock().unwrap_or_else(PoisonError::into_inner) = relied;
        if !Arc::ptr_eq(&self.newest(), at) {
            self.0.look();
        }
    }

    /// Waits for a change. May be dropped and called again.
    pub(crate) async fn changed(&self) {
        self.0.woken.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use store::Snapshot;

    use super::*;

    fn state(view: &str) -> Arc<MeshState> {
        MeshState::new(&Arc::new(Snapshot::default()), view, "east", &Default::default())
    }

    #[test]
    fn only_what_is_relied_on_counts() {
        let (sender, states) = watch::channel(state("a"));
        let subscription = Subscription::new(states);
        let woken = || subscription.changed().now_or_never().is_some();
        let publish = |view: &str| {
            sender.send_replace(state(view));
            subscription.0.look();
        };
        assert!(!woken());
        publish("b");
        assert!(woken() && !woken(), "who relies on nothing yet is told of everything, once");
        let on =
            |view: &'static str| -> Option<Relied> { Some(Box::new(move |state| state.view.mesh() == view)) };
        subscription.rely(&subscription.newest(), on("c"));
        assert!(!woken() && !subscription.stands(), "it is true of the state it was made from");
        publish("c");
        assert!(!woken() && subscription.stands());
        publish("d");
        assert!(woken());
    }

    #[test]
    fn what_came_before_it_was_relied_on_is_not_missed() {
        let (sender, states) = watch::channel(state("a"));
        let subscription = Subscription::new(states);
        let at = subscription.newest();
        sender.send_replace(state("b"));
        subscription.rely(&at, Some(Box::new(|state| state.view.mesh() == "a")));
        assert!(subscription.changed().now_or_never().is_some());
    }
}
