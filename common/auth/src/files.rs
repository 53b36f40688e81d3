//! A control plane's own TLS identity, kept in files: made on the first start, reused afterwards.
//!
//! The only part of the crate that touches the file system.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use time::OffsetDateTime;

use crate::PrivateKeyPem;
use crate::pki::{Authority, CertificateInfo, PkiError, Validity};

/// Life of a generated authority: what hosts were told to trust should not change under them.
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Life of a generated server certificate.
const SERVER_LIFE: Duration = Duration::from_secs(365 * 86_400);
/// A server certificate with less than this left is issued anew at the next start.
const RENEW_BEFORE: time::Duration = time::Duration::days(90);
/// Clocks of clients may be behind by this much.
const SKEW: time::Duration = time::Duration::hours(1);

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file was changed into something that cannot be used.
    #[error("{} cannot be used; restore it, or delete the CA's files so that a new CA is made", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: PkiError,
    },
    /// A certificate could not be made.
    #[error("cannot make a TLS identity")]
    Generate(#[from] PkiError),
}

/// A server certificate with its authority, and the files that hold them.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The server certificate followed by its authority's.
    pub cert_chain_pem: String,
    /// The server's key.
    pub key: PrivateKeyPem,
    /// The authority: what clients trust.
    pub ca_pem: String,
    /// SHA-256 of the authority's certificate: how a person carries the trust.
    pub ca_fingerprint_sha256: String,
    /// Whether the authority was made by this call: the time to print its fingerprint.
    pub generated: bool,
    /// The file of `cert_chain_pem`.
    pub cert_file: PathBuf,
    /// The file of `key`.
    pub key_file: PathBuf,
    /// The file of `ca_pem`.
    pub ca_file: PathBuf,
}

/// Reads the identity `name` from `dir`, making what is missing.
///
/// The authority (`ca.pem`, `ca.key`), common to all names, is made once. The server certificate (`<name>.pem`,
/// `.key`) is issued anew when it is missing, about to expire, or lacks one of `names` (DNS names and
/// IP addresses), so that a host which changed its address needs no hand. Keys have mode 0600.
pub fn load_or_generate(
    dir: &Path,
    name: &str,
    names: &[String],
    now: OffsetDateTime,
) -> Result<Identity, IdentityError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| file("write", dir, source))?;
    let at = |suffix: &str| dir.join(format!("{name}{suffix}"));
    let (ca_file, ca_key_file) = (dir.join("ca.pem"), dir.join("ca.key"));
    let (authority, generated) = match (read(&ca_file)?, read(&ca_key_file)?) {
        (Some(certificate), Some(key)) => {
            let authority = Authority::from_pem(&certificate, &key)
                .map_err(|source| IdentityError::Unusable { path: ca_file.clone(), source })?;
            (authority, false)
        }
        // Hosts may trust this authority already: it is not replaced behind their back.
        (Some(_), None) => {
            return Err(IdentityError::Unusable { path: ca_key_file, source: PkiError::NotAKey });
        }
        (None, _) => {
            let authority = Authority::generate(&format!("{name} CA"), None, life(now, AUTHORITY_LIFE)?)?;
            // The key first: a certificate without its key would be found again after a crash.
            write(&ca_key_file, authority.key().expose(), 0o600)?;
            write(&ca_file, authority.certificate_pem(), 0o644)?;
            (authority, true)
        }
    };
    let (cert_file, key_file) = (at(".pem"), at(".key"));
    let existing = match (read(&cert_file)?, read(&key_file)?) {
        (Some(chain), Some(key)) if serves(&chain, &key, &authority, names, now) => {
            Some((chain, PrivateKeyPem::new(key)))
        }
        _ => None,
    };
    let (cert_chain_pem, key) = match existing {
        Some(pair) => pair,
        None => {
            let issued = authority.issue_server(name, names, life(now, SERVER_LIFE)?)?;
            write(&key_file, issued.key.expose(), 0o600)?;
            write(&cert_file, &issued.chain_pem, 0o644)?;
            (issued.chain_pem, issued.key)
        }
    };
    let ca_pem = authority.certificate_pem().to_owned();
    let ca_fingerprint_sha256 = crate::pki::fingerprint_sha256(&ca_pem)?;
    Ok(Identity {
        cert_chain_pem,
        key,
        ca_pem,
        ca_fingerprint_sha256,
        generated,
        cert_file,
        key_file,
        ca_file,
    })
}

