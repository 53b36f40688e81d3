//! Whether a token lets its bearer be a dataplane.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use auth::keys::{Audience, revoked_ids};
use auth::token::{self, ClaimMismatch, DataplaneClaims, SigningKey, TokenError};
use model::spec::{MeshIdentity, Secret};
use model::{Key, Kind, Resource, labels};
use store::{Revision, Snapshot};

use super::context::Clock;

/// Public keys that are remembered. A mesh has one signing key, or a few while they are rotated.
const MAX_KEYS: usize = 1024;

/// Why a bearer is not the dataplane it says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// No token.
    #[error("a dataplane token is required: none was given")]
    NoToken,
    /// A token that is not valid.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The token of somebody else.
    #[error(transparent)]
    Claims(#[from] ClaimMismatch),
    /// The token lets its bearer choose any workload, and with it any identity.
    #[error("MeshIdentity {0:?} names workloads: it requires a workload-bound token")]
    WorkloadToken(String),
    /// No identity can be made.
    #[error("MeshIdentity {0:?} names workloads, and the dataplane has no label kuma.io/workload")]
    NoWorkload(String),
}

impl Refusal {
    /// Whether the token is good, but not for this dataplane.
    pub(crate) fn is_about_identity(&self) -> bool {
        matches!(self, Self::Claims(_) | Self::WorkloadToken(_) | Self::NoWorkload(_))
    }

    /// What a stream is ended with.
    pub(crate) fn status(&self) -> tonic::Status {
        match self {
            refusal if refusal.is_about_identity() => tonic::Status::permission_denied(refusal.to_string()),
            refusal => tonic::Status::unauthenticated(refusal.to_string()),
        }
    }
}

/// Checks tokens against the signing keys and revocations of a snapshot.
pub(crate) struct Credentials {
    required: bool,
    now: Clock,
    /// Public halves of signing keys, because to read a private key costs as much as to verify ten tokens.
    public: Mutex<BTreeMap<Key, (Revision, Arc<str>)>>,
}

impl Credentials {
    /// `required`: whether a token is needed at all.
    pub(crate) fn new(required: bool, now: Clock) -> Self {
        Self { required, now, public: Mutex::default() }
    }

    /// Whether the bearer of a token may be this dataplane, and can be what an identity makes of it.
    pub(crate) fn check(
        &self,
        snapshot: &Snapshot,
        token: Option<&str>,
        dataplane: &Resource,
    ) -> Result<(), Refusal> {
        let has_workload = dataplane.label(labels::WORKLOAD).is_some_and(|workload| !workload.is_empty());
        match identity_by_workload(snapshot, dataplane) {
            Some(identity) if !has_workload => Err(Refusal::NoWorkload(identity.to_owned())),
            _ => self.check_token(snapshot, token, dataplane),
        }
    }

    /// Whether the bearer of a token may be this dataplane.
    pub(crate) fn check_token(
        &self,
        snapshot: &Snapshot,
        token: Option<&str>,
        dataplane: &Resource,
    ) -> Result<(), Refusal> {
        if !self.required {
            return Ok(());
        }
        let token = token.filter(|token| !token.is_empty()).ok_or(Refusal::NoToken)?;
        let audience = Audience::Dataplane { mesh: dataplane.mesh().to_owned() };
        let secret = |name: &str| Key::new(Kind::SECRET, dataplane.mesh(), name);
        let verified = token::verify::<DataplaneClaims>(
            token,
            |kid| {
                let serial = kid.parse().ok()?;
                self.public_key(snapshot, &secret(&audience.signing_key(serial)))
            },
            |id| {
                let list = secret_text(snapshot, &secret(&audience.revocations())).unwrap_or_default();
                revoked_ids(&list).contains(id)
            },
            (self.now)().inner(),
        )?;
        let claims = verified.claims;
        claims.check(dataplane.mesh(), dataplane.name(), "dataplane", dataplane.labels())?;
        match identity_by_workload(snapshot, dataplane) {
            Some(identity) if claims.workload.is_empty() => Err(Refusal::WorkloadToken(identity.to_owned())),
            _ => Ok(()),
        }
    }

