//! What the newest configuration of a proxy was made from.

use std::sync::Arc;

use model::{Key, Kind, Resource};
use proxy_config::{Inputs, Proxy};
use store::Snapshot;

use super::context::Context;
use super::views::{MeshState, Relied};

/// What identities, credentials and admin endpoints depend on, beside the Dataplane.
const OF_IDENTITY: [Kind; 4] = [Kind::GLOBAL_SECRET, Kind::MESH_IDENTITY, Kind::MESH_TRUST, Kind::SECRET];

/// What a configuration was made from.
pub(super) struct Made {
    pub(super) inputs: Inputs,
    pub(super) proxy: Proxy,
    pub(super) snapshot: Arc<Snapshot>,
}

impl Made {
    /// Whether the same configuration would be made from a newer state.
    fn stands(&mut self, state: &MeshState, dataplane: &Arc<Resource>, context: &Context) -> bool {
        let newer = &state.snapshot;
        let stands = Arc::ptr_eq(dataplane, self.inputs.dataplane())
            && OF_IDENTITY.iter().all(|kind| !newer.differs(&self.snapshot, *kind))
            && self.inputs.stand(&state.view, &self.proxy, &context.config.settings);
        if stands {
            self.snapshot = Arc::clone(newer);
        }
        stands
    }

    /// Relies on all of it, for the proxy of a Dataplane.
    pub(super) fn relied(mut self, key: Key, context: Arc<Context>) -> Relied {
        Box::new(move |state| {
            let dataplane = state.snapshot.resource(&key);
            let stands = dataplane.is_some_and(|dataplane| self.stands(state, dataplane, &context));
            if stands {
                context.config.metrics.kept.inc();
            }
            stands
        })
    }
}
