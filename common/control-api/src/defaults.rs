//! What a control plane puts into its store: on its first start, and with every new mesh.

mod keys;
mod policies;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use auth::access::{ADMIN, User};
use auth::keys::Audience;
use auth::token::{IssueError, SigningKeyError, UserClaims, issue};
use model::labels::{self, Plane};
use model::spec::{Mesh, Secret};
use model::{Key, Kind, Labels, Payload, Resource, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Backend, Op, Snapshot, Store, StoreError};

pub use keys::{ensure_signing_key, latest_signing_key};

/// The global secret with the administrator's user token.
pub const ADMIN_TOKEN: &str = "admin-user-token";
/// The mesh of the first start.
const DEFAULT_MESH: &str = "default";
/// How long tokens are valid that nobody gave a validity: ten years of 365 days.
pub(crate) const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The section `defaults`: what is created on start.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct DefaultsConfig {
    /// Do not create the mesh `default`.
    pub skip_mesh_creation: bool,
    /// Do not create hostname generators.
    pub skip_hostname_generators: bool,
}

/// Why default resources are not there.
#[derive(Debug, thiserror::Error)]
pub enum DefaultsError {
    /// The store's.
    #[error("cannot store a default resource")]
    Store(#[from] StoreError),
    /// No key could be drawn, or a stored one is none.
    #[error("a signing key cannot be used")]
    Key(#[from] SigningKeyError),
    /// The administrator's token could not be signed.
    #[error("cannot issue the administrator's token")]
    Token(#[from] IssueError),
}

/// Creates what a control plane of this kind needs and the store lacks: signing keys, the administrator's
/// token, the default mesh, hostname generators. Existing resources stay as they are. Answers the
/// administrator's token, if this control plane has one.
///
/// # Errors
/// The store's, or those of a key.
pub async fn ensure(
    store: &Store,
    plane: &Plane,
    config: &DefaultsConfig,
) -> Result<Option<String>, DefaultsError> {
    let mut token = None;
    // A zone joined to a global takes keys, tokens and meshes from there.
    if !plane.is_federated_zone() {
        ensure_signing_key(&**store, plane, &Audience::User).await?;
        if *plane == Plane::Global {
            ensure_signing_key(&**store, plane, &Audience::Zone).await?;
        }
        token = Some(ensure_admin_token(&**store, plane).await?);
        if !config.skip_mesh_creation {
            let mesh = stamped(plane, Key::global(Kind::MESH, DEFAULT_MESH)).spec(&Mesh::default()).build();
            if create(&**store, mesh).await? {
                ensure_mesh(&**store, plane, DEFAULT_MESH, &[]).await?;
            }
        }
    }
    if !config.skip_hostname_generators {
        for (name, spec) in policies::hostname_generators(plane) {
            create(&**store, of_json(plane, Key::global(Kind::HOSTNAME_GENERATOR, name), &spec)).await?;
        }
    }
    Ok(token)
}

/// Creates what belongs to a new mesh: the signing key of its proxies' tokens, and default policies unless
/// `skip` names their kind or `*`.
///
/// # Errors
/// The store's, or those of a key.
pub async fn ensure_mesh(
    store: &dyn Backend,
    plane: &Plane,
    mesh: &str,
    skip: &[String],
) -> Result<(), DefaultsError> {
    ensure_signing_key(store, plane, &Audience::Dataplane { mesh: mesh.into() }).await?;
    for (kind, name, spec) in policies::of_mesh(mesh) {
        if !skip.iter().any(|skipped| skipped == "*" || skipped == kind.name) {
            create(store, of_json(plane, Key::new(kind, mesh, &name), &spec)).await?;
        }
    }
    Ok(())
}

/// The administrator's token, if it was created here or came from the global.
pub fn admin_token(snapshot: &Snapshot) -> Option<String> {
    let resource = snapshot.resource(&Key::global(Kind::GLOBAL_SECRET, ADMIN_TOKEN))?;
    keys::text_of(resource)
}

async fn ensure_admin_token(store: &dyn Backend, plane: &Plane) -> Result<String, DefaultsError> {
    let key = Key::global(Kind::GLOBAL_SECRET, ADMIN_TOKEN);
    let held = |stored: Option<store::Stored>| stored.and_then(|stored| keys::text_of(&stored.resource));
    if let Some(token) = held(store.get(&key).await?) {
        return Ok(token);
    }
    let Some((serial, signer)) = latest_signing_key(store, &Audience::User).await? else {
        return Err(SigningKeyError::NotRsa.into());
    };
    let claims = UserClaims { name: ADMIN.into(), groups: User::admin().groups };
    let issued = issue(&signer, &serial.to_string(), &claims, SystemTime::now().into(), TEN_YEARS)?;
    let spec = Secret { data: Some(issued.token.clone().into_bytes()) };
    if create(store, stamped(plane, key.clone()).spec(&spec).build()).await? {
        return Ok(issued.token);
    }
    // Another instance was faster: its token counts.
    Ok(held(store.get(&key).await?).unwrap_or(issued.token))
}

/// A resource as this control plane authors it, created now.
fn stamped(plane: &Plane, key: Key) -> model::resource::Builder {
    let labels = labels::compute(plane, key.kind, &key.mesh, &key.name, &Labels::new(), None);
    Resource::builder(key).labels(labels).at(Timestamp::from_system(SystemTime::now()))
}

fn of_json(plane: &Plane, key: Key, spec: &Value) -> Resource {
    let mut builder = stamped(plane, key);
    builder.spec = Payload::from_bytes(spec.to_string());
    builder.build()
}

/// Creates a resource unless it exists; answers whether it did not.
async fn create(store: &dyn Backend, resource: Resource) -> Result<bool, StoreError> {
    match store.commit(vec![Op::Put(Arc::new(resource), store::Expect::Absent)]).await {
        Ok(_) => Ok(true),
        Err(StoreError::Conflict { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
