//! Which proxies have a configuration stream here, and what they were sent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{Key, Timestamp};
use prost_types::Struct;
use proxy_config::ProxyConfig;
use tokio_util::sync::CancellationToken;

use super::problems::Problem;

/// A stream that took over from another one is not taken over from itself before this time: two proxies of one
/// name would do so all the time.
const TAKEOVER_PAUSE: Duration = Duration::from_secs(10);

/// Somebody else is this proxy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("two proxies say that they are {0}: one of them needs another name")]
pub(crate) struct Contested(Key);

/// How a proxy stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Whether it has answered everything that it is to hold.
    pub settled: bool,
    /// What it does not run although it should.
    pub problems: Vec<Problem>,
}

/// A proxy with a stream.
#[derive(Clone, Debug)]
pub struct ConnectedProxy {
    /// Key of its Dataplane.
    pub key: Key,
    /// Where it connects from.
    pub peer: Option<SocketAddr>,
    /// Since when.
    pub since: Timestamp,
    /// How it stands.
    pub progress: Progress,
}

/// What is known of one stream.
pub(crate) struct Live {
    pub(crate) key: Key,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) since: Timestamp,
    pub(crate) metadata: Struct,
    /// Cancelled when a newer stream of the same proxy takes over.
    pub(crate) replaced: CancellationToken,
    id: u64,
    /// Whether another stream had to go.
    took_over: bool,
    state: Mutex<(Progress, Option<Arc<ProxyConfig>>)>,
}

impl Live {
    /// Remembers what the proxy is to hold now.
    pub(crate) fn generated(&self, config: Arc<ProxyConfig>) {
        lock(&self.state).1 = Some(config);
    }

    /// Remembers how it stands.
    pub(crate) fn progressed(&self, progress: Progress) {
        lock(&self.state).0 = progress;
    }

    /// What it is to hold.
    pub(crate) fn configuration(&self) -> Option<Arc<ProxyConfig>> {
        lock(&self.state).1.clone()
    }

    fn shown(&self) -> ConnectedProxy {
        ConnectedProxy {
            key: self.key.clone(),
            peer: self.peer,
            since: self.since,
            progress: lock(&self.state).0.clone(),
        }
    }
}

type Streams = Arc<Mutex<BTreeMap<Key, Arc<Live>>>>;

/// The proxies with a stream here.
#[derive(Default)]
pub(crate) struct Proxies {
    streams: Streams,
    next: AtomicU64,
}

/// A place among the connected proxies; given up by drop.
pub(crate) struct Place {
    pub(crate) live: Arc<Live>,
    streams: Streams,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut streams = lock(&self.streams);
        // A newer stream of the proxy has the place already.
        if streams.get(&self.live.key).is_some_and(|held| held.id == self.live.id) {
            streams.remove(&self.live.key);
        }
    }
}

impl Proxies {
    /// Takes the place of a proxy, from an older stream if there is one.
    ///
    /// # Errors
    /// When that stream has just taken over itself.
    pub(crate) fn enter(
        &self,
        key: Key,
        peer: Option<SocketAddr>,
        metadata: Struct,
        since: Timestamp,
    ) -> Result<Place, Contested> {
        let mut streams = lock(&self.streams);
        let older = streams.get(&key);
        if older.is_some_and(|older| older.took_over && since.since(older.since) < TAKEOVER_PAUSE) {
            return Err(Contested(key));
        }
        if let Some(older) = older {
            older.replaced.cancel();
        }
        let live = Arc::new(Live {
            peer,
            since,
            metadata,
            replaced: CancellationToken::new(),
            id: self.next.fetch_add(1, Ordering::Relaxed),
            took_over: older.is_some(),
            state: Mutex::default(),
            key,
        });
        streams.insert(live.key.clone(), Arc::clone(&live));
        Ok(Place { live, streams: Arc::clone(&self.streams) })
    }

    /// The stream of a proxy.
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Live>> {
        lock(&self.streams).get(key).cloned()
    }

    /// How many there are of a mesh.
    pub(crate) fn count(&self, mesh: &str) -> usize {
        lock(&self.streams).keys().filter(|key| *key.mesh == *mesh).count()
    }

    /// All of them, ordered by mesh and name.
    pub(crate) fn list(&self) -> Vec<ConnectedProxy> {
        lock(&self.streams).values().map(|live| live.shown()).collect()
    }
}

/// A panic while one of these locks is held leaves nothing half done: go on with the value.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use model::Kind;

    use super::*;

    #[test]
    fn a_newer_stream_takes_the_place_and_keeps_it() {
        let proxies = Proxies::default();
        let key = Key::new(Kind::DATAPLANE, "default", "web");
        let enter = |seconds: i64| {
            let since = Timestamp::from_unix(1_800_000_000 + seconds, 0);
            proxies.enter(key.clone(), None, Struct::default(), since)
        };
        let older = enter(0).unwrap();
        let newer = enter(1).unwrap();
        assert!(older.live.replaced.is_cancelled());
        drop(older);
        assert!(!newer.live.replaced.is_cancelled());
        assert_eq!(proxies.list().len(), 1);
        assert_eq!(enter(2).err(), Some(Contested(key.clone())), "two that push each other out");
        let newest = enter(30).unwrap();
        assert!(newer.live.replaced.is_cancelled());
        drop((newer, newest));
        assert!(proxies.get(&key).is_none());
        drop(enter(31).unwrap());
        drop(enter(32).unwrap());
    }
}
