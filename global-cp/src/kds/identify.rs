//! Who a connection is: the zone's name from its headers, proven by a zone token.

use std::sync::Arc;
use std::time::SystemTime;

use auth::keys::{Audience, revoked_ids};
use auth::token::{SigningKey, TokenError, Verified, ZoneClaims, verify};
use model::spec::Secret;
use model::{Key, Kind, validation};
use serde::{Deserialize, Serialize};
use store::index::SnapshotReceiver;
use store::{Revision, Snapshot};
use tonic::Status;
use tonic::metadata::MetadataMap;

/// Scope that a zone control plane's token has when it is limited.
const SCOPE: &str = "cp";
/// Header with the zone's name.
const CLIENT_ID: &str = "client-id";
/// Header of our own zones: which store they are. Two stores under one name are two zones.
const STORE_ID: &str = "isthmus-store-id";

/// How zones prove who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ZoneAuth {
    /// By a zone token.
    #[default]
    Token,
    /// Not at all: whoever reaches the port can be any zone.
    None,
}

/// A connected zone control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) zone: String,
    pub(super) has_token: bool,
    pub(super) proof: Option<Proof>,
    pub(super) store_id: Option<String>,
}

/// The token that a zone proved itself with, as it can be taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proof {
    id: String,
    key_id: String,
    key: Option<Revision>,
}

impl Proof {
    /// Why the token is no longer good, though it was: revoked, or its key removed or replaced. A token that has merely
    /// expired still is the zone's; it needs a new one for its next stream.
    fn taken_back(&self, snapshot: &Snapshot) -> Option<TokenError> {
        if self.key.is_none() || revision(snapshot, &signing_key(&self.key_id)) != self.key {
            return Some(TokenError::UnknownKey(self.key_id.clone()));
        }
        is_revoked(snapshot, &self.id).then(|| TokenError::Revoked(self.id.clone()))
    }

