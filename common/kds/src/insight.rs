//! What is remembered of a zone's synchronisation streams: the subscriptions of its ZoneInsight, written when
//! they change and at most once a second.

use std::time::Duration;

use kds_proto::system::{
    KdsServiceStats, KdsSubscription, KdsSubscriptionStatus, KumaCpVersion, Version, ZoneInsight,
};
use model::{Key, Kind, Resource, Timestamp, labels};
use store::{Store, StoreError, retry_conflicts};
use tokio::sync::watch;

use crate::server::{Counters, ServerSession};

/// Subscriptions that are kept; older ones are forgotten.
const KEPT: usize = 10;
/// Changes within this time are written together.
const FLUSH: Duration = Duration::from_secs(1);

/// Reads the time; injected where tests set it.
pub type Clock = fn() -> Timestamp;

/// A subscription as a stream opens. `token` tells whether the peer presented one.
pub fn subscription(id: String, global_instance: &str, token: bool, now: Timestamp) -> KdsSubscription {
    KdsSubscription {
        id,
        global_instance_id: global_instance.into(),
        connect_time: Some(now.to_proto()),
        status: Some(KdsSubscriptionStatus { last_update_time: Some(now.to_proto()), ..Default::default() }),
        auth_token_provided: token,
        ..Default::default()
    }
}

/// Takes over what a serving session knows of its peer and has counted. Answers whether something is new.
pub fn observe(subscription: &mut KdsSubscription, session: &ServerSession, now: Timestamp) -> bool {
    let before = subscription.status.clone().unwrap_or_default();
    let mut status = before.clone();
    status.stat =
        session.counters().iter().map(|(kind, counters)| (kind.name.to_owned(), stats(*counters))).collect();
    status.total = Some(status.stat.values().fold(KdsServiceStats::default(), |mut total, stat| {
        total.responses_sent += stat.responses_sent;
        total.responses_acknowledged += stat.responses_acknowledged;
        total.responses_rejected += stat.responses_rejected;
        total
    }));
    let introduced = subscription.version.is_none().then(|| session.peer()).flatten();
    if let Some(peer) = introduced {
        let version = KumaCpVersion {
            version: peer.version.clone(),
            kuma_cp_global_compatible: true,
            ..Default::default()
        };
        subscription.version = Some(Version { kuma_cp: Some(version) });
        subscription.config.clone_from(&peer.config);
        subscription.zone_instance_id.clone_from(&peer.instance);
    }
    let changed = introduced.is_some() || status != before;
    if changed {
        status.last_update_time = Some(now.to_proto());
        subscription.status = Some(status);
    }
    changed
}

fn stats(counters: Counters) -> KdsServiceStats {
    KdsServiceStats {
        responses_sent: counters.sent,
        responses_acknowledged: counters.acknowledged,
        responses_rejected: counters.rejected,
    }
}

/// Puts a subscription into an insight: replaces the one with its id; a new one ends those before it.
pub fn merge(insight: &mut ZoneInsight, subscription: &KdsSubscription) {
    let subscriptions = &mut insight.subscriptions;
    match subscriptions.iter_mut().find(|held| held.id == subscription.id) {
        Some(held) => held.clone_from(subscription),
        None => {
            for open in subscriptions.iter_mut().filter(|held| held.disconnect_time.is_none()) {
                open.disconnect_time = subscription.connect_time;
            }
            subscriptions.push(subscription.clone());
        }
    }
    let forgotten = subscriptions.len().saturating_sub(KEPT);
    subscriptions.drain(..forgotten);
    let last = subscriptions.len().saturating_sub(1);
    for finished in &mut subscriptions[..last] {
        finished.config.clear();
        if let Some(status) = &mut finished.status {
            status.stat.clear();
        }
    }
}