fn life(now: OffsetDateTime, valid_for: Duration) -> Result<Validity, PkiError> {
    let mut validity = Validity::starting(now, valid_for)?;
    validity.not_before = now - SKEW;
    Ok(validity)
}

/// Whether a server certificate can go on serving: ours, long enough, with every name.
fn serves(chain: &str, key: &str, authority: &Authority, names: &[String], now: OffsetDateTime) -> bool {
    let Ok(leaf) = CertificateInfo::parse(chain) else { return false };
    let has = |name: &String| match name.parse() {
        Ok(address) => leaf.ip_addresses.contains(&address),
        Err(_) => leaf.dns_names.contains(name),
    };
    leaf.has_key(key)
        && chain.ends_with(authority.certificate_pem())
        && leaf.validity.not_after - now > RENEW_BEFORE
        && names.iter().all(has)
}

fn read(path: &Path) -> Result<Option<String>, IdentityError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file("read", path, error)),
    }
}

/// Writes beside and renames, so that a crash leaves the old file or the new one.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), IdentityError> {
    let beside = path.with_extension("new");
    let written = (|| {
        let _ = fs::remove_file(&beside);
        let mut file = File::options().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    })();
    written.map_err(|source| file("write", path, source))
}

fn file(action: &'static str, path: &Path, source: io::Error) -> IdentityError {
    IdentityError::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_first_call_makes_what_later_calls_find() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("new");
        let local = names(&["localhost", "127.0.0.1"]);
        let first = load_or_generate(&dir, "cp", &local, now()).unwrap();
        assert!(first.generated);
        for file in ["cp.key", "ca.key"] {
            let mode = fs::metadata(dir.join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        let second = load_or_generate(&dir, "cp", &local, now()).unwrap();
        assert!(!second.generated);
        assert_eq!(second.cert_chain_pem, first.cert_chain_pem);
        assert_eq!(second.key, first.key);
        assert_eq!(second.ca_fingerprint_sha256, first.ca_fingerprint_sha256);
        assert_eq!(fs::read_to_string(&second.cert_file).unwrap(), first.cert_chain_pem);
    }

    #[test]
    fn a_new_name_or_an_old_certificate_means_a_new_certificate_of_the_same_authority() {
        let dir = tempfile::tempdir().unwrap();
        let first = load_or_generate(dir.path(), "cp", &names(&["a"]), now()).unwrap();
        let wider = load_or_generate(dir.path(), "cp", &names(&["a", "10.0.0.1"]), now()).unwrap();
        assert_ne!(wider.cert_chain_pem, first.cert_chain_pem);
        let narrower = load_or_generate(dir.path(), "cp", &names(&["a"]), now()).unwrap();
        assert_eq!(narrower.cert_chain_pem, wider.cert_chain_pem);
        let later = now() + time::Duration::days(300);
        let renewed = load_or_generate(dir.path(), "cp", &names(&["a"]), later).unwrap();
        assert_ne!(renewed.cert_chain_pem, wider.cert_chain_pem);
        assert_eq!(renewed.ca_pem, first.ca_pem);
        assert!(!renewed.generated);
    }

    #[test]
    fn a_key_of_another_certificate_means_a_new_pair() {
        let dir = tempfile::tempdir().unwrap();
        let first = load_or_generate(dir.path(), "cp", &[], now()).unwrap();
        let other = load_or_generate(dir.path(), "other", &[], now()).unwrap();
        fs::write(&first.key_file, other.key.expose()).unwrap();
        let mended = load_or_generate(dir.path(), "cp", &[], now()).unwrap();
        assert_ne!(mended.cert_chain_pem, first.cert_chain_pem);
    }

    #[test]
    fn a_broken_authority_is_reported_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        load_or_generate(dir.path(), "cp", &[], now()).unwrap();
        fs::write(dir.path().join("ca.pem"), "nonsense").unwrap();
        let error = load_or_generate(dir.path(), "cp", &[], now()).unwrap_err();
        assert!(matches!(error, IdentityError::Unusable { .. }), "{error}");
        fs::remove_file(dir.path().join("ca.key")).unwrap();
        let error = load_or_generate(dir.path(), "cp", &[], now()).unwrap_err();
        assert!(matches!(error, IdentityError::Unusable { .. }), "{error}");
        assert_eq!(fs::read_to_string(dir.path().join("ca.pem")).unwrap(), "nonsense");
    }
}
