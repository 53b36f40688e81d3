//! The client side: whom a connection trusts.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use x509_parser::time::ASN1Time;

use super::{Fingerprint, TlsError, certificates, certified_key, provider, read};

/// Whom a client trusts.
#[derive(Clone, Debug, Default)]
pub enum Trust {
    /// The host's root certificates.
    #[default]
    System,
    /// The authorities of a PEM text. A listed certificate is also trusted when the server presents
    /// it as its own, as self-signed servers do.
    CaPem(String),
    /// The same, from a file that is read when the configuration is made.
    CaFile(PathBuf),
    /// The certificate with this fingerprint: the server's own, or an authority that is in the chain
    /// which the server presents.
    Fingerprint(Fingerprint),
    /// Anyone. The connection is encrypted, but it may lead to an impostor.
    SkipVerify,
}

/// A client configuration without ALPN: set `alpn_protocols` for the protocol in use.
///
/// `identity` is the certificate chain and key (PEM) to present when the server asks for one.
pub fn client_config(trust: &Trust, identity: Option<(&str, &str)>) -> Result<ClientConfig, TlsError> {
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::System => web_pki(system_roots()?)?,
        Trust::CaPem(pem) => Arc::new(Listed::new(pem, "the CA")?),
        Trust::CaFile(path) => Arc::new(Listed::new(&read(path)?, &path.display().to_string())?),
        Trust::Fingerprint(pin) => Arc::new(Pinned(*pin)),
        Trust::SkipVerify => Arc::new(Anyone),
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Pair)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => {
            let key = certified_key(chain, key, "the client certificate")?;
            Ok(builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key))))
        }
    }
}

pub(super) fn roots(pem: &str, what: &str) -> Result<RootCertStore, TlsError> {
    store(&certificates(pem, what)?, what)
}

fn store(authorities: &[CertificateDer<'static>], what: &str) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in authorities {
        let error =
            |e: rustls::Error| TlsError::Certificate { what: what.to_owned(), message: e.to_string() };
        store.add(certificate.clone()).map_err(error)?;
    }
    Ok(store)
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    let (usable, _) = store.add_parsable_certificates(found.certs);
    if usable == 0 {
        let reasons: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        return Err(TlsError::SystemRoots(reasons.join("; ")));
    }
    Ok(store)
}

fn web_pki(roots: RootCertStore) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| TlsError::Verifier(error.to_string()))
}

/// Trusts listed authorities, and listed certificates as they are.
#[derive(Debug)]
struct Listed {
    listed: Vec<CertificateDer<'static>>,
    web_pki: Arc<WebPkiServerVerifier>,
}

impl Listed {
    fn new(pem: &str, what: &str) -> Result<Self, TlsError> {
        let listed = certificates(pem, what)?;
        let web_pki = web_pki(store(&listed, what)?)?;
        Ok(Self { listed, web_pki })
    }
}

/// Trusts one certificate, known by its fingerprint.
#[derive(Debug)]
struct Pinned(Fingerprint);

/// Trusts everyone.
#[derive(Debug)]
struct Anyone;

/// Accepts a leaf that is trusted by itself, if it names the server and is within its validity.
fn trusted_leaf(
    leaf: &CertificateDer<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, rustls::Error> {
    verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
    valid_at(leaf, now)
}

fn valid_at(leaf: &CertificateDer<'_>, now: UnixTime) -> Result<ServerCertVerified, rustls::Error> {
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).map_err(|_| CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).ok().and_then(|now| ASN1Time::from_timestamp(now).ok());
    let now = now.ok_or(rustls::Error::FailedToGetCurrentTime)?;
    if now < parsed.validity().not_before {
        Err(CertificateError::NotValidYet.into())
    } else if now > parsed.validity().not_after {
        Err(CertificateError::Expired.into())
    } else {
        Ok(ServerCertVerified::assertion())
    }
}

/// The checks that the server holds the certificate's key: the same for every kind of trust.
macro_rules! handshake_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let algorithms = provider().signature_verification_algorithms;
            rustls::crypto::verify_tls12_signature(message, cert, signature, &algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let algorithms = provider().signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, cert, signature, &algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            provider().signature_verification_algorithms.supported_schemes()
        }
    };
}

impl ServerCertVerifier for Listed {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verdict = self.web_pki.verify_server_cert(leaf, issuers, name, ocsp, now);
        // webpki refuses an authority that serves with its own certificate, as generated
        // self-signed ones do.
        if verdict.is_err() && self.listed.iter().any(|listed| listed == leaf) {
            return trusted_leaf(leaf, name, now);
        }
        verdict
    }

    handshake_signatures!();
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if Fingerprint::of(leaf) == self.0 {
            // The fingerprint names this very certificate, so the name it carries adds nothing.
            return valid_at(leaf, now);
        }
        let Some(pinned) = issuers.iter().find(|issuer| Fingerprint::of(issuer) == self.0) else {
            return Err(CertificateError::UnknownIssuer.into());
        };
        let mut roots = RootCertStore::empty();
        roots.add(pinned.clone().into_owned())?;
        let web_pki = web_pki(roots).map_err(|error| rustls::Error::General(error.to_string()))?;
        web_pki.verify_server_cert(leaf, issuers, name, ocsp, now)
    }

    handshake_signatures!();
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    handshake_signatures!();
}
