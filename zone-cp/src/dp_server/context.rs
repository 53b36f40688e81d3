//! What every request and stream of the server shares.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::OnceLock;

use model::{Key, Timestamp};
use runtime::Tasks;
use tokio::sync::{Mutex, MutexGuard, Semaphore};

use super::admin::Admin;
use super::credentials::Credentials;
use super::proxies::Proxies;
use super::views::Views;
use super::{Deps, DpServerConfig};

/// Registrations at the same time; those of one proxy wait for each other.
const TURNS: usize = 64;

/// Reads the time; injected where tests set it.
pub(crate) type Clock = fn() -> Timestamp;

/// The time of this host.
pub(crate) fn system_clock() -> Timestamp {
    Timestamp::from_system(std::time::SystemTime::now())
}

/// What every request and stream of the server shares.
pub(crate) struct Context {
    pub(crate) config: DpServerConfig,
    pub(crate) deps: Deps,
    pub(crate) tasks: Tasks,
    pub(crate) now: Clock,
    pub(crate) credentials: Credentials,
    pub(crate) proxies: Proxies,
    pub(crate) views: Views,
    pub(crate) admin: Admin,
    pub(crate) turns: Turns,
    /// Configurations that are made at the same time: one core is left to everything else.
    pub(crate) generators: Semaphore,
    /// Where the server listens, as soon as it does.
    pub(crate) address: OnceLock<SocketAddr>,
}

impl Context {
    /// The port that proxies are told to dial.
    pub(crate) fn xds_port(&self) -> u16 {
        let bound = || self.address.get().map_or(0, SocketAddr::port);
        self.config.xds_port.unwrap_or_else(bound)
    }
}

/// As many configurations are made at the same time as there are cores, less one.
pub(crate) fn generators() -> Semaphore {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Semaphore::new(cores.saturating_sub(1).max(1))
}

/// Lets one stream of a proxy at a time register or remove it.
pub(crate) struct Turns([Mutex<()>; TURNS]);

impl Turns {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }

    /// Waits for the turn of a proxy; it lasts until the guard is dropped.
    pub(crate) async fn of(&self, key: &Key) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % TURNS as u64).unwrap_or_default();
        self.0.get(at).unwrap_or(&self.0[0]).lock().await
    }
}
