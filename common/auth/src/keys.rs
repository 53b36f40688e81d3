//! The names under which signing keys and revocation lists are kept as secrets.
//!
//! A key has a serial number: the number at the end of its secret's name, or 0 for the name without
//! one. Tokens carry the serial as `kid`. New keys get the next number; the highest one signs.

use std::collections::BTreeSet;

/// Whom a token is for: each kind has keys and a revocation list of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Audience {
    /// Users of the REST API. Secrets are global.
    User,
    /// Zone control planes. Secrets are global.
    Zone,
    /// The proxies of a mesh. Secrets are the mesh's.
    Dataplane {
        /// The mesh.
        mesh: String,
    },
}

impl Audience {
    /// The name of the private key with serial 0, which is the prefix of the others.
    pub fn signing_key_prefix(&self) -> String {
        match self {
            Self::User => "user-token-signing-key".to_owned(),
            Self::Zone => "zone-token-signing-key".to_owned(),
            Self::Dataplane { mesh } => format!("dataplane-token-signing-key-{mesh}"),
        }
    }

    /// The name of the private key with a serial number.
    pub fn signing_key(&self, serial: u64) -> String {
        numbered(self.signing_key_prefix(), serial)
    }

    /// The serial number in the name of a private key, if it is one of this audience.
    pub fn serial_of(&self, secret: &str) -> Option<u64> {
        serial_after(&self.signing_key_prefix(), secret)
    }

    /// The highest serial among names of secrets. Names of other secrets are passed over.
    pub fn latest<'a>(&self, secrets: impl IntoIterator<Item = &'a str>) -> Option<u64> {
        secrets.into_iter().filter_map(|name| self.serial_of(name)).max()
    }

    /// The name of the secret that lists the ids of revoked tokens.
    pub fn revocations(&self) -> String {
        match self {
            Self::User => "user-token-revocations".to_owned(),
            Self::Zone => "zone-token-revocations".to_owned(),
            Self::Dataplane { mesh } => format!("dataplane-token-revocations-{mesh}"),
        }
    }
}

const ZONE_PUBLIC: &str = "zone-token-signing-public-key";

/// The name of the public half of a zone signing key: what zones receive in place of the private one.
pub fn zone_public_key(serial: u64) -> String {
    numbered(ZONE_PUBLIC.to_owned(), serial)
}

/// The serial number in the name of a zone public key.
pub fn zone_public_key_serial(secret: &str) -> Option<u64> {
    serial_after(ZONE_PUBLIC, secret)
}

/// The token ids in a revocation secret: separated by commas, surrounding white space ignored.
pub fn revoked_ids(text: &str) -> BTreeSet<String> {
    text.split(',').map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned).collect()
}

fn numbered(prefix: String, serial: u64) -> String {
    if serial == 0 { prefix } else { format!("{prefix}-{serial}") }
}

fn serial_after(prefix: &str, secret: &str) -> Option<u64> {
    let rest = secret.strip_prefix(prefix)?;
    if rest.is_empty() {
        return Some(0);
    }
    let digits = rest.strip_prefix('-')?;
    // Rust's parser takes "+1" too, and "01" would be a second name for serial 1.
    let canonical = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse().ok().filter(|_| canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_serials_convert_both_ways() {
        let dataplane = Audience::Dataplane { mesh: "default".to_owned() };
        for (audience, serial, name) in [
            (&Audience::User, 2, "user-token-signing-key-2"),
            (&Audience::Zone, 1, "zone-token-signing-key-1"),
            (&Audience::Zone, 0, "zone-token-signing-key"),
            (&dataplane, 12, "dataplane-token-signing-key-default-12"),
        ] {
            assert_eq!(audience.signing_key(serial), name);
            assert_eq!(audience.serial_of(name), Some(serial));
        }
        assert_eq!(zone_public_key(3), "zone-token-signing-public-key-3");
        assert_eq!(zone_public_key_serial("zone-token-signing-public-key-3"), Some(3));
        assert_eq!(Audience::Zone.serial_of("zone-token-signing-public-key-3"), None);
        for other in ["zone-token-signing-key-x", "zone-token-signing-key-+1", "zone-token-signing-key-01"] {
            assert_eq!(Audience::Zone.serial_of(other), None, "{other}");
        }
        assert_eq!(dataplane.revocations(), "dataplane-token-revocations-default");
    }

    #[test]
    fn the_latest_key_is_the_highest_number_not_the_last_name() {
        let names = ["user-token-signing-key-9", "user-token-signing-key-10", "user-token-revocations"];
        assert_eq!(Audience::User.latest(names), Some(10));
        assert_eq!(Audience::Zone.latest(names), None);
    }

    #[test]
    fn revocations_tolerate_white_space() {
        assert_eq!(revoked_ids("b, a,,\n"), BTreeSet::from(["a".to_owned(), "b".to_owned()]));
        assert!(revoked_ids("\n").is_empty());
    }
}
