//! What a stranger presents: tokens, certificates, identities.

#![no_main]

use std::sync::LazyLock;

use auth::pki::{CertificateInfo, SpiffeId, certificates};
use auth::token::{DataplaneClaims, SigningKey, ZoneClaims, verify};
use libfuzzer_sys::fuzz_target;
use time::OffsetDateTime;

static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate().expect("a key"));

fuzz_target!(|bytes: &[u8]| {
    let _ = CertificateInfo::parse_der(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let key = |_: &str| Some(KEY.public_pem().to_owned());
    let now = OffsetDateTime::UNIX_EPOCH;
    assert!(verify::<DataplaneClaims>(text, key, |_| false, now).is_err(), "nobody signed it");
    assert!(verify::<ZoneClaims>(text, key, |_| false, now).is_err(), "nobody signed it");
    let _ = certificates(text);
    let _ = auth::keys::revoked_ids(text);
    if let Ok(identity) = text.parse::<SpiffeId>() {
        assert_eq!(identity.to_string().parse::<SpiffeId>().map_err(|_| ()), Ok(identity));
    }
});
