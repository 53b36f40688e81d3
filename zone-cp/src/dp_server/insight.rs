//! What is remembered of a proxy's configuration streams: its DataplaneInsight, written when it changes and at most
//! once a second.

use std::sync::Arc;
use std::time::Duration;

use kds_proto::mesh::dataplane_insight::Mtls;
use kds_proto::mesh::{ConfigurationProblem, DiscoveryServiceStats, DiscoverySubscription};
use model::spec::DataplaneInsight;
use model::{Key, Kind, Resource, Timestamp};
use prost_types::Struct;
use proxy_config::Identity;
use store::{Store, StoreError, retry_conflicts};
use tokio::sync::watch;

use super::context::Clock;
use super::session::{CLUSTER, Counters, ENDPOINTS, LISTENER, ROUTE, Session};

/// Subscriptions that are kept; older ones are forgotten.
const KEPT: usize = 2;
/// Changes within this time are written together.
const FLUSH: Duration = Duration::from_secs(1);

/// What one stream adds to the insight of its proxy.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Observed {
    /// The stream.
    pub(crate) subscription: DiscoverySubscription,
    /// What the proxy says of itself.
    pub(crate) metadata: Struct,
    /// The certificate that the proxy has now.
    pub(crate) certificate: Option<Certificate>,
}

/// A certificate that a proxy was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    expires: Timestamp,
    given: Timestamp,
    issued_by: String,
    trusted: Vec<String>,
    /// How many the stream gave, this one included.
    count: u32,
}

impl Observed {
    /// Takes over what a session has counted. Answers whether something is new.
    pub(crate) fn counted(&mut self, session: &Session, now: Timestamp) -> bool {
        let before = self.subscription.status.unwrap_or_default();
        let mut status = before;
        let mut total = DiscoveryServiceStats::default();
        for (type_url, counters) in session.counters() {
            let stats = stats(counters);
            total.responses_sent += stats.responses_sent;
            total.responses_acknowledged += stats.responses_acknowledged;
            total.responses_rejected += stats.responses_rejected;
            match type_url {
                CLUSTER => status.cds = Some(stats),
                ENDPOINTS => status.eds = Some(stats),
                LISTENER => status.lds = Some(stats),
                ROUTE => status.rds = Some(stats),
                _ => {}
            }
        }
        status.total = Some(total);
        if status == before {
            return false;
        }
        status.last_update_time = Some(now.to_proto());
        self.subscription.status = Some(status);
        true
    }

    /// Takes over what the proxy does not run although it should. Answers whether something is new.
    pub(crate) fn troubled(&mut self, problems: Vec<ConfigurationProblem>) -> bool {
        let before = std::mem::replace(&mut self.subscription.problems, problems);
        before != self.subscription.problems
    }

    /// Takes over which certificate the proxy has. Answers whether it is another one.
    pub(crate) fn identified(
        &mut self,
        identity: Option<&Identity>,
        trusted: Vec<String>,
        now: Timestamp,
    ) -> bool {
        let before = self.certificate.take();
        self.certificate = identity.map(|identity| {
            let issued_by = identity.kri.to_string();
            let same = before
                .as_ref()
                .filter(|held| held.expires == identity.expires && held.issued_by == issued_by);
            let (given, count) = match (same, &before) {
                (Some(same), _) => (same.given, same.count),
                (None, before) => (now, before.as_ref().map_or(0, |held| held.count) + 1),
            };
            Certificate { expires: identity.expires, given, issued_by, trusted, count }
        });
        before != self.certificate
    }
}

fn stats(counters: Counters) -> DiscoveryServiceStats {
    DiscoveryServiceStats {
        responses_sent: counters.sent,
        responses_acknowledged: counters.acknowledged,
        responses_rejected: counters.rejected,
    }
}

