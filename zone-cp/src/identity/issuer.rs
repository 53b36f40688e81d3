//! Issues certificates, keeps them, and tells when they are due for renewal.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use auth::pki::{Authority, PkiError, SpiffeId};
use model::spec::{MeshIdentity, ProviderType};
use model::{Key, Kind, Resource, Timestamp};
use proxy_config::{Identity, spiffe};
use runtime::{OnExit, Tasks};
use store::Snapshot;
use tokio::sync::{Notify, watch};

use super::authority::{AuthorityError, Material};
use super::lifetime;

/// Reads the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Longest sleep before the clock is read again: the host's clock may be set.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// Issues workload certificates to the proxies of a zone.
pub struct Issuer {
    zone: String,
    clock: Clock,
    state: Mutex<State>,
    generation: watch::Sender<u64>,
    earlier: Notify,
}

#[derive(Default)]
struct State {
    issued: BTreeMap<Key, Issued>,
    /// Authorities by MeshIdentity.
    authorities: BTreeMap<Key, Arc<Authority>>,
    /// What was last said to fail, by MeshIdentity: once each.
    failures: BTreeMap<Key, String>,
}

struct Issued {
    authority: Arc<Authority>,
    lifetime: Duration,
    renewal: Timestamp,
    identity: Arc<Identity>,
}

/// Why no certificate was issued.
#[derive(Debug, thiserror::Error)]
enum IssueError {
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error("the certificate of the authority has expired")]
    Expired,
}

impl Issuer {
    /// Has issued nothing yet.
    pub fn new(zone: impl Into<String>, clock: Clock) -> Self {
        Self {
            zone: zone.into(),
            clock,
            state: Mutex::default(),
            generation: watch::Sender::new(0),
            earlier: Notify::new(),
        }
    }

    /// The identity of a proxy, from its MeshIdentity: the same as before until that, its authority or the proxy's
    /// name changes, or it is due for renewal. `None` when no MeshIdentity that this zone signs for selects it.
    pub fn identity_of(&self, snapshot: &Snapshot, dataplane: &Resource) -> Option<Arc<Identity>> {
        let identity = spiffe::select(snapshot.in_mesh(Kind::MESH_IDENTITY, dataplane.mesh()), dataplane)?;
        let spec = identity.spec::<MeshIdentity>().ok()?;
        if spec.provider.r#type != ProviderType::Bundled {
            return None;
        }
        let id = spiffe::id(identity, dataplane, &self.zone)?;
        let issued = self.authority(snapshot, identity).map_err(IssueError::from).and_then(|authority| {
            let lifetime = lifetime::of(spec);
            match self.held(dataplane.key(), identity, &id, &authority, lifetime) {
                Some(held) => Ok(held),
                None => self.issue(dataplane.key(), identity, id, authority, lifetime),
            }
        });
        self.report(identity.key(), issued.as_ref().err());
        issued.ok()
    }

    /// Counts renewals: when the number grows, some identities are due. Ask [`Issuer::identity_of`] again for each
    /// proxy and compare; it answers the same `Arc` for those that are not.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Starts the one timer that waits for the earliest renewal.
    pub fn spawn(self: &Arc<Self>, tasks: &Tasks) {
        let issuer = Arc::clone(self);
        let token = tasks.token();
        tasks.spawn("identity renewal", OnExit::Shutdown, async move {
            loop {
                tokio::select! {
                    () = token.cancelled() => return,
                    () = issuer.earlier.notified() => {}
                    () = tokio::time::sleep(issuer.until_next()) => issuer.renew_due(),
                }
            }
        });
    }

    /// The certificate that a proxy holds, if it is still what it would get.
    fn held(
        &self,
        proxy: &Key,
        identity: &Resource,
        id: &str,
        authority: &Authority,
        lifetime: Duration,
    ) -> Option<Arc<Identity>> {
        let now = (self.clock)();
        let state = self.state();
        let held = state.issued.get(proxy)?;
        let same = held.identity.spiffe_id == id
            && identity.kri().as_ref() == Some(&held.identity.kri)
            && held.lifetime == lifetime
            && held.authority.certificate_pem() == authority.certificate_pem();
        (same && now < held.renewal).then(|| Arc::clone(&held.identity))
    }

    fn issue(
        &self,
        proxy: &Key,
        identity: &Resource,
        id: String,
        authority: Arc<Authority>,
        lifetime: Duration,
    ) -> Result<Arc<Identity>, IssueError> {
        let now = (self.clock)();
        // No certificate outlives its authority.
        let end = auth::pki::CertificateInfo::parse(authority.certificate_pem())?.validity.not_after;
        let left = Duration::try_from(end - now.inner()).unwrap_or_default().min(lifetime);
        let kri = identity.kri().filter(|_| !left.is_zero()).ok_or(IssueError::Expired)?;
        let issued = authority.issue_workload(&id.parse::<SpiffeId>()?, now.inner(), left)?;
        let made = Arc::new(Identity {
            kri,
            spiffe_id: id,
            certificate_pem: issued.chain_pem,
            private_key_pem: issued.key.expose().to_owned(),
            expires: now.plus(left),
        });
        let renewal = lifetime::renewal(proxy, now, left);
        let issued = Issued { authority, lifetime, renewal, identity: Arc::clone(&made) };
        let mut state = self.state();
        let earliest = state.issued.values().all(|other| renewal < other.renewal);
        state.issued.insert(proxy.clone(), issued);
        drop(state);
        if earliest {
            self.earlier.notify_one();
        }
        Ok(made)
    }

    /// The authority of a MeshIdentity, read again only when its certificate or key is another.
    fn authority(&self, snapshot: &Snapshot, identity: &Resource) -> Result<Arc<Authority>, AuthorityError> {
        let material = Material::read(snapshot, identity)?;
        let is_same = |held: &&Arc<Authority>| {
            held.certificate_pem() == material.certificate_pem && held.key().expose() == material.key_pem
        };
        if let Some(held) = self.state().authorities.get(identity.key()).filter(is_same) {
            return Ok(Arc::clone(held));
        }
        let authority = Arc::new(material.authority()?);
        self.state().authorities.insert(identity.key().clone(), Arc::clone(&authority));
        Ok(authority)
    }

    /// Logs a failure when it is another than the last one of the MeshIdentity.
    fn report(&self, identity: &Key, error: Option<&IssueError>) {
        let mut state = self.state();
        match error {
            None => {
                state.failures.remove(identity);
            }
            Some(error) => {
                let reason = error.to_string();
                if state.failures.get(identity) != Some(&reason) {
                    tracing::warn!(%identity, %reason, "cannot issue certificates");
                    state.failures.insert(identity.clone(), reason);
                }
            }
        }
    }

    fn until_next(&self) -> Duration {
        let earliest = self.state().issued.values().map(|issued| issued.renewal).min();
        earliest.map_or(LONGEST_SLEEP, |at| at.since((self.clock)())).min(LONGEST_SLEEP)
    }

    /// Forgets certificates that are due and says so: who still needs one asks.
    fn renew_due(&self) {
        let now = (self.clock)();
        let mut state = self.state();
        let before = state.issued.len();
        state.issued.retain(|_, issued| now < issued.renewal);
        let due = before - state.issued.len();
        drop(state);
        if due > 0 {
            tracing::debug!(certificates = due, "certificates are due for renewal");
            self.generation.send_modify(|generation| *generation += 1);
        }
    }

    /// A panic while it was locked leaves nothing half done.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