    /// Waits until the token is taken back; answers the end of the zone's streams.
    async fn until_taken_back(&self, zone: &str, snapshots: &mut SnapshotReceiver) -> Status {
        // The list of revocations can be long and nearly every change is of something else.
        let mut seen = None;
        loop {
            let snapshot = Arc::clone(&snapshots.borrow_and_update());
            let now = (revision(&snapshot, &signing_key(&self.key_id)), revision(&snapshot, &revocations()));
            if seen.replace(now) != Some(now)
                && let Some(reason) = self.taken_back(&snapshot)
            {
                return Status::unauthenticated(format!("zone {zone:?}: {reason}"));
            }
            if snapshots.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

impl Caller {
    /// Waits until what the zone proved itself with is taken back; answers the end of its streams.
    pub(super) async fn until_taken_back(self, mut snapshots: SnapshotReceiver) -> Status {
        match &self.proof {
            Some(proof) => proof.until_taken_back(&self.zone, &mut snapshots).await,
            None => std::future::pending().await,
        }
    }
}

/// Reads and checks who calls.
pub(super) fn identify(
    auth: ZoneAuth,
    metadata: &MetadataMap,
    snapshot: &Snapshot,
    now: SystemTime,
) -> Result<Caller, Status> {
    let zone = header(metadata, CLIENT_ID)?
        .ok_or_else(|| Status::invalid_argument("the header client-id with the zone's name is missing"))?;
    if zone.len() > 63 || !validation::is_dns1035_label(zone) {
        return Err(Status::invalid_argument(format!(
            "client-id {zone:?} is no zone name: lower-case letters, digits and '-', starting with a letter"
        )));
    }
    let token =
        header(metadata, "authorization")?.map(|value| value.strip_prefix("Bearer ").unwrap_or(value));
    let proof = match (auth, token) {
        (ZoneAuth::None, _) => None,
        (ZoneAuth::Token, None) => {
            return Err(Status::unauthenticated(format!(
                "zone {zone:?} presents no token: issue one with `meshctl generate zone-token --zone {zone}`"
            )));
        }
        (ZoneAuth::Token, Some(token)) => Some(check_token(token, zone, snapshot, now)?),
    };
    let store_id = header(metadata, STORE_ID)?.map(ToOwned::to_owned);
    Ok(Caller { zone: zone.into(), has_token: token.is_some(), proof, store_id })
}

fn header<'a>(metadata: &'a MetadataMap, name: &'static str) -> Result<Option<&'a str>, Status> {
    let Some(value) = metadata.get(name) else { return Ok(None) };
    let text =
        value.to_str().map_err(|_| Status::invalid_argument(format!("the header {name} is no text")))?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

fn check_token(token: &str, zone: &str, snapshot: &Snapshot, now: SystemTime) -> Result<Proof, Status> {
    let verified: Verified<ZoneClaims> =
        verify(token, |key_id| public_key(snapshot, key_id), |id| is_revoked(snapshot, id), now.into())
            .map_err(|error| Status::unauthenticated(format!("zone {zone:?}: {error}")))?;
    let claims = verified.claims.check(zone, SCOPE);
    claims.map_err(|mismatch| Status::permission_denied(format!("zone {zone:?}: {mismatch}")))?;
    let key = revision(snapshot, &signing_key(&verified.key_id));
    Ok(Proof { id: verified.id, key_id: verified.key_id, key })
}

fn signing_key(key_id: &str) -> Key {
    // A token with another key id was refused.
    Key::global(Kind::GLOBAL_SECRET, &Audience::Zone.signing_key(key_id.parse().unwrap_or_default()))
}

fn revocations() -> Key {
    Key::global(Kind::GLOBAL_SECRET, &Audience::Zone.revocations())
}

fn revision(snapshot: &Snapshot, key: &Key) -> Option<Revision> {
    snapshot.get(key).map(|stored| stored.revision)
}

fn public_key(snapshot: &Snapshot, key_id: &str) -> Option<String> {
    let name = Audience::Zone.signing_key(key_id.parse().ok()?);
    let private = secret(snapshot, &name)?;
    public_key_of(&private).and_then(|pem| String::from_utf8(pem).ok())
}

fn is_revoked(snapshot: &Snapshot, id: &str) -> bool {
    let list = secret(snapshot, &Audience::Zone.revocations());
    list.is_some_and(|data| revoked_ids(&String::from_utf8_lossy(&data)).contains(id))
}

fn secret(snapshot: &Snapshot, name: &str) -> Option<Vec<u8>> {
    snapshot.resource(&Key::global(Kind::GLOBAL_SECRET, name))?.spec::<Secret>().ok()?.data.clone()
}

/// The public half of a private key in PEM.
pub(super) fn public_key_of(private_pem: &[u8]) -> Option<Vec<u8>> {
    let private = std::str::from_utf8(private_pem).ok()?;
    let key = SigningKey::from_pem(private).ok()?;
    Some(key.public_pem().as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use auth::token::issue;
    use model::Resource;
    use tonic::Code;

    use super::*;

    fn snapshot(serial: u64, key: &SigningKey) -> Snapshot {
        let secret = Secret { data: Some(key.private_pem().expose().as_bytes().to_vec()) };
        let key = Key::global(Kind::GLOBAL_SECRET, &Audience::Zone.signing_key(serial));
        Snapshot::default().with(Resource::builder(key).spec(&secret).build())
    }

    fn call(zone: &str, token: Option<&str>) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert(CLIENT_ID, zone.parse().unwrap());
        if let Some(token) = token {
            metadata.insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        metadata
    }

    #[test]
    fn only_the_zones_own_valid_token_opens() {
        let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let snapshot = snapshot(1, &key);
        let claims = |scope: &[&str]| ZoneClaims {
            zone: "east".into(),
            scope: scope.iter().map(|&scope| scope.to_owned()).collect(),
        };
        let token = |key: &SigningKey, kid: &str, scope: &[&str], at: SystemTime| {
            issue(key, kid, &claims(scope), at.into(), hour).unwrap().token
        };
        let good = token(&key, "1", &[SCOPE], now);
        let caller = identify(ZoneAuth::Token, &call("east", Some(&good)), &snapshot, now).unwrap();
        assert!(caller.has_token && caller.zone == "east");

        let (header, rest) = good.split_once('.').unwrap();
        let unsigned = format!("{header}.{}.", rest.split_once('.').unwrap().0);
        for (what, zone, token, code) in [
            ("another zone", "west", Some(good.clone()), Code::PermissionDenied),
            ("another use", "east", Some(token(&key, "1", &["ingress"], now)), Code::PermissionDenied),
            ("expired", "east", Some(token(&key, "1", &[], now - 2 * hour)), Code::Unauthenticated),
            ("another key", "east", Some(token(&other, "1", &[], now)), Code::Unauthenticated),
            ("unknown key", "east", Some(token(&key, "2", &[], now)), Code::Unauthenticated),
            ("no signature", "east", Some(unsigned), Code::Unauthenticated),
            ("none", "east", None, Code::Unauthenticated),
            ("no name", "East!", Some(good.clone()), Code::InvalidArgument),
        ] {
            let refused = identify(ZoneAuth::Token, &call(zone, token.as_deref()), &snapshot, now);
            assert_eq!(refused.unwrap_err().code(), code, "{what}");
        }
        let without = identify(ZoneAuth::Token, &MetadataMap::new(), &snapshot, now).unwrap_err();
        assert_eq!(without.code(), Code::InvalidArgument);
        assert!(identify(ZoneAuth::None, &call("west", None), &snapshot, now).is_ok());
    }
}
