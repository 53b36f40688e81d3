//! The authority behind admin endpoints: it signs what proxies serve with, and what this control plane shows.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use auth::pki::{Authority, PkiError, Validity};
use model::labels::{self, Plane};
use model::spec::{Dataplane, Secret};
use model::{Key, Kind, Labels, Resource};
use proxy_config::AdminTls;
use rustls::ClientConfig;
use store::{Op, Revision, Snapshot, Store, StoreError};
use tokio_rustls::TlsConnector;

use crate::dp_server::context::Clock;

/// GlobalSecret that holds the authority: certificate and key, PEM.
const SECRET: &str = "envoy-admin-ca";
/// Name that proxies look for in the certificate of a control plane.
const CLIENT: &str = "kuma-cp";
/// Of the authority and of what it signs: they live as long as the zone, because nothing would renew the
/// certificate of a proxy whose configuration does not change.
const LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Clocks of proxies may be behind by this much.
const SKEW: time::Duration = time::Duration::hours(1);
/// Certificates that are remembered: as many proxies as a zone has.
const MAX_CERTIFICATES: usize = 100_000;

/// Certificates for admin endpoints.
pub(crate) struct Admin {
    now: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The authority as of a revision of its secret.
    authority: Option<(Revision, Arc<Authority>)>,
    client: Option<TlsConnector>,
    /// Kept while the proxy is away: a reconnect must not change its configuration.
    certificates: BTreeMap<IpAddr, Arc<AdminTls>>,
}

impl Admin {
    pub(crate) fn new(now: Clock) -> Self {
        Self { now, state: Mutex::default() }
    }

    /// What a proxy serves its admin endpoint with; `None` before the authority is there.
    pub(crate) fn tls_of(&self, snapshot: &Snapshot, dataplane: &Resource) -> Option<Arc<AdminTls>> {
        let networking = dataplane.spec::<Dataplane>().ok()?.networking.as_ref()?;
        let address: IpAddr = networking.address.parse().ok()?;
        let mut state = self.lock();
        let authority = state.authority(snapshot)?;
        if let Some(held) = state.certificates.get(&address) {
            return Some(Arc::clone(held));
        }
        let issued = authority.issue_server("envoy-admin", &[address.to_string()], self.validity().ok()?);
        let issued =
            issued.inspect_err(|error| tracing::warn!(%error, "no certificate for an admin endpoint"));
        let issued = issued.ok()?;
        let tls = Arc::new(AdminTls {
            certificate_pem: issued.certificate_pem,
            private_key_pem: issued.key.expose().to_owned(),
            ca_pem: authority.certificate_pem().to_owned(),
        });
        if state.certificates.len() >= MAX_CERTIFICATES {
            state.certificates.clear();
        }
        state.certificates.insert(address, Arc::clone(&tls));
        Some(tls)
    }

    /// How this control plane connects to admin endpoints.
    pub(crate) fn connector(&self, snapshot: &Snapshot) -> Result<TlsConnector, String> {
        let mut state = self.lock();
        let authority =
            state.authority(snapshot).ok_or_else(|| format!("GlobalSecret {SECRET} is not there"))?;
        if let Some(client) = &state.client {
            return Ok(client.clone());
        }
        let config = self.client(&authority).map_err(|error| error.to_string())?;
        let client = TlsConnector::from(Arc::new(config));
        state.client = Some(client.clone());
        Ok(client)
    }

    fn client(&self, authority: &Authority) -> Result<ClientConfig, Box<dyn std::error::Error>> {
        let issued = authority.issue_client(CLIENT, self.validity()?)?;
        let trust = runtime::tls::Trust::CaPem(authority.certificate_pem().to_owned());
        Ok(runtime::tls::client_config(&trust, Some((&issued.chain_pem, issued.key.expose())))?)
    }

    fn validity(&self) -> Result<Validity, PkiError> {
        validity(self.now)
    }

