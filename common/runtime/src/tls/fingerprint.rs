//! SHA-256 fingerprints of certificates: how a person carries trust from one host to another.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use super::TlsError;

/// SHA-256 of a certificate's DER form.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate.as_ref()).into())
    }

    /// The fingerprint of the first certificate of a PEM text.
    pub fn of_pem(pem: &str) -> Result<Self, TlsError> {
        let chain = super::certificates(pem, "the certificate")?;
        // `certificates` refuses a text without any.
        chain.first().map(Self::of).ok_or_else(|| TlsError::Fingerprint(String::new()))
    }
}

impl FromStr for Fingerprint {
    type Err = TlsError;

    /// Accepts lower and upper case, colons between the bytes, and a `sha256:` prefix.
    fn from_str(text: &str) -> Result<Self, TlsError> {
        let refused = || TlsError::Fingerprint(text.to_owned());
        let lower = text.trim().to_ascii_lowercase();
        let digits = lower.strip_prefix("sha256:").unwrap_or(&lower).replace(':', "");
        if digits.len() != 64 || !digits.is_ascii() {
            return Err(refused());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| refused())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| refused())?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
