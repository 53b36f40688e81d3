//! What verifies and, mostly, what must not.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::json;

use super::*;

static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate().unwrap());

const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
}

fn zone() -> ZoneClaims {
    ZoneClaims { zone: "east".to_owned(), scope: vec!["cp".to_owned()] }
}

fn token() -> String {
    issue(&KEY, "1", &zone(), now(), HOUR).unwrap().token
}

fn key_one(kid: &str) -> Option<String> {
    (kid == "1").then(|| KEY.public_pem().to_owned())
}

fn check<C: Claims>(token: &str, at: OffsetDateTime) -> Result<Verified<C>, TokenError> {
    verify(token, key_one, |_| false, at)
}

/// A token of our key with any payload.
fn signed(payload: &Value) -> String {
    let header = Header { kid: Some("1".to_owned()), ..Header::new(Algorithm::RS256) };
    let key = EncodingKey::from_rsa_pem(KEY.private_pem().expose().as_bytes()).unwrap();
    jsonwebtoken::encode(&header, payload, &key).unwrap()
}

#[test]
fn what_was_issued_verifies() {
    let issued = issue(&KEY, "1", &zone(), now(), HOUR).unwrap();
    let verified = check::<ZoneClaims>(&issued.token, now()).unwrap();
    assert_eq!(verified.claims, zone());
    assert_eq!((verified.id, verified.key_id.as_str()), (issued.id, "1"));
    assert_eq!(verified.expires_at, now() + HOUR);

    let user = UserClaims { name: "ann".to_owned(), groups: vec!["ops".to_owned()] };
    let token = issue(&KEY, "1", &user, now(), HOUR).unwrap().token;
    assert_eq!(check::<UserClaims>(&token, now()).unwrap().claims, user);

    let tags = BTreeMap::from([("app".to_owned(), vec!["a".to_owned(), "b".to_owned()])]);
    let dataplane =
        DataplaneClaims { name: "d1".to_owned(), mesh: "default".to_owned(), tags, ..Default::default() };
    let token = issue(&KEY, "1", &dataplane, now(), HOUR).unwrap().token;
    assert_eq!(check::<DataplaneClaims>(&token, now()).unwrap().claims, dataplane);
}

#[test]
fn claims_are_capitalised_on_the_wire_and_read_in_any_case() {
    let token = token();
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let payload: Value = serde_json::from_slice(&payload).unwrap();
    let keys: Vec<_> = payload.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["Scope", "Zone", "exp", "iat", "jti", "nbf"]);
    assert_eq!(payload["nbf"], json!(now().unix_timestamp() - 5));

    let exp = now().unix_timestamp() + 60;
    let other = signed(&json!({"zone": "west", "SCOPE": null, "exp": exp, "jti": "j"}));
    let claims = check::<ZoneClaims>(&other, now()).unwrap().claims;
    assert_eq!(claims, ZoneClaims { zone: "west".to_owned(), scope: vec![] });
    let set = signed(&json!({"Mesh": "m", "Tags": {"app": {"x": true}, "b": null}, "exp": exp, "jti": "j"}));
    let tags = check::<DataplaneClaims>(&set, now()).unwrap().claims.tags;
    assert_eq!(tags, BTreeMap::from([("app".to_owned(), vec!["x".to_owned()]), ("b".to_owned(), vec![])]));
}

#[test]
fn times_are_checked_against_the_time_passed_in() {
    let token = token();
    let end = now() + HOUR;
    assert_eq!(check::<ZoneClaims>(&token, end).unwrap_err(), TokenError::Expired(end));
    assert!(check::<ZoneClaims>(&token, end - Duration::SECOND).is_ok());
    let start = now() - NOT_BEFORE_SKEW;
    assert!(check::<ZoneClaims>(&token, start).is_ok());
    let early = check::<ZoneClaims>(&token, start - Duration::SECOND).unwrap_err();
    assert_eq!(early, TokenError::NotYetValid(start));
    assert!(TokenError::Expired(end).to_string().contains("expired at 2027-01-15"));
    let forever = issue(&KEY, "1", &zone(), now(), std::time::Duration::MAX);
    assert!(matches!(forever, Err(IssueError::Validity)));
}

