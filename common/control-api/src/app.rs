//! What every handler shares: the snapshot to read from, the store to write to, and who may do what.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use auth::access::{Permission, User};
use model::labels::Plane;
use model::{Key, Kind, Timestamp};
use store::{Revision, Snapshot};
use tokio_util::sync::CancellationToken;

use crate::authn::UserKeys;
use crate::problem::Problem;
use crate::tally::Tally;
use crate::{Api, ApiConfig};

/// How long an answer waits for the index to show a write. The write has happened: after this time the
/// caller hears so, and may not read it yet.
const SETTLE: Duration = Duration::from_secs(2);

/// Title of every answer about a mesh that is not there.
const NO_MESH: &str = "Failed to retrieve Mesh";

/// The state of the API.
pub(crate) struct App {
    pub(crate) config: ApiConfig,
    pub(crate) api: Api,
    pub(crate) user_keys: UserKeys,
    tally: Mutex<Tally>,
    /// Cancelled when the control plane stops: whatever goes on for long ends then.
    pub(crate) end: CancellationToken,
}

/// A shared [`App`].
pub(crate) type Shared = Arc<App>;

impl App {
    pub(crate) fn new(config: ApiConfig, api: Api, end: CancellationToken) -> Shared {
        Arc::new(Self { config, api, user_keys: UserKeys::default(), tally: Mutex::default(), end })
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.api.snapshots.borrow())
    }

    /// Reads the counts of the newest snapshot.
    pub(crate) fn tally<T>(&self, read: impl FnOnce(&Tally) -> T) -> T {
        let snapshot = self.snapshot();
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.advance(&snapshot);
        read(&tally)
    }

    /// Counts changes as they come, so that no old snapshot is kept for counting it later. Whoever holds a
    /// receiver keeps the index running, so it ends with the control plane.
    pub(crate) async fn count_changes(self: Arc<Self>) {
        let mut snapshots = self.api.snapshots.clone();
        loop {
            snapshots.mark_unchanged();
            self.tally(|_| ());
            tokio::select! {
                () = self.end.cancelled() => return,
                changed = snapshots.changed() => if changed.is_err() {
                    return;
                },
            }
        }
    }

    pub(crate) fn plane(&self) -> &Plane {
        &self.api.plane
    }

    pub(crate) fn now() -> Timestamp {
        Timestamp::from_system(SystemTime::now())
    }

    /// Refuses a path whose mesh is not there.
    pub(crate) fn require_mesh(snapshot: &Snapshot, mesh: &str) -> Result<(), Problem> {
        match snapshot.resource(&Key::global(Kind::MESH, mesh)) {
            Some(_) => Ok(()),
            None => Err(Problem::not_found(NO_MESH)),
        }
    }

    /// Refuses users who may not see or write resources of a kind.
    pub(crate) fn require_access(&self, user: &User, kind: Kind) -> Result<(), Problem> {
        if kind.admin_only {
            let thing = format!("the resource of type {:?}", kind.name);
            self.config.access.check(Permission::AdminResources, user, &thing)?;
        }
        Ok(())
    }

    /// Refuses writes of kinds that are not written here.
    pub(crate) fn require_writable(&self, kind: Kind) -> Result<(), Problem> {
        if self.config.read_only {
            return Err(Problem::not_allowed("This control plane's API is read-only (api.readOnly).\n"));
        }
        if kind.read_only {
            return Err(Problem::not_allowed(format!(
                "{} are written by control planes only.\n",
                kind.plural
            )));
        }
        if !self.plane().is_read_only(kind) {
            return Ok(());
        }
        let detail = match self.plane() {
            Plane::Global => format!(
                "{} belong to zones: on the global control plane they can only be read. Send the request to the zone control plane that the resource is of.\n",
                kind.plural
            ),
            Plane::Zone { .. } => format!(
                "{} belong to the global control plane: in a zone that is joined to one they can only be read. Send the request to the global control plane, which passes it on to all zones.\n",
                kind.plural
            ),
        };
        Err(Problem::not_allowed(detail))
    }

    /// Waits until the index shows a write, so that whoever wrote it reads it.
    pub(crate) async fn settle(&self, revision: Revision) {
        let mut snapshots = self.api.snapshots.clone();
        let shown = snapshots.wait_for(|snapshot| snapshot.revision() >= revision);
        if !matches!(tokio::time::timeout(SETTLE, shown).await, Ok(Ok(_))) {
            tracing::warn!(%revision, "the index is behind the store");
        }
    }
}
