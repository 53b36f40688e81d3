//! Reactions to changes of the zone's store: what follows from the resources of a mesh is planned in one pass over a
//! snapshot and committed at once.
//!
//! Between the index and the store. Each controller is a function that edits a plan and sees what those before it
//! want; nothing runs on a timer but the end of a grace period. Planning what is already there writes nothing, so
//! several instances may run: the first commit counts, the others plan again.

mod affected;
mod destinations;
mod generated;
mod identities;
mod plan;
mod proxies;
mod runner;
mod services;
mod vips;

#[cfg(test)]
pub(crate) mod tests;

use std::time::Duration;

use model::labels::Plane;
use model::{Key, Kind, Timestamp};
use runtime::{OnExit, Tasks};
use store::index::SnapshotReceiver;
use store::{Op, Snapshot, Store};

pub use vips::{Range, VipRanges};

use crate::identity::Clock;
use plan::Plan;
use proxies::Proxies;

/// How long what has lost its last user is kept, as the peer does.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(3600);

/// What controllers need to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The zone's control plane.
    pub plane: Plane,
    /// Where virtual addresses come from.
    pub vip_ranges: VipRanges,
    /// How long a generated MeshService without proxies, or the trust in an identity that is gone, is kept.
    pub deletion_grace: Duration,
}

impl Settings {
    /// The defaults of a zone.
    pub fn new(plane: Plane) -> Self {
        Self { plane, vip_ranges: VipRanges::default(), deletion_grace: DEFAULT_GRACE }
    }
}

/// Starts the controllers of a zone.
pub fn spawn(tasks: &Tasks, store: Store, snapshots: SnapshotReceiver, settings: Settings, clock: Clock) {
    let runner = runner::Runner::new(store, settings, clock);
    let token = tasks.token();
    tasks.spawn("controllers", OnExit::Shutdown, async move {
        tokio::select! {
            () = token.cancelled() => {}
            () = runner.run(snapshots) => {}
        }
    });
}

/// The writes that bring one mesh to what follows from its resources, and when to look again at the latest. A mesh
/// that is not there is left alone: it may just not have arrived yet.
pub fn plan_mesh(
    snapshot: &Snapshot,
    mesh: &str,
    settings: &Settings,
    now: Timestamp,
) -> (Vec<Op>, Option<Timestamp>) {
    if snapshot.get(&Key::global(Kind::MESH, mesh)).is_none() {
        return (Vec::new(), None);
    }
    let mut plan = Plan::new(snapshot, mesh, &settings.plane, now);
    let proxies = Proxies::new(&plan);
    identities::identities(&mut plan, settings.deletion_grace);
    generated::mesh_services(&mut plan, &proxies, settings.deletion_grace);
    generated::workloads(&mut plan, &proxies);
    services::mesh_services(&mut plan, &proxies);
    services::multi_zone_services(&mut plan);
    destinations::addresses(&mut plan, &settings.vip_ranges);
    destinations::hostnames(&mut plan);
    (plan.ops(), plan.wake())
}
