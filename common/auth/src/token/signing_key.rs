//! RSA keys that sign tokens.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use x509_parser::der_parser::ber::BerObjectContent;
use x509_parser::der_parser::parse_der;

use crate::PrivateKeyPem;

/// Columns of a PEM line (RFC 7468, section 2).
const PEM_LINE: usize = 64;

/// A text that is no RSA private key. It says nothing of the text itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// Not a PEM RSA private key.
    #[error("not an RSA private key in PEM form")]
    NotRsa,
    /// The random source or the generator failed.
    #[error("cannot generate an RSA key")]
    Generation,
}

/// An RSA private key and its public half. `Debug` shows only the public half.
#[derive(Clone)]
pub struct SigningKey {
    private: PrivateKeyPem,
    public: String,
}

impl SigningKey {
    /// Draws an RSA-2048 key. Takes about a tenth of a second of CPU.
    ///
    /// The PEM form is PKCS #1 (`RSA PRIVATE KEY`), the form that peers written in Go store.
    pub fn generate() -> Result<Self, SigningKeyError> {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)
            .map_err(|_| SigningKeyError::Generation)?;
        let pkcs1 = pkcs1(pair.serialized_der()).ok_or(SigningKeyError::Generation)?;
        let private = PrivateKeyPem::new(pem("RSA PRIVATE KEY", &pkcs1));
        Ok(Self { private, public: pair.public_key_pem() })
    }

    /// Reads a PKCS #1 or PKCS #8 private key.
    pub fn from_pem(pem: &str) -> Result<Self, SigningKeyError> {
        let pem = pem.trim();
        let pair =
            KeyPair::from_pem_and_sign_algo(pem, &PKCS_RSA_SHA256).map_err(|_| SigningKeyError::NotRsa)?;
        Ok(Self { private: PrivateKeyPem::new(pem), public: pair.public_key_pem() })
    }

    /// The private key, to be stored as a secret.
    pub fn private_pem(&self) -> &PrivateKeyPem {
        &self.private
    }

    /// The public key (`PUBLIC KEY`), for verifiers.
    pub fn public_pem(&self) -> &str {
        &self.public
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public).finish_non_exhaustive()
    }
}

/// The RSAPrivateKey inside a PrivateKeyInfo (RFC 5208: version, algorithm, OCTET STRING).
fn pkcs1(pkcs8: &[u8]) -> Option<Vec<u8>> {
    let (_, info) = parse_der(pkcs8).ok()?;
    match &info.as_sequence().ok()?.get(2)?.content {
        BerObjectContent::OctetString(key) => Some(key.to_vec()),
        _ => None,
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for (column, c) in STANDARD.encode(der).chars().enumerate() {
        if column > 0 && column % PEM_LINE == 0 {
            text.push('\n');
        }
        text.push(c);
    }
    text + &format!("\n-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_reads_back_and_does_not_show() {
        let key = SigningKey::generate().unwrap();
        let private = key.private_pem().expose();
        assert!(private.starts_with("-----BEGIN RSA PRIVATE KEY-----\n"), "PKCS #1");
        let again = SigningKey::from_pem(private).unwrap();
        assert_eq!(again.public_pem(), key.public_pem());
        let body = private.lines().nth(1).unwrap();
        assert!(!format!("{key:?} {:?}", key.private_pem()).contains(body));
    }

    #[test]
    fn pkcs8_is_accepted_and_other_keys_are_not() {
        let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        SigningKey::from_pem(&rsa.serialize_pem()).unwrap();
        let ecdsa = KeyPair::generate().unwrap().serialize_pem();
        for text in
            [ecdsa.as_str(), "", "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----"]
        {
            assert_eq!(SigningKey::from_pem(text).unwrap_err(), SigningKeyError::NotRsa);
        }
    }
}
