//! What a zone control plane makes sure of in its store before it starts.

use model::labels::{self, Plane};
use model::spec::Zone;
use model::{Key, Kind, Labels, Resource, Timestamp};
use store::{Op, Store, StoreError};

/// Config resource that tells one store from another.
const STORE_ID: &str = "isthmus-store-id";

/// The id of this store; made once.
///
/// # Errors
/// The store's.
pub async fn store_id(store: &Store, now: Timestamp) -> anyhow::Result<String> {
    let stays_here = Labels::from([(labels::KDS_SYNC.into(), "disabled".into())]);
    control_plane::stored_id(store, STORE_ID, &stays_here, now).await
}

/// Keeps exactly one Zone: this one.
///
/// # Errors
/// The store's.
pub async fn only_zone(store: &Store, plane: &Plane, now: Timestamp) -> Result<(), StoreError> {
    let Some(name) = plane.zone() else { return Ok(()) };
    let page = store.list(Kind::ZONE, None, None, usize::MAX).await?;
    let others = page.items.iter().filter(|stored| stored.resource.name() != name);
    let mut ops: Vec<Op> =
        others.map(|stored| Op::Delete(stored.resource.key().clone(), store::Expect::Any)).collect();
    if page.items.len() == ops.len() {
        let labels = labels::compute(plane, Kind::ZONE, "", name, &Labels::new(), None);
        let spec = Zone { enabled: Some(true) };
        let key = Key::global(Kind::ZONE, name);
        ops.push(Op::create(Resource::builder(key).labels(labels).spec(&spec).at(now).build()));
    }
    match store.commit(ops).await {
        // Another instance of this zone was faster.
        Err(StoreError::Conflict { .. }) => Ok(()),
        done => done.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use store::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn a_store_keeps_its_id_and_one_zone() {
        let store: Store = Arc::new(MemoryStore::new());
        let now = Timestamp::from_unix(1_800_000_000, 0);
        let id = store_id(&store, now).await.unwrap();
        assert_eq!(store_id(&store, now).await.unwrap(), id);
        for name in ["east", "west", "west"] {
            let plane = Plane::Zone { name: name.into(), federated: true };
            only_zone(&store, &plane, now).await.unwrap();
            let zones = store.list(Kind::ZONE, None, None, 10).await.unwrap().items;
            let names: Vec<_> = zones.iter().map(|stored| stored.resource.name()).collect();
            assert_eq!(names, [name]);
        }
    }
}