    /// A panic while the lock is held leaves nothing half done: go on with the value.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The authority; with another one, everything it signed goes.
    fn authority(&mut self, snapshot: &Snapshot) -> Option<Arc<Authority>> {
        let stored = snapshot.get(&Key::global(Kind::GLOBAL_SECRET, SECRET))?;
        if let Some((_, held)) = self.authority.as_ref().filter(|(revision, _)| *revision == stored.revision)
        {
            return Some(Arc::clone(held));
        }
        let data = stored.resource.spec::<Secret>().ok()?.data.as_deref()?;
        let text = std::str::from_utf8(data).ok()?;
        let authority = Authority::from_pem(text, key_of(text)?);
        let authority =
            authority.inspect_err(|error| tracing::warn!(%error, secret = SECRET, "not an authority"));
        let authority = Arc::new(authority.ok()?);
        *self = Self { authority: Some((stored.revision, Arc::clone(&authority))), ..Self::default() };
        Some(authority)
    }
}

/// The part of a PEM text that is a private key.
fn key_of(text: &str) -> Option<&str> {
    let kinds = ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"];
    kinds.into_iter().find_map(|kind| text.find(&format!("-----BEGIN {kind}-----")).map(|at| &text[at..]))
}

fn validity(now: Clock) -> Result<Validity, PkiError> {
    let now = now().inner();
    let mut validity = Validity::starting(now, LIFE)?;
    validity.not_before = now - SKEW;
    Ok(validity)
}

/// Makes the authority of a zone that has none.
pub(crate) async fn ensure(store: Store, plane: Plane, now: Clock) {
    match create(&store, &plane, now).await {
        Ok(()) | Err(CreateError::Store(StoreError::Conflict { .. })) => {}
        Err(error) => tracing::warn!(%error, "admin endpoints are not served: no authority for them"),
    }
}

#[derive(Debug, thiserror::Error)]
enum CreateError {
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

async fn create(store: &Store, plane: &Plane, now: Clock) -> Result<(), CreateError> {
    let key = Key::global(Kind::GLOBAL_SECRET, SECRET);
    if store.get(&key).await?.is_some() {
        return Ok(());
    }
    let authority = Authority::generate(SECRET, None, validity(now)?)?;
    let text = format!("{}{}", authority.certificate_pem(), authority.key().expose());
    let labels = labels::compute(plane, Kind::GLOBAL_SECRET, "", SECRET, &Labels::new(), None);
    let secret = Secret { data: Some(text.into_bytes()) };
    let resource = Resource::builder(key).spec(&secret).labels(labels).at(now()).build();
    store.commit(vec![Op::create(resource)]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use model::{Payload, Timestamp};
    use store::MemoryStore;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_unix(1_800_000_000, 0)
    }

    #[tokio::test]
    async fn an_address_keeps_its_certificate_until_the_authority_changes() {
        let store: Store = Arc::new(MemoryStore::new());
        let plane = Plane::Zone { name: "east".into(), federated: true };
        ensure(Arc::clone(&store), plane.clone(), now).await;
        let key = Key::global(Kind::GLOBAL_SECRET, SECRET);
        let first = store.get(&key).await.unwrap().unwrap();
        ensure(Arc::clone(&store), plane, now).await;
        assert_eq!(store.get(&key).await.unwrap().unwrap().revision, first.revision);

        let document = serde_json::json!({"networking": {"address": "127.0.0.1"}});
        let mut dataplane = Resource::builder(Key::new(Kind::DATAPLANE, "default", "web"));
        dataplane.spec = Payload::from_json(Kind::DATAPLANE.format, &document).unwrap();
        let dataplane = dataplane.build();
        let admin = Admin::new(now);
        assert_eq!(admin.tls_of(&Snapshot::default(), &dataplane), None);
        let snapshot = Snapshot::default().with(Resource::clone(&first.resource));
        let held = admin.tls_of(&snapshot, &dataplane).unwrap();
        assert!(Arc::ptr_eq(&held, &admin.tls_of(&snapshot, &dataplane).unwrap()));
        assert!(admin.connector(&snapshot).is_ok());
        let again = snapshot.with(Resource::clone(&first.resource));
        assert!(!Arc::ptr_eq(&held, &admin.tls_of(&again, &dataplane).unwrap()));
    }
}
