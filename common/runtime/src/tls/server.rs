//! The server side: a certificate in memory, or one that follows its files.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::{TlsError, certified_key, provider, read};

/// Files are looked at no more often than this, however many handshakes there are.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A server configuration: TLS 1.2 and 1.3, ALPN `h2` and `http/1.1`.
///
/// With `client_ca_pem`, clients may present a certificate, which must then be signed by that
/// authority; who must present one is for the handlers to decide.
pub fn server_config(
    certificate: Arc<dyn ResolvesServerCert>,
    client_ca_pem: Option<&str>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Pair)?;
    let builder = match client_ca_pem {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let roots = Arc::new(super::client::roots(pem, "the client CA")?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                .allow_unauthenticated()
                .build()
                .map_err(|error| TlsError::Verifier(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A certificate (leaf first, then its issuers) and key that stay as they are.
pub fn fixed_certificate(chain_pem: &str, key_pem: &str) -> Result<Arc<dyn ResolvesServerCert>, TlsError> {
    let key = certified_key(chain_pem, key_pem, "the server certificate")?;
    Ok(Arc::new(SingleCertAndKey::from(key)))
}

/// A certificate that is read again when one of its files changed.
///
/// The files are compared by time and size during handshakes, at most once a second, so there is no
/// timer. A pair that cannot be used is logged, and the one in use is kept.
#[derive(Debug)]
pub struct ReloadingCertificate {
    certificate: PathBuf,
    key: PathBuf,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    seen: Stamp,
    checked: Instant,
}

/// Time and size of both files; `None` for one that is missing.
type Stamp = [Option<(SystemTime, u64)>; 2];

impl ReloadingCertificate {
    /// Reads both files.
    pub fn load(certificate: &Path, key: &Path) -> Result<Arc<Self>, TlsError> {
        let seen = stamp(certificate, key);
        let pair = read_pair(certificate, key)?;
        let current = Current { key: Arc::new(pair), seen, checked: Instant::now() };
        Ok(Arc::new(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            current: Mutex::new(current),
        }))
    }

    fn at(&self, now: Instant) -> Arc<CertifiedKey> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(current.checked) >= CHECK_INTERVAL {
            current.checked = now;
            let seen = stamp(&self.certificate, &self.key);
            if seen != current.seen {
                current.seen = seen;
                match read_pair(&self.certificate, &self.key) {
                    Ok(pair) => {
                        current.key = Arc::new(pair);
                        tracing::info!(file = %self.certificate.display(), "certificate reloaded");
                    }
                    Err(error) => {
                        let file = self.certificate.display();
                        tracing::warn!(%file, %error, "changed certificate not usable, keeping the one in use");
                    }
                }
            }
        }
        Arc::clone(&current.key)
    }
}

impl ResolvesServerCert for ReloadingCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.at(Instant::now()))
    }
}

fn read_pair(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    certified_key(&read(certificate)?, &read(key)?, &certificate.display().to_string())
}

fn stamp(certificate: &Path, key: &Path) -> Stamp {
    [certificate, key].map(|path| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::tests::self_signed;

    #[test]
    fn a_changed_pair_is_taken_and_a_broken_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
        let write = |pair: &(String, String)| {
            std::fs::write(&cert, &pair.0).unwrap();
            std::fs::write(&key, &pair.1).unwrap();
        };
        write(&self_signed(&["localhost"]));
        let served = ReloadingCertificate::load(&cert, &key).unwrap();
        let start = Instant::now();
        let first = served.at(start);

        write(&self_signed(&["localhost", "other-host-with-a-long-name"]));
        assert!(Arc::ptr_eq(&first, &served.at(start)), "not looked at within the interval");
        let second = served.at(start + 2 * CHECK_INTERVAL);
        assert_ne!(first.cert, second.cert);

        std::fs::write(&cert, "not a certificate").unwrap();
        assert!(Arc::ptr_eq(&second, &served.at(start + 4 * CHECK_INTERVAL)));
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (one, other) = (self_signed(&["a"]), self_signed(&["b"]));
        assert!(matches!(fixed_certificate(&one.0, &other.1), Err(TlsError::Pair(_))));
        assert!(matches!(fixed_certificate("", &other.1), Err(TlsError::Certificate { .. })));
        assert!(matches!(fixed_certificate(&one.0, "x"), Err(TlsError::Key { .. })));
    }
}