    /// Whether a token that was good when its stream began has been taken back since: revoked, or its key removed.
    /// A token that has merely expired still is the bearer's; it will need a new one for its next stream.
    pub(crate) fn recheck(
        &self,
        snapshot: &Snapshot,
        token: Option<&str>,
        dataplane: &Resource,
    ) -> Result<(), Refusal> {
        match self.check_token(snapshot, token, dataplane) {
            Err(Refusal::Token(TokenError::Expired(_))) => Ok(()),
            checked => checked,
        }
    }

    fn public_key(&self, snapshot: &Snapshot, key: &Key) -> Option<String> {
        let revision = snapshot.get(key)?.revision;
        let mut held = self.public.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, public)) = held.get(key).filter(|(of, _)| *of == revision) {
            return Some(public.to_string());
        }
        let private = secret_text(snapshot, key)?;
        let public = SigningKey::from_pem(&private).ok()?.public_pem().to_owned();
        if held.len() >= MAX_KEYS {
            held.clear();
        }
        held.insert(key.clone(), (revision, public.as_str().into()));
        Some(public)
    }
}

/// What the tokens of a mesh are checked with: changes when a key or the list of revocations does.
pub(crate) fn stamp(snapshot: &Snapshot, mesh: &str) -> Vec<Revision> {
    let audience = Audience::Dataplane { mesh: mesh.to_owned() };
    let revocations = audience.revocations();
    let secrets = snapshot.in_mesh(Kind::SECRET, mesh);
    let ours =
        secrets.filter(|secret| audience.serial_of(secret.name()).is_some() || secret.name() == revocations);
    ours.filter_map(|secret| Some(snapshot.get(secret.key())?.revision)).collect()
}

fn secret_text(snapshot: &Snapshot, key: &Key) -> Option<String> {
    let data = snapshot.resource(key)?.spec::<Secret>().ok()?.data.as_ref()?;
    String::from_utf8(data.clone()).ok()
}