/// Changes a zone's insight; nothing is written when `change` leaves it as it was.
///
/// # Errors
/// The store's.
pub async fn update(
    store: &Store,
    zone: &str,
    now: Timestamp,
    mut change: impl FnMut(&mut ZoneInsight) + Send,
) -> Result<bool, StoreError> {
    let key = Key::global(Kind::ZONE_INSIGHT, zone);
    retry_conflicts(&**store, &key, |stored| {
        let held = stored.and_then(|stored| stored.resource.spec::<ZoneInsight>().ok());
        let mut insight = held.cloned().unwrap_or_default();
        change(&mut insight);
        if held == Some(&insight) {
            return None;
        }
        let builder = match stored {
            Some(stored) => stored.resource.to_builder(),
            None => Resource::builder(key.clone()).label(labels::DISPLAY_NAME, zone).at(now),
        };
        let mut builder = builder.spec(&insight);
        builder.modified = now;
        Some(builder.build())
    })
    .await
}

/// Writes a subscription whenever it changes, until its sender is gone, and then that it has ended.
pub async fn record(
    store: Store,
    zone: String,
    mut subscription: watch::Receiver<KdsSubscription>,
    now: Clock,
) {
    loop {
        let current = subscription.borrow_and_update().clone();
        write(&store, &zone, &current, now).await;
        if tokio::time::timeout(FLUSH, ended(&mut subscription)).await.is_ok()
            || subscription.changed().await.is_err()
        {
            break;
        }
    }
    let mut last = subscription.borrow().clone();
    last.disconnect_time = Some(now().to_proto());
    write(&store, &zone, &last, now).await;
}

async fn ended(subscription: &mut watch::Receiver<KdsSubscription>) {
    // A clone: changes that come meanwhile stay unseen by the caller's receiver.
    let mut watched = subscription.clone();
    while watched.changed().await.is_ok() {}
}

async fn write(store: &Store, zone: &str, subscription: &KdsSubscription, now: Clock) {
    if let Err(error) = update(store, zone, now(), |insight| merge(insight, subscription)).await {
        tracing::warn!(zone, %error, "cannot write the zone's insight");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use store::MemoryStore;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_unix(1_800_000_000, 0)
    }

    fn open(id: &str) -> KdsSubscription {
        subscription(id.into(), "global-1", true, now())
    }

    #[test]
    fn a_new_subscription_ends_the_one_before_and_few_are_kept() {
        let mut insight = ZoneInsight::default();
        for id in 0..12 {
            merge(&mut insight, &KdsSubscription { config: "{}".into(), ..open(&id.to_string()) });
        }
        assert_eq!(insight.subscriptions.len(), KEPT);
        let (last, finished) = insight.subscriptions.split_last().unwrap();
        assert_eq!((last.id.as_str(), last.disconnect_time), ("11", None));
        assert!(finished.iter().all(|held| held.disconnect_time.is_some() && held.config.is_empty()));
        merge(&mut insight, &KdsSubscription { generation: 7, ..open("11") });
        assert_eq!(insight.subscriptions.last().unwrap().generation, 7);
        assert_eq!(insight.subscriptions.len(), KEPT);
    }

    #[tokio::test]
    async fn the_end_of_a_stream_is_written_and_nothing_twice() {
        let store: Store = Arc::new(MemoryStore::new());
        let (tx, rx) = watch::channel(open("1"));
        let change = async {
            tx.send_modify(|subscription| subscription.generation = 1);
            drop(tx);
        };
        tokio::join!(record(Arc::clone(&store), "east".into(), rx, now), change);
        let stored = store.get(&Key::global(Kind::ZONE_INSIGHT, "east")).await.unwrap().unwrap();
        let insight = stored.resource.spec::<ZoneInsight>().unwrap();
        let last = insight.subscriptions.last().unwrap();
        assert_eq!((last.generation, last.disconnect_time.is_some()), (1, true));
        assert!(!update(&store, "east", now(), |_| {}).await.unwrap());
    }
}