/// Puts what a stream observed into an insight: replaces its subscription; a new one ends those before it.
fn merge(insight: &mut DataplaneInsight, observed: &Observed) {
    let subscription = &observed.subscription;
    let held = insight.subscriptions.iter().position(|held| held.id == subscription.id);
    let is_newest = held.is_none_or(|at| at + 1 == insight.subscriptions.len());
    match held.and_then(|at| insight.subscriptions.get_mut(at)) {
        Some(held) => held.clone_from(subscription),
        None => {
            for open in insight.subscriptions.iter_mut().filter(|held| held.disconnect_time.is_none()) {
                open.disconnect_time = subscription.connect_time;
            }
            insight.subscriptions.push(subscription.clone());
        }
    }
    let forgotten = insight.subscriptions.len().saturating_sub(KEPT);
    insight.subscriptions.drain(..forgotten);
    // The last words of an older stream are about itself only.
    if !is_newest {
        return;
    }
    insight.metadata = Some(observed.metadata.clone());
    insight.m_tls = observed.certificate.as_ref().map(|certificate| Mtls {
        certificate_expiration_time: Some(certificate.expires.to_proto()),
        last_certificate_regeneration: Some(certificate.given.to_proto()),
        certificate_regenerations: certificate.count,
        issued_backend: certificate.issued_by.clone(),
        supported_backends: certificate.trusted.clone(),
    });
}

/// Changes the insight of a proxy; nothing is written that is there already, or for a Dataplane that is gone.
async fn write(
    store: &Store,
    dataplane: &Key,
    observed: &Observed,
    now: Timestamp,
) -> Result<(), StoreError> {
    if store.get(dataplane).await?.is_none() {
        return Ok(());
    }
    let key = Key::new(Kind::DATAPLANE_INSIGHT, &dataplane.mesh, &dataplane.name);
    retry_conflicts(&**store, &key, |stored| {
        let held = stored.and_then(|stored| stored.resource.spec::<DataplaneInsight>().ok());
        let mut insight = held.cloned().unwrap_or_default();
        merge(&mut insight, observed);
        if held == Some(&insight) {
            return None;
        }
        let builder = match stored {
            Some(stored) => stored.resource.to_builder(),
            None => Resource::builder(key.clone()).at(now),
        };
        let mut builder = builder.spec(&insight);
        builder.modified = now;
        Some(builder.build())
    })
    .await
    .map(|_| ())
}

/// Ends all subscriptions of a proxy that has no stream anywhere.
pub(crate) async fn end(store: &Store, dataplane: &Key, now: Timestamp) {
    let key = Key::new(Kind::DATAPLANE_INSIGHT, &dataplane.mesh, &dataplane.name);
    let ended = retry_conflicts(&**store, &key, |stored| {
        let mut insight = stored?.resource.spec::<DataplaneInsight>().ok()?.clone();
        for open in insight.subscriptions.iter_mut().filter(|held| held.disconnect_time.is_none()) {
            open.disconnect_time = Some(now.to_proto());
        }
        let mut builder = stored?.resource.to_builder().spec(&insight);
        builder.modified = now;
        Some(builder.build())
    });
    warn(ended.await.map(|_| ()), dataplane);
}

/// Writes what a stream observes whenever it changes, until its sender is gone, and then that it has ended.
pub(crate) async fn record(
    store: Store,
    dataplane: Key,
    mut observed: watch::Receiver<Arc<Observed>>,
    now: Clock,
) {
    loop {
        let current = Arc::clone(&observed.borrow_and_update());
        warn(write(&store, &dataplane, &current, now()).await, &dataplane);
        if tokio::time::timeout(FLUSH, ended(&mut observed)).await.is_ok()
            || observed.changed().await.is_err()
        {
            break;
        }
    }
    let mut last = Observed::clone(&observed.borrow());
    last.subscription.disconnect_time = Some(now().to_proto());
    warn(write(&store, &dataplane, &last, now()).await, &dataplane);
}

