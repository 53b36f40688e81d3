//! RS256 JSON Web Tokens of users, dataplanes and zones.
//!
//! `verify` goes by a fixed order, so that the error names the first thing wrong: shape, algorithm,
//! key, signature, then the claims. Nothing of an unsigned payload is looked at.

mod claims;
mod signing_key;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use time::{Duration, OffsetDateTime};

pub use claims::{ClaimMismatch, Claims, DataplaneClaims, UserClaims, ZoneClaims};
pub use signing_key::{SigningKey, SigningKeyError};

/// Tokens are valid from this long before they are issued, for verifiers whose clock is behind.
const NOT_BEFORE_SKEW: Duration = Duration::seconds(5);

/// A token whose signature and times have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<C> {
    /// Who the bearer is.
    pub claims: C,
    /// The token's own id (`jti`), the one that a revocation names.
    pub id: String,
    /// The serial number of the key that signed it (`kid`).
    pub key_id: String,
    /// The end of its validity.
    pub expires_at: OffsetDateTime,
}

/// Why a token was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a JWT, or without what every token of ours has.
    #[error("token is malformed: {0}")]
    Malformed(String),
    /// `alg` is `none`.
    #[error("token is not signed")]
    Unsigned,
    /// Signed by another algorithm than RS256.
    #[error("token is signed with {0}, only RS256 is accepted")]
    Algorithm(String),
    /// No key with the token's `kid` is known.
    #[error("token is signed by an unknown key, kid {0:?}")]
    UnknownKey(String),
    /// The key that the verifier holds for the `kid` is no RSA public key.
    #[error("the verification key with kid {0:?} is not an RSA public key")]
    UnusableKey(String),
    /// The signature was not made by the key, or the token was changed.
    #[error("token signature is not valid")]
    Signature,
    /// `exp` has passed.
    #[error("token expired at {0}")]
    Expired(OffsetDateTime),
    /// `nbf` is to come.
    #[error("token is not valid before {0}")]
    NotYetValid(OffsetDateTime),
    /// The token's id is on the revocation list.
    #[error("token with id {0:?} is revoked")]
    Revoked(String),
}

/// Why a token could not be issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// Its validity would end beyond what can be represented.
    #[error("the validity of the token is too long")]
    Validity,
    /// The key cannot sign.
    #[error("cannot sign the token")]
    Signing(#[source] jsonwebtoken::errors::Error),
}

/// A token that was issued.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// The token.
    pub token: String,
    /// Its id, by which it can be revoked.
    pub id: String,
    /// The end of its validity.
    pub expires_at: OffsetDateTime,
}

#[derive(Serialize)]
struct Payload<'a, C> {
    #[serde(flatten)]
    claims: &'a C,
    jti: &'a str,
    iat: i64,
    nbf: i64,
    exp: i64,
}

/// Issues a token: random id, valid from five seconds ago until `now + valid_for`.
pub fn issue<C: Claims>(
    key: &SigningKey,
    key_id: &str,
    claims: &C,
    now: OffsetDateTime,
    valid_for: std::time::Duration,
) -> Result<Issued, IssueError> {
    let valid_for = Duration::try_from(valid_for).map_err(|_| IssueError::Validity)?;
    let expires_at = now.checked_add(valid_for).ok_or(IssueError::Validity)?;
    let id = uuid::Uuid::new_v4().to_string();
    let payload = Payload {
        claims,
        jti: &id,
        iat: now.unix_timestamp(),
        nbf: (now - NOT_BEFORE_SKEW).unix_timestamp(),
        exp: expires_at.unix_timestamp(),
    };
    let header = Header { kid: Some(key_id.to_owned()), ..Header::new(Algorithm::RS256) };
    let signer =
        EncodingKey::from_rsa_pem(key.private_pem().expose().as_bytes()).map_err(IssueError::Signing)?;
    let token = jsonwebtoken::encode(&header, &payload, &signer).map_err(IssueError::Signing)?;
    Ok(Issued { token, id, expires_at })
}