/// Name of the MeshIdentity that a dataplane gets, if its SPIFFE ids depend on the workload: of those that select
/// it, the one with most labels, then the smallest name.
fn identity_by_workload<'a>(snapshot: &'a Snapshot, dataplane: &'a Resource) -> Option<&'a str> {
    let selecting = snapshot.in_mesh(Kind::MESH_IDENTITY, dataplane.mesh()).filter_map(|resource| {
        let spec = resource.spec::<MeshIdentity>().ok()?;
        let selector = spec.selector.as_ref()?.dataplane.as_ref()?;
        selector.selects(dataplane).then_some((selector.match_labels.len(), resource.name(), spec))
    });
    let best = selecting.max_by(|a, b| a.0.cmp(&b.0).then_with(|| b.1.cmp(a.1)));
    let (_, name, spec) = best?;
    let path = spec.path_template();
    (path.contains(".Workload") || path.contains(labels::WORKLOAD)).then_some(name)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::Timestamp;
    use model::spec::{IdentitySelector, LabelSelector};

    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_unix(1_800_000_000, 0)
    }

    fn with_secret(snapshot: Snapshot, name: &str, text: &str) -> Snapshot {
        let spec = Secret { data: Some(text.as_bytes().to_vec()) };
        snapshot.with(Resource::builder(Key::new(Kind::SECRET, "default", name)).spec(&spec).build())
    }

    fn dataplane(name: &str) -> Resource {
        Resource::builder(Key::new(Kind::DATAPLANE, "default", name)).label("app", "web").build()
    }

    fn issue(key: &SigningKey, claims: &DataplaneClaims, at: Timestamp) -> auth::token::Issued {
        token::issue(key, "1", claims, at.inner(), Duration::from_secs(60)).unwrap()
    }

    #[test]
    fn only_a_good_token_of_this_dataplane_is_taken() {
        let key = SigningKey::generate().unwrap();
        let name = "dataplane-token-signing-key-default-1";
        let snapshot = with_secret(Snapshot::default(), name, key.private_pem().expose());
        let credentials = Credentials::new(true, now);
        let check = |snapshot: &Snapshot, token: &str| {
            credentials.check(snapshot, Some(token).filter(|token| !token.is_empty()), &dataplane("web"))
        };
        let mine = DataplaneClaims { name: "web".into(), ..Default::default() };
        let good = issue(&key, &mine, now());
        check(&snapshot, &good.token).unwrap();
        check(&snapshot, &good.token).unwrap();
        let expired = issue(&key, &mine, Timestamp::from_unix(1_700_000_000, 0)).token;
        let theirs = issue(&key, &DataplaneClaims { name: "db".into(), ..Default::default() }, now()).token;
        let forged = issue(&SigningKey::generate().unwrap(), &mine, now()).token;
        let mut parts = good.token.split('.').collect::<Vec<_>>();
        parts[0] = "eyJhbGciOiJub25lIiwia2lkIjoiMSJ9";
        parts[2] = "";
        assert!(matches!(check(&snapshot, ""), Err(Refusal::NoToken)));
        assert!(matches!(check(&snapshot, &expired), Err(Refusal::Token(TokenError::Expired(_)))));
        assert!(matches!(check(&snapshot, &theirs), Err(Refusal::Claims(_))));
        assert!(matches!(check(&snapshot, &forged), Err(Refusal::Token(TokenError::Signature))));
        assert_eq!(check(&snapshot, &parts.join(".")), Err(Refusal::Token(TokenError::Unsigned)));
        assert!(matches!(
            check(&Snapshot::default(), &good.token),
            Err(Refusal::Token(TokenError::UnknownKey(_)))
        ));
        let revoked = with_secret(snapshot.clone(), "dataplane-token-revocations-default", &good.id);
        assert_eq!(check(&revoked, &good.token), Err(Refusal::Token(TokenError::Revoked(good.id.clone()))));
        let replaced = SigningKey::generate().unwrap();
        let rotated = with_secret(snapshot, name, replaced.private_pem().expose());
        assert_eq!(check(&rotated, &good.token), Err(Refusal::Token(TokenError::Signature)));
        Credentials::new(false, now).check(&rotated, None, &dataplane("web")).unwrap();
    }

    #[test]
    fn an_identity_by_workload_wants_a_token_bound_to_one() {
        let key = SigningKey::generate().unwrap();
        let snapshot = with_secret(
            Snapshot::default(),
            "dataplane-token-signing-key-default-1",
            key.private_pem().expose(),
        );
        let identity = MeshIdentity {
            selector: Some(IdentitySelector { dataplane: Some(LabelSelector::default()) }),
            ..Default::default()
        };
        let identity =
            Resource::builder(Key::new(Kind::MESH_IDENTITY, "default", "id")).spec(&identity).build();
        let snapshot = snapshot.with(identity);
        let credentials = Credentials::new(true, now);
        let any = issue(&key, &DataplaneClaims::default(), now()).token;
        let bound =
            issue(&key, &DataplaneClaims { workload: "web".into(), ..Default::default() }, now()).token;
        let labelled = dataplane("web").to_builder().label(labels::WORKLOAD, "web").build();
        let refused = |token: &str, dataplane: &Resource| {
            credentials.check(&snapshot, Some(token), dataplane).unwrap_err()
        };
        assert_eq!(refused(&any, &labelled), Refusal::WorkloadToken("id".into()));
        assert_eq!(refused(&bound, &dataplane("web")), Refusal::NoWorkload("id".into()));
        credentials.check(&snapshot, Some(&bound), &labelled).unwrap();
    }
}
