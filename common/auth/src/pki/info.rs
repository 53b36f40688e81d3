//! What a certificate says.

use std::fmt::Write as _;
use std::net::IpAddr;

use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{PkiError, SpiffeId, Validity};

/// The fields of a certificate that control planes look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// The subject, as text.
    pub subject: String,
    /// The serial number in hexadecimal.
    pub serial: String,
    /// When it is valid.
    pub validity: Validity,
    /// DNS names.
    pub dns_names: Vec<String>,
    /// IP addresses.
    pub ip_addresses: Vec<IpAddr>,
    /// URI names: SPIFFE ids, for workloads.
    pub uris: Vec<String>,
    /// Whether it may sign other certificates.
    pub is_ca: bool,
    /// SHA-256 of its DER form, in lower case hexadecimal.
    pub fingerprint_sha256: String,
    pub(super) public_key: Vec<u8>,
}

impl CertificateInfo {
    /// Reads the first certificate of a PEM text.
    pub fn parse(pem: &str) -> Result<Self, PkiError> {
        Self::parse_der(&first(pem)?)
    }

    /// Reads a DER certificate.
    pub fn parse_der(der: &[u8]) -> Result<Self, PkiError> {
        let error = |e: &dyn std::fmt::Display| PkiError::NotACertificate(e.to_string());
        let (_, certificate) = X509Certificate::from_der(der).map_err(|e| error(&e))?;
        let instant = |time: x509_parser::time::ASN1Time| {
            OffsetDateTime::from_unix_timestamp(time.timestamp()).map_err(|e| error(&e))
        };
        let validity = Validity {
            not_before: instant(certificate.validity().not_before)?,
            not_after: instant(certificate.validity().not_after)?,
        };
        let mut info = Self {
            subject: certificate.subject().to_string(),
            serial: certificate.tbs_certificate.serial.to_str_radix(16),
            validity,
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            uris: Vec::new(),
            is_ca: certificate.is_ca(),
            fingerprint_sha256: hex_sha256(der),
            public_key: certificate.public_key().subject_public_key.data.to_vec(),
        };
        if let Some(names) = certificate.subject_alternative_name().map_err(|e| error(&e))? {
            names.value.general_names.iter().for_each(|name| info.add(name));
        }
        Ok(info)
    }

    /// The SPIFFE id of a workload's certificate: its only URI name.
    pub fn spiffe_id(&self) -> Option<SpiffeId> {
        match self.uris.as_slice() {
            [uri] => uri.parse().ok(),
            _ => None,
        }
    }

    /// Whether a PEM private key is this certificate's.
    pub fn has_key(&self, key_pem: &str) -> bool {
        rcgen::KeyPair::from_pem(key_pem.trim()).is_ok_and(|pair| pair.public_key_raw() == self.public_key)
    }

    fn add(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
            GeneralName::URI(uri) => self.uris.push((*uri).to_owned()),
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                let address = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
                self.ip_addresses.extend(address.ok());
            }
            _ => {}
        }
    }
}

/// Each certificate of a PEM text, in order. A text without any is an error.
pub fn certificates(pem: &str) -> Result<Vec<CertificateInfo>, PkiError> {
    let all = blocks(pem)?;
    if all.is_empty() {
        return Err(PkiError::NotACertificate("no CERTIFICATE block".to_owned()));
    }
    all.iter().map(|der| CertificateInfo::parse_der(der)).collect()
}

/// SHA-256 of the first certificate of a PEM text, in lower case hexadecimal.
pub fn fingerprint_sha256(pem: &str) -> Result<String, PkiError> {
    first(pem).map(|der| hex_sha256(&der))
}

fn first(pem: &str) -> Result<Vec<u8>, PkiError> {
    let first = blocks(pem)?.into_iter().next();
    first.ok_or_else(|| PkiError::NotACertificate("no CERTIFICATE block".to_owned()))
}

fn blocks(pem: &str) -> Result<Vec<Vec<u8>>, PkiError> {
    let mut found = Vec::new();
    for block in Pem::iter_from_buffer(pem.as_bytes()) {
        let block = block.map_err(|e| PkiError::NotACertificate(e.to_string()))?;
        if block.label == "CERTIFICATE" {
            found.push(block.contents);
        }
    }
    Ok(found)
}

fn hex_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
