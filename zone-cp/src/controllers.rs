//! Reactions to changes of the zone's store: what follows from the resources of a mesh is planned in one pass over a
//! snapshot and committed at once.
//!
//! Between the index and the store. Each controller is a function that edits a plan and sees what those before it
//! want; nothing runs on a timer but the end of a grace period. Planning what is already there writes nothing, so
//! several instances may run: the first commit counts, the others plan again.
//!
//! A change is planned as far as it reaches: an index of the snapshot leads from its keys to a [`scope::Scope`], and
//! controllers plan what is in it. What they want there is what a pass over the whole mesh would.

mod destinations;
mod filed;
mod generated;
mod identities;
mod index;
mod memory;
mod names;
mod plan;
mod proxies;
mod runner;
mod scope;
mod services;
mod vips;

#[cfg(test)]
pub(crate) mod tests;

use std::time::Duration;

use model::labels::Plane;
use model::{Key, Kind, Timestamp};
use runtime::{OnExit, Tasks};
use store::index::SnapshotReceiver;
use store::{Snapshot, Store};

pub use vips::{Range, VipRanges};

use crate::identity::Clock;
use index::Index;
use plan::Plan;
use proxies::Proxies;
use scope::Scope;

/// Kinds with addresses and hostnames, in the order in which they get them.
const DESTINATIONS: [Kind; 3] =
    [Kind::MESH_SERVICE, Kind::MESH_EXTERNAL_SERVICE, Kind::MESH_MULTI_ZONE_SERVICE];

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

/// What a part of a mesh is to be; `None` where the mesh is not there: it may just not have arrived yet. `index` is
/// that of the snapshot.
fn plan_scope<'a>(
    snapshot: &'a Snapshot,
    index: &'a Index,
    mesh: &'a str,
    scope: &Scope,
    settings: &'a Settings,
    now: Timestamp,
) -> Option<Plan<'a>> {
    snapshot.get(&Key::global(Kind::MESH, mesh))?;
    let mut plan = Plan::new(snapshot, mesh, &settings.plane, now);
    let proxies = Proxies::new(snapshot, mesh, &index.proxies);
    if scope.identities {
        identities::identities(&mut plan, settings.deletion_grace);
    }
    generated::mesh_services(&mut plan, &proxies, &scope.services, settings.deletion_grace);
    generated::workloads(&mut plan, &proxies, &scope.services);
    services::mesh_services(&mut plan, &proxies, &scope.services);
    services::multi_zone_services(&mut plan, &scope.multi_zone);
    let mut claims = index.claims.clone();
    let touched = claims.advance(snapshot, plan.snapshot());
    let destinations: Vec<_> = destinations::in_order(&plan, &scope.destinations, &touched);
    destinations::addresses(&mut plan, &destinations, &settings.vip_ranges, &mut claims.taken);
    destinations::hostnames(&mut plan, &destinations, &claims.names);
    Some(plan)
}