/// Checks a token.
///
/// `public_key` gives the public key (PEM) of a `kid`, `revoked` tells whether an id is revoked.
pub fn verify<C: Claims>(
    token: &str,
    public_key: impl FnOnce(&str) -> Option<String>,
    revoked: impl FnOnce(&str) -> bool,
    now: OffsetDateTime,
) -> Result<Verified<C>, TokenError> {
    let key_id = key_id(token)?;
    let pem = public_key(&key_id).ok_or_else(|| TokenError::UnknownKey(key_id.clone()))?;
    let key =
        DecodingKey::from_rsa_pem(pem.as_bytes()).map_err(|_| TokenError::UnusableKey(key_id.clone()))?;
    // Times are checked below against the time that was passed in.
    let mut validation = Validation::new(Algorithm::RS256);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    let payload = jsonwebtoken::decode::<Map<String, Value>>(token, &key, &validation)
        .map_err(|error| match error.kind() {
            jsonwebtoken::errors::ErrorKind::Json(error) => TokenError::Malformed(error.to_string()),
            _ => TokenError::Signature,
        })?
        .claims;
    // Peers written in Go decode claims whatever their case.
    let payload: Map<_, _> = payload.into_iter().map(|(k, v)| (k.to_ascii_lowercase(), v)).collect();
    let expires_at = instant(&payload, "exp")?.ok_or_else(|| missing("exp"))?;
    if now >= expires_at {
        return Err(TokenError::Expired(expires_at));
    }
    if let Some(start) = instant(&payload, "nbf")?.filter(|start| now < *start) {
        return Err(TokenError::NotYetValid(start));
    }
    let id = payload.get("jti").and_then(Value::as_str).ok_or_else(|| missing("jti"))?.to_owned();
    if revoked(&id) {
        return Err(TokenError::Revoked(id));
    }
    let claims = decode_claims(payload)?;
    Ok(Verified { claims, id, key_id, expires_at })
}

fn decode_claims<C: DeserializeOwned>(payload: Map<String, Value>) -> Result<C, TokenError> {
    serde_json::from_value(Value::Object(payload)).map_err(|error| TokenError::Malformed(error.to_string()))
}

/// Reads the header by hand: the library answers "malformed" to every algorithm that it does not
/// know, `none` among them.
fn key_id(token: &str) -> Result<String, TokenError> {
    let malformed = |what: &str| TokenError::Malformed(what.to_owned());
    let mut parts = token.split('.');
    let (Some(header), Some(_), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed("expected three parts separated by dots"));
    };
    let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| malformed("header is not base64url"))?;
    let header: Value = serde_json::from_slice(&header).map_err(|_| malformed("header is not JSON"))?;
    match header.get("alg").and_then(Value::as_str) {
        Some("RS256") => {}
        Some(none) if none.eq_ignore_ascii_case("none") => return Err(TokenError::Unsigned),
        Some(other) => return Err(TokenError::Algorithm(other.to_owned())),
        None => return Err(malformed("header has no alg")),
    }
    let key_id = header.get("kid").and_then(Value::as_str);
    key_id.map(str::to_owned).ok_or_else(|| malformed("header has no kid"))
}

fn missing(claim: &str) -> TokenError {
    TokenError::Malformed(format!("claim {claim} is missing"))
}

/// A NumericDate (RFC 7519, section 2): seconds, possibly with a fraction.
fn instant(payload: &Map<String, Value>, claim: &str) -> Result<Option<OffsetDateTime>, TokenError> {
    let Some(value) = payload.get(claim) else { return Ok(None) };
    #[expect(clippy::cast_possible_truncation, reason = "the fraction is dropped; out of range saturates")]
    let seconds = value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64));
    let instant = seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    instant.map(Some).ok_or_else(|| TokenError::Malformed(format!("claim {claim} is not a time")))
}

#[cfg(test)]
mod tests;
