//! The shape of each kind of certificate.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    SanType,
};

use super::{PkiError, Validity, common_name};

/// The longest SPIFFE id (SPIFFE-ID, section 2.3).
const MAX_SPIFFE_ID: usize = 2048;

/// The identity of a workload: `spiffe://trust-domain/path`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId(String);

impl SpiffeId {
    /// The id of a trust domain itself: no path.
    pub fn trust_domain(domain: &str) -> Result<Self, PkiError> {
        format!("spiffe://{domain}").parse()
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn san(&self) -> Result<SanType, PkiError> {
        let uri = self.0.as_str().try_into().map_err(|_| PkiError::SpiffeId(self.0.clone()))?;
        Ok(SanType::URI(uri))
    }
}

impl FromStr for SpiffeId {
    type Err = PkiError;

    fn from_str(text: &str) -> Result<Self, PkiError> {
        let refused = || PkiError::SpiffeId(text.to_owned());
        let rest =
            text.strip_prefix("spiffe://").filter(|_| text.len() <= MAX_SPIFFE_ID).ok_or_else(refused)?;
        let (domain, path) = rest.split_once('/').map_or((rest, None), |(domain, path)| (domain, Some(path)));
        let domain_char = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        let path_char = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let segment = |s: &str| !matches!(s, "" | "." | "..") && s.bytes().all(path_char);
        let domain_ok = !domain.is_empty() && domain.bytes().all(domain_char);
        if domain_ok && path.is_none_or(|path| path.split('/').all(segment)) {
            Ok(Self(text.to_owned()))
        } else {
            Err(refused())
        }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn base(subject: DistinguishedName, validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.not_before = validity.not_before;
    params.not_after = validity.not_after;
    params
}

fn leaf(subject: DistinguishedName, validity: Validity) -> CertificateParams {
    let mut params = base(subject, validity);
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params
}

pub(super) fn authority(name: &str, validity: Validity) -> CertificateParams {
    let mut params = base(common_name(name), validity);
    // It issues leaves only, so a stolen leaf key cannot become an authority below it.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

pub(super) fn server(
    name: &str,
    names: &[String],
    validity: Validity,
) -> Result<CertificateParams, PkiError> {
    let mut params = leaf(common_name(name), validity);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for san in names {
        params.subject_alt_names.push(match san.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(san.as_str().try_into().map_err(|_| PkiError::Name(san.clone()))?),
        });
    }
    Ok(params)
}

pub(super) fn client(name: &str, validity: Validity) -> CertificateParams {
    let mut params = leaf(common_name(name), validity);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    // Envoy looks at alternative names only.
    params.subject_alt_names.extend(name.try_into().ok().map(SanType::DnsName));
    params
}

/// X509-SVID, sections 2 and 4: one URI name, no CA, both ends of a connection.
pub(super) fn workload(id: &SpiffeId, validity: Validity) -> Result<CertificateParams, PkiError> {
    let mut params = leaf(DistinguishedName::new(), validity);
    params.key_usages.push(KeyUsagePurpose::KeyAgreement);
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = vec![id.san()?];
    Ok(params)
}