async fn ended(observed: &mut watch::Receiver<Arc<Observed>>) {
    // A clone: changes that come meanwhile stay unseen by the caller's receiver.
    let mut watched = observed.clone();
    while watched.changed().await.is_ok() {}
}

fn warn(written: Result<(), StoreError>, dataplane: &Key) {
    if let Err(error) = written {
        tracing::warn!(%dataplane, %error, "cannot write the insight of a proxy");
    }
}

#[cfg(test)]
mod tests {
    use store::{MemoryStore, Op};

    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_unix(1_800_000_000, 0)
    }

    fn key() -> Key {
        Key::new(Kind::DATAPLANE, "default", "web")
    }

    fn stream(id: &str) -> Observed {
        Observed {
            subscription: DiscoverySubscription {
                id: id.into(),
                connect_time: Some(now().to_proto()),
                ..Default::default()
            },
            metadata: Struct { fields: [(id.to_owned(), prost_types::Value::default())].into() },
            certificate: None,
        }
    }

    async fn held(store: &Store) -> Option<DataplaneInsight> {
        let stored = store.get(&Key::new(Kind::DATAPLANE_INSIGHT, "default", "web")).await.unwrap()?;
        Some(stored.resource.spec::<DataplaneInsight>().unwrap().clone())
    }

    #[test]
    fn a_new_stream_ends_those_before_it_and_few_are_kept() {
        let mut insight = DataplaneInsight::default();
        for id in ["1", "2", "3"] {
            merge(&mut insight, &stream(id));
        }
        let ids: Vec<_> = insight.subscriptions.iter().map(|held| held.id.as_str()).collect();
        assert_eq!(ids, ["2", "3"]);
        assert!(insight.subscriptions[0].disconnect_time.is_some());
        assert!(insight.subscriptions[1].disconnect_time.is_none());
        merge(&mut insight, &stream("2"));
        assert!(insight.metadata.unwrap().fields.contains_key("3"), "the newest stream's");
    }

    #[test]
    fn a_renewed_certificate_is_counted() {
        let identity = |seconds| {
            let kri = model::Kri::parse("kri_mid_default_east__id_").unwrap();
            let mut identity = Identity::without_key(kri, "spiffe://d/a".into());
            identity.expires = Timestamp::from_unix(seconds, 0);
            identity
        };
        let mut observed = stream("1");
        assert!(observed.identified(Some(&identity(1)), vec!["trust".into()], now()));
        assert!(!observed.identified(Some(&identity(1)), vec!["trust".into()], Timestamp::EPOCH));
        assert!(observed.identified(Some(&identity(2)), vec!["trust".into()], now()));
        let mut insight = DataplaneInsight::default();
        merge(&mut insight, &observed);
        let mtls = insight.m_tls.unwrap();
        assert_eq!(
            (mtls.certificate_regenerations, mtls.issued_backend.as_str()),
            (2, "kri_mid_default_east__id_")
        );
        assert!(observed.identified(None, Vec::new(), now()));
        assert_eq!(observed.certificate, None);
    }

    #[tokio::test]
    async fn the_end_of_a_stream_is_written() {
        let store: Store = Arc::new(MemoryStore::new());
        store.commit(vec![Op::create(Resource::builder(key()).build())]).await.unwrap();
        let (tx, rx) = watch::channel(Arc::new(stream("1")));
        let tasks = runtime::Tasks::new();
        let record = record(Arc::clone(&store), key(), rx, now);
        let task = tasks.spawn("insight", runtime::OnExit::Ignore, record);
        drop(tx);
        task.await.unwrap();
        let last = held(&store).await.unwrap().subscriptions.pop().unwrap();
        assert!(last.disconnect_time.is_some());
    }

    #[tokio::test]
    async fn nothing_is_observed_of_a_dataplane_that_is_gone() {
        let store: Store = Arc::new(MemoryStore::new());
        write(&store, &key(), &stream("1"), now()).await.unwrap();
        assert_eq!(held(&store).await, None);
    }
}
