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
pub(crate) use keys::{secret_key, text_of};

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
    for resource in of_mesh(store, plane, mesh, skip).await? {
        create(store, resource).await?;
    }
    Ok(())
}

/// What belongs to a new mesh, to be created with it.
pub(crate) async fn of_mesh(
    store: &dyn Backend,
    plane: &Plane,
    mesh: &str,
    skip: &[String],
) -> Result<Vec<Resource>, DefaultsError> {
    let audience = Audience::Dataplane { mesh: mesh.into() };
    let mut resources: Vec<_> = keys::missing(store, plane, &audience).await?.into_iter().collect();
    for (kind, name, spec) in policies::of_mesh(mesh) {
        if !skip.iter().any(|skipped| skipped == "*" || skipped == kind.name) {
            resources.push(of_json(plane, Key::new(kind, mesh, &name), &spec));
        }
    }
    Ok(resources)
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

#[cfg(test)]
mod tests {
    use store::MemoryStore;

    use super::*;

    async fn names(store: &Store, kind: Kind) -> Vec<String> {
        let page = store.list(kind, None, None, 100).await.unwrap();
        page.items.iter().map(|stored| stored.resource.name().to_owned()).collect()
    }

    #[tokio::test]
    async fn a_global_starts_with_keys_a_mesh_and_its_policies() {
        let store: Store = Arc::new(MemoryStore::new());
        let config = DefaultsConfig::default();
        let token = ensure(&store, &Plane::Global, &config).await.unwrap();
        assert_eq!(
            names(&store, Kind::GLOBAL_SECRET).await,
            [ADMIN_TOKEN, "user-token-signing-key-1", "zone-token-signing-key-1"]
        );
        assert_eq!(names(&store, Kind::SECRET).await, ["dataplane-token-signing-key-default-1"]);
        assert_eq!(
            names(&store, Kind::MESH_TIMEOUT).await,
            ["mesh-timeout-all-default", "mesh-timeout-to-all-default"]
        );
        assert_eq!(names(&store, Kind::HOSTNAME_GENERATOR).await.len(), 5);
        let revision = store.list(Kind::MESH, None, None, 1).await.unwrap().revision;
        assert_eq!(ensure(&store, &Plane::Global, &config).await.unwrap(), token, "a second start");
        assert_eq!(store.list(Kind::MESH, None, None, 1).await.unwrap().revision, revision);
    }

    #[tokio::test]
    async fn a_joined_zone_makes_only_hostname_generators() {
        let store: Store = Arc::new(MemoryStore::new());
        let plane = Plane::Zone { name: "east".into(), federated: true };
        assert_eq!(ensure(&store, &plane, &DefaultsConfig::default()).await.unwrap(), None);
        for kind in [Kind::GLOBAL_SECRET, Kind::SECRET, Kind::MESH, Kind::MESH_TIMEOUT] {
            assert!(names(&store, kind).await.is_empty(), "{kind}");
        }
        assert_eq!(names(&store, Kind::HOSTNAME_GENERATOR).await.len(), 2);
    }

    #[tokio::test]
    async fn policies_that_a_mesh_does_not_want_are_left_out() {
        let store: Store = Arc::new(MemoryStore::new());
        let plane = Plane::Zone { name: "default".into(), federated: false };
        ensure_mesh(&*store, &plane, "a", &["MeshTimeout".into()]).await.unwrap();
        ensure_mesh(&*store, &plane, "b", &["*".into()]).await.unwrap();
        assert!(names(&store, Kind::MESH_TIMEOUT).await.is_empty());
        assert_eq!(names(&store, Kind::MESH_RETRY).await, ["mesh-retry-all-a"]);
        assert_eq!(names(&store, Kind::SECRET).await.len(), 2);
    }
}
