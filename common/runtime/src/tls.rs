//! TLS over rustls and aws-lc-rs, from PEM: server and client configurations, certificates that
//! are read again when their files change, and trust in an authority, a fingerprint or nothing.

mod client;
mod fingerprint;
mod server;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

pub use client::{Trust, client_config};
pub use fingerprint::Fingerprint;
pub use server::{ReloadingCertificate, fixed_certificate, server_config};

/// Why TLS material cannot be used. Never contains a private key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The text holds no usable certificate.
    #[error("{what} holds no PEM certificate: {message}")]
    Certificate {
        /// The file or the role of the text.
        what: String,
        /// What the parser says.
        message: String,
    },
    /// The text holds no usable private key.
    #[error("{what} holds no PEM private key: {message}")]
    Key {
        /// The file or the role of the text.
        what: String,
        /// What the parser says.
        message: String,
    },
    /// Certificate and key do not belong together, or have a form that TLS cannot use.
    #[error("certificate and key cannot be used together: {0}")]
    Pair(rustls::Error),
    /// Not a SHA-256 fingerprint.
    #[error("{0:?} is not a SHA-256 fingerprint: expected 64 hex digits, with or without colons")]
    Fingerprint(String),
    /// The host's trust store is empty or unreadable.
    #[error("this host has no usable root certificates: {0}")]
    SystemRoots(String),
    /// The verifier refused its roots.
    #[error("the trust anchors cannot be used: {0}")]
    Verifier(String),
}

/// Makes aws-lc-rs the process's crypto provider. Call it first in `main`; further calls do nothing.
pub fn install_provider() {
    // An error means that a provider is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn read(path: &Path) -> Result<String, TlsError> {
    std::fs::read_to_string(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

fn certificates(pem: &str, what: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let error = |message: String| TlsError::Certificate { what: what.to_owned(), message };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| error(e.to_string()))?;
    if chain.is_empty() { Err(error("no CERTIFICATE block".to_owned())) } else { Ok(chain) }
}

fn certified_key(chain_pem: &str, key_pem: &str, what: &str) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(chain_pem, what)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
        .map_err(|e| TlsError::Key { what: what.to_owned(), message: e.to_string() })?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(TlsError::Pair)
}

#[cfg(test)]
pub(crate) mod tests;