#[test]
fn a_revoked_or_foreign_token_is_refused() {
    let issued = issue(&KEY, "1", &zone(), now(), HOUR).unwrap();
    let revoked = verify::<ZoneClaims>(&issued.token, key_one, |id| id == issued.id, now());
    assert_eq!(revoked.unwrap_err(), TokenError::Revoked(issued.id.clone()));

    let stranger = SigningKey::generate().unwrap();
    let forged = issue(&stranger, "1", &zone(), now(), HOUR).unwrap().token;
    assert_eq!(check::<ZoneClaims>(&forged, now()).unwrap_err(), TokenError::Signature);
    let unknown = issue(&KEY, "7", &zone(), now(), HOUR).unwrap().token;
    assert_eq!(check::<ZoneClaims>(&unknown, now()).unwrap_err(), TokenError::UnknownKey("7".to_owned()));
    let unusable = verify::<ZoneClaims>(&issued.token, |_| Some("x".to_owned()), |_| false, now());
    assert_eq!(unusable.unwrap_err(), TokenError::UnusableKey("1".to_owned()));
}

#[test]
fn an_unsigned_token_or_another_algorithm_is_refused() {
    let token = token();
    let (_, rest) = token.split_once('.').unwrap();
    let with_header = |header: Value| format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()));
    for none in ["none", "None", "NONE"] {
        let unsigned = with_header(json!({"alg": none, "kid": "1"}));
        assert_eq!(check::<ZoneClaims>(&unsigned, now()).unwrap_err(), TokenError::Unsigned);
    }
    // The classic confusion: HMAC with the public key as its secret.
    let header = Header { kid: Some("1".to_owned()), ..Header::new(Algorithm::HS256) };
    let secret = EncodingKey::from_secret(KEY.public_pem().as_bytes());
    let exp = now().unix_timestamp() + 60;
    let confused =
        jsonwebtoken::encode(&header, &json!({"Zone": "east", "exp": exp, "jti": "j"}), &secret).unwrap();
    assert_eq!(check::<ZoneClaims>(&confused, now()).unwrap_err(), TokenError::Algorithm("HS256".to_owned()));
    for header in [json!({"alg": "RS256"}), json!({"kid": "1"}), json!({"alg": "RS256", "kid": 1})] {
        let error = check::<ZoneClaims>(&with_header(header), now()).unwrap_err();
        assert!(matches!(error, TokenError::Malformed(_)), "{error}");
    }
}

#[test]
fn a_token_without_end_or_id_is_refused() {
    let exp = now().unix_timestamp() + 60;
    for payload in [
        json!({"Zone": "east", "jti": "j"}),
        json!({"Zone": "east", "exp": exp}),
        json!({"Zone": "east", "exp": "soon", "jti": "j"}),
        json!({"Zone": "east", "exp": 1e300, "jti": "j"}),
        json!({"Zone": 1, "exp": exp, "jti": "j"}),
        json!(["east"]),
    ] {
        let error = check::<ZoneClaims>(&signed(&payload), now()).unwrap_err();
        assert!(matches!(error, TokenError::Malformed(_)), "{payload}: {error}");
    }
}

proptest! {
    #[test]
    fn a_changed_token_never_verifies(at in any::<prop::sample::Index>(), with in "[A-Za-z0-9_.=-]") {
        let original = TOKEN.as_str();
        let at = at.index(original.len());
        let mut changed = original.to_owned();
        changed.replace_range(at..=at, &with);
        prop_assume!(changed != original);
        prop_assert!(check::<ZoneClaims>(&changed, now()).is_err());
    }

    #[test]
    fn garbage_is_refused_without_a_panic(text in "\\PC{0,80}(\\.\\PC{0,80}){0,3}") {
        prop_assert!(check::<ZoneClaims>(&text, now()).is_err());
    }
}

static TOKEN: LazyLock<String> = LazyLock::new(token);
