//! Counts of everything in the index, kept change by change: what one change costs does not depend on how much
//! there is.

mod contribution;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{Key, Kind};
use store::Snapshot;

use contribution::contributions;
pub use contribution::{Condition, Counter, Role};

/// Name of the counts that belong to no mesh.
const NO_MESH: &str = "";

/// Counts by mesh.
type Counts = BTreeMap<Arc<str>, BTreeMap<Counter, usize>>;

/// The counts of a snapshot.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    shown: Arc<Snapshot>,
    counts: Counts,
}

impl Tally {
    /// Takes over what differs between the snapshot that was counted last and this one.
    pub fn advance(&mut self, newer: &Arc<Snapshot>) {
        if newer.revision() <= self.shown.revision() {
            return;
        }
        for key in changed(&self.shown, newer) {
            for (mesh, counter) in contributions(&self.shown, &key) {
                self.remove(&mesh, &counter);
            }
            for (mesh, counter) in contributions(newer, &key) {
                *self.counts.entry(mesh).or_default().entry(counter).or_default() += 1;
            }
        }
        self.shown = Arc::clone(newer);
    }

    fn remove(&mut self, mesh: &Arc<str>, counter: &Counter) {
        let Some(counts) = self.counts.get_mut(mesh) else { return };
        if let Some(count) = counts.get_mut(counter) {
            *count -= 1;
            if *count == 0 {
                counts.remove(counter);
            }
        }
        if counts.is_empty() {
            self.counts.remove(mesh);
        }
    }

    /// What is counted in one mesh.
    pub fn of_mesh(&self, mesh: &str) -> impl Iterator<Item = (&Counter, usize)> {
        self.counts.get(mesh).into_iter().flatten().map(|(counter, count)| (counter, *count))
    }

    /// What is counted in all meshes and outside of them.
    pub fn all(&self) -> impl Iterator<Item = (&Counter, usize)> {
        self.counts.values().flatten().map(|(counter, count)| (counter, *count))
    }
}

/// Keys whose contribution may differ: those that were written, and those that an insight is about.
fn changed(older: &Snapshot, newer: &Snapshot) -> BTreeSet<Key> {
    let mut keys = BTreeSet::new();
    for kind in Kind::all() {
        for key in newer.changed_keys(older, kind) {
            if kind == Kind::DATAPLANE_INSIGHT {
                keys.insert(Key { kind: Kind::DATAPLANE, ..key });
            } else if kind == Kind::ZONE_INSIGHT {
                keys.insert(Key { kind: Kind::ZONE, ..key });
            } else {
                keys.insert(key);
            }
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use model::payload::Typed;
    use model::spec::MeshService;
    use model::{Payload, Resource};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// What happens to one of a few names.
    #[derive(Clone, Debug)]
    enum Step {
        Dataplane { ready: bool, gateway: bool },
        Insight { online: bool, version: u8 },
        Service { available: bool },
        Gone(u8),
    }

    fn step() -> impl Strategy<Value = (u8, u8, Step)> {
        let what = prop_oneof![
            any::<(bool, bool)>().prop_map(|(ready, gateway)| Step::Dataplane { ready, gateway }),
            (any::<bool>(), 0..2_u8).prop_map(|(online, version)| Step::Insight { online, version }),
            any::<bool>().prop_map(|available| Step::Service { available }),
            (0..3_u8).prop_map(Step::Gone),
        ];
        (0..2_u8, 0..3_u8, what)
    }

    fn encoded(kind: Kind, spec: &serde_json::Value) -> Payload {
        Payload::from_json(kind.format, spec).unwrap()
    }

    fn apply(snapshot: &Snapshot, mesh: u8, name: u8, step: &Step) -> Snapshot {
        let (mesh, name) = (format!("m{mesh}"), format!("n{name}"));
        let put = |kind: Kind, spec: Payload| {
            let mut builder = Resource::builder(Key::new(kind, &mesh, &name));
            builder.spec = spec;
            snapshot.clone().with(builder.build())
        };
        match step {
            Step::Dataplane { ready, gateway } => {
                let state = if *ready { "Ready" } else { "NotReady" };
                let mut networking =
                    json!({"address": "127.0.0.1", "inbound": [{"port": 1}, {"port": 2, "state": state}]});
                if *gateway {
                    networking = json!({"address": "127.0.0.1", "gateway": {"tags": {}}});
                }
                put(Kind::DATAPLANE, encoded(Kind::DATAPLANE, &json!({"networking": networking})))
            }
            Step::Insight { online, version } => {
                let mut subscription = json!({"id": "1", "connectTime": "2026-01-01T00:00:00Z",
                    "version": {"kumaDp": {"version": format!("1.{version}")}}});
                if !online {
                    subscription["disconnectTime"] = json!("2026-01-01T00:01:00Z");
                }
                let spec = json!({"subscriptions": [subscription], "mTLS": {"issuedBackend": "ca"}});
                put(Kind::DATAPLANE_INSIGHT, encoded(Kind::DATAPLANE_INSIGHT, &spec))
            }
            Step::Service { available } => {
                let state = if *available { "Available" } else { "Unavailable" };
                let spec: MeshService =
                    serde_json::from_value(json!({"ports": [{"port": 80}], "state": state})).unwrap();
                put(Kind::MESH_SERVICE, spec.encode())
            }
            Step::Gone(which) => {
                let kinds = [Kind::DATAPLANE, Kind::DATAPLANE_INSIGHT, Kind::MESH_SERVICE];
                snapshot.clone().without(&Key::new(kinds[usize::from(*which)], &mesh, &name))
            }
        }
    }

    proptest! {
        /// Counting change by change, however many changes at a time, is counting from scratch.
        #[test]
        fn counts_are_those_of_the_snapshot(steps in prop::collection::vec((step(), any::<bool>()), 1..60)) {
            let mut tally = Tally::default();
            let mut snapshot = Snapshot::default();
            for ((mesh, name, step), look) in steps {
                snapshot = apply(&snapshot, mesh, name, &step);
                if look {
                    tally.advance(&Arc::new(snapshot.clone()));
                }
            }
            let last = Arc::new(snapshot);
            tally.advance(&last);
            let mut fresh = Tally::default();
            fresh.advance(&last);
            prop_assert_eq!(tally.counts, fresh.counts);
        }
    }
}
