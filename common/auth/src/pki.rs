//! X.509: authorities, the certificates that they issue, and what a certificate says.
//!
//! New keys are P-256. An authority may also be brought along as PEM with an ECDSA or RSA key.

mod info;
mod request;

use std::fmt;
use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, DnType, Issuer, KeyPair};
use time::OffsetDateTime;

use crate::PrivateKeyPem;

pub use info::{CertificateInfo, certificates, fingerprint_sha256};
pub use request::SpiffeId;

/// Workload certificates are valid from this long before they are issued, for peers whose clock is
/// behind.
pub const WORKLOAD_SKEW: Duration = Duration::from_secs(10);

/// Why PEM material cannot be used or a certificate cannot be made. Never contains a private key.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The text holds no certificate.
    #[error("not a PEM certificate: {0}")]
    NotACertificate(String),
    /// The text holds no ECDSA or RSA private key.
    #[error("not an ECDSA or RSA private key in PEM form")]
    NotAKey,
    /// The certificate may not sign others.
    #[error("the certificate {subject:?} is not a CA: basic constraints do not say CA:TRUE")]
    NotACa {
        /// Its subject.
        subject: String,
    },
    /// Certificate and key do not belong together.
    #[error("the private key does not belong to the CA certificate")]
    KeyMismatch,
    /// A name that a certificate cannot carry.
    #[error("{0:?} is not a name that a certificate can carry")]
    Name(String),
    /// Not a SPIFFE id.
    #[error("{0:?} is not a SPIFFE id: expected spiffe://trust-domain/path")]
    SpiffeId(String),
    /// The validity ends beyond what can be represented.
    #[error("the validity of the certificate is too long")]
    Validity,
    /// The certificate could not be made.
    #[error("cannot make the certificate")]
    Generate(#[source] rcgen::Error),
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first instant.
    pub not_before: OffsetDateTime,
    /// The last instant.
    pub not_after: OffsetDateTime,
}

impl Validity {
    /// From `now` for so long.
    pub fn starting(now: OffsetDateTime, valid_for: Duration) -> Result<Self, PkiError> {
        let valid_for = time::Duration::try_from(valid_for).map_err(|_| PkiError::Validity)?;
        let not_after = now.checked_add(valid_for).ok_or(PkiError::Validity)?;
        Ok(Self { not_before: now, not_after })
    }
}

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate alone.
    pub certificate_pem: String,
    /// The certificate followed by the authority's: what a TLS server presents.
    pub chain_pem: String,
    /// The key.
    pub key: PrivateKeyPem,
    /// When it is valid.
    pub validity: Validity,
}

/// A certificate authority: its certificate and the key that signs.
pub struct Authority {
    certificate_pem: String,
    key: PrivateKeyPem,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new authority that signed itself.
    ///
    /// `trust_domain` is put into it as a SPIFFE id without path, as the authority of workloads has it.
    pub fn generate(name: &str, trust_domain: Option<&str>, validity: Validity) -> Result<Self, PkiError> {
        let key = KeyPair::generate().map_err(PkiError::Generate)?;
        let mut params = request::authority(name, validity);
        if let Some(domain) = trust_domain {
            params.subject_alt_names.push(SpiffeId::trust_domain(domain)?.san()?);
        }
        let certificate = params.self_signed(&key).map_err(PkiError::Generate)?;
        Self::new(certificate.pem(), PrivateKeyPem::new(key.serialize_pem()), key)
    }

    /// An existing authority. Of several certificates, the first is the one that issues.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let key = KeyPair::from_pem(key_pem.trim()).map_err(|_| PkiError::NotAKey)?;
        Self::new(certificate_pem.to_owned(), PrivateKeyPem::new(key_pem), key)
    }

    fn new(certificate_pem: String, key: PrivateKeyPem, pair: KeyPair) -> Result<Self, PkiError> {
        let info = CertificateInfo::parse(&certificate_pem)?;
        if !info.is_ca {
            return Err(PkiError::NotACa { subject: info.subject });
        }
        if info.public_key != pair.public_key_raw() {
            return Err(PkiError::KeyMismatch);
        }
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, pair).map_err(PkiError::Generate)?;
        Ok(Self { certificate_pem, key, issuer })
    }

    /// The certificate: what others trust.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The key, to be stored as a secret.
    pub fn key(&self) -> &PrivateKeyPem {
        &self.key
    }

    /// A TLS server's certificate. `names` are DNS names and IP addresses.
    pub fn issue_server(&self, name: &str, names: &[String], validity: Validity) -> Result<Issued, PkiError> {
        self.issue(request::server(name, names, validity)?, validity)
    }

    /// A TLS client's certificate, known by its common name.
    pub fn issue_client(&self, name: &str, validity: Validity) -> Result<Issued, PkiError> {
        self.issue(request::client(name, validity), validity)
    }

    /// A workload's X.509-SVID, valid from ten seconds ago until `now + valid_for`.
    pub fn issue_workload(
        &self,
        id: &SpiffeId,
        now: OffsetDateTime,
        valid_for: Duration,
    ) -> Result<Issued, PkiError> {
        let mut validity = Validity::starting(now, valid_for)?;
        validity.not_before = now - WORKLOAD_SKEW;
        self.issue(request::workload(id, validity)?, validity)
    }

    fn issue(&self, params: CertificateParams, validity: Validity) -> Result<Issued, PkiError> {
        let key = KeyPair::generate().map_err(PkiError::Generate)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(PkiError::Generate)?;
        let certificate_pem = certificate.pem();
        let chain_pem = format!("{certificate_pem}{}", self.certificate_pem);
        Ok(Issued { certificate_pem, chain_pem, key: PrivateKeyPem::new(key.serialize_pem()), validity })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("certificate", &self.certificate_pem).finish_non_exhaustive()
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

#[cfg(test)]
mod tests;
