//! The way to the global: one connection that carries both synchronisation streams, the questions to proxies and
//! signs of life, and that is made again with growing pauses whenever it ends. Nothing is deleted meanwhile.

mod connect;
mod metrics;
mod questions;
mod session;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use control_api::ProxyInspector;
use kds::{Outgoing, View};
use model::Timestamp;
use rand::Rng;
use runtime::tls::Trust;
use runtime::{OnExit, Tasks};
use store::Store;
use store::index::SnapshotReceiver;
use tokio::sync::watch;

pub use connect::GlobalAddress;
pub use metrics::LinkMetrics;

/// Pauses between attempts double from the first to the last, each one jittered.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// A connection that lasted this long begins with the first pause again.
const LASTED: Duration = Duration::from_secs(60);

/// How to reach the global, and as whom.
#[derive(Clone, Debug)]
pub struct Link {
    /// Where it listens.
    pub address: GlobalAddress,
    /// Whom to trust.
    pub trust: Trust,
    /// This zone's name.
    pub zone: String,
    /// The zone token.
    pub token: Option<runtime::config::Secret>,
    /// This control plane's configuration, JSON, secrets masked; the global shows it.
    pub config: String,
    /// Name of this instance.
    pub instance: String,
    /// Which store this is: two stores cannot be one zone.
    pub store_id: String,
}

/// What the link stands on.
#[derive(Clone)]
pub struct Deps {
    /// Where what arrives is written.
    pub store: Store,
    /// What is sent.
    pub snapshots: SnapshotReceiver,
    /// Who answers questions to proxies.
    pub proxies: Arc<dyn ProxyInspector>,
    /// What is counted.
    pub metrics: kds::Metrics,
    /// Holds mass removals by the global back.
    pub guard: kds::Guard,
}

/// Whether the zone is in step with the global.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Connected since.
    Connected(Timestamp),
    /// Not connected since; what is served is as old as that.
    Disconnected {
        /// Since when.
        since: Timestamp,
        /// Why.
        reason: String,
    },
}

fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}

/// Keeps the zone in step with the global until the process stops; answers how that stands.
pub fn spawn(tasks: &Tasks, link: Link, deps: Deps) -> watch::Receiver<LinkState> {
    let outgoing = Outgoing::FromZone { zone: link.zone.clone() };
    let (views, follow) = kds::view::follow(deps.snapshots.clone(), outgoing);
    tasks.spawn("kds views", OnExit::Shutdown, follow);
    let start = LinkState::Disconnected { since: now(), reason: "not connected yet".into() };
    let (state, states) = watch::channel(start);
    let stop = tasks.token();
    let work = keep(tasks.clone(), link, deps, views, state);
    tasks.spawn("kds", OnExit::Shutdown, async move {
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => {}
        }
    });
    states
}

async fn keep(
    tasks: Tasks,
    link: Link,
    deps: Deps,
    views: watch::Receiver<Arc<View>>,
    state: watch::Sender<LinkState>,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let began = Instant::now();
        let ended = session::run(&tasks, &link, &deps, &views, &state).await;
        let reason = match ended {
            Ok(()) => "the global closed the connection".to_owned(),
            Err(status) => format!("{:?}: {}", status.code(), status.message()),
        };
        if began.elapsed() >= LASTED {
            pause = FIRST_PAUSE;
        }
        tracing::warn!(global = %link.address, reason, retry_in = ?pause, "not connected to the global");
        state.send_modify(|state| {
            let since = match state {
                LinkState::Disconnected { since, .. } => *since,
                LinkState::Connected(_) => now(),
            };
            *state = LinkState::Disconnected { since, reason };
        });
        let jittered = pause.mul_f64(rand::rng().random_range(0.5..1.5));
        tokio::time::sleep(jittered).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}
