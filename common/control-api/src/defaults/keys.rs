//! Signing keys of tokens, kept as secrets.

use auth::keys::Audience;
use auth::token::{SigningKey, SigningKeyError};
use model::labels::Plane;
use model::spec::Secret;
use model::{Key, Kind, Resource};
use store::{Backend, StoreError};

use super::{DefaultsError, create, stamped};

/// Serial number of an audience's first key.
const FIRST: u64 = 1;

/// The key of a secret of an audience.
pub(crate) fn secret_key(audience: &Audience, name: &str) -> Key {
    match audience {
        Audience::User | Audience::Zone => Key::global(Kind::GLOBAL_SECRET, name),
        Audience::Dataplane { mesh } => Key::new(Kind::SECRET, mesh, name),
    }
}

/// The text in a secret; `None` when it is no text or no secret.
pub(crate) fn text_of(resource: &Resource) -> Option<String> {
    let data = resource.spec::<Secret>().ok()?.data.clone()?;
    String::from_utf8(data).ok().filter(|text| !text.is_empty())
}

/// Makes sure that an audience has a key to sign with; answers whether one was made.
///
/// # Errors
/// The store's, or that no key could be drawn.
pub async fn ensure_signing_key(
    store: &dyn Backend,
    plane: &Plane,
    audience: &Audience,
) -> Result<bool, DefaultsError> {
    match missing(store, plane, audience).await? {
        Some(key) => Ok(create(store, key).await?),
        None => Ok(false),
    }
}

/// An audience's first key as a secret; `None` when it has one.
pub(super) async fn missing(
    store: &dyn Backend,
    plane: &Plane,
    audience: &Audience,
) -> Result<Option<Resource>, DefaultsError> {
    if latest_serial(store, audience).await?.is_some() {
        return Ok(None);
    }
    let key = draw().await?;
    let spec = Secret { data: Some(key.private_pem().expose().as_bytes().to_vec()) };
    let at = secret_key(audience, &audience.signing_key(FIRST));
    Ok(Some(stamped(plane, at).spec(&spec).build()))
}

/// The key that signs an audience's tokens, with its serial number.
///
/// # Errors
/// The store's, or that what is stored is no key.
pub async fn latest_signing_key(
    store: &dyn Backend,
    audience: &Audience,
) -> Result<Option<(u64, SigningKey)>, DefaultsError> {
    let Some(serial) = latest_serial(store, audience).await? else { return Ok(None) };
    let Some(stored) = store.get(&secret_key(audience, &audience.signing_key(serial))).await? else {
        return Ok(None);
    };
    let pem = text_of(&stored.resource).ok_or(SigningKeyError::NotRsa)?;
    Ok(Some((serial, SigningKey::from_pem(&pem)?)))
}

async fn latest_serial(store: &dyn Backend, audience: &Audience) -> Result<Option<u64>, StoreError> {
    let any = secret_key(audience, "");
    let mesh = any.kind.is_mesh_scoped().then_some(&*any.mesh);
    let mut latest = None;
    let mut start = None;
    loop {
        let page = store.list(any.kind, mesh, start.as_ref(), usize::MAX).await?;
        latest = latest.max(audience.latest(page.items.iter().map(|stored| stored.resource.name())));
        start = page.next;
        if start.is_none() {
            return Ok(latest);
        }
    }
}

/// Draws a key on a thread that may take its time.
async fn draw() -> Result<SigningKey, SigningKeyError> {
    tokio::task::spawn_blocking(SigningKey::generate).await.unwrap_or(Err(SigningKeyError::Generation))
}
