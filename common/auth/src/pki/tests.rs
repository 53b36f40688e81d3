//! Issued certificates, read back with a parser that did not make them.

use x509_parser::pem::Pem;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
}

fn validity() -> Validity {
    Validity::starting(now(), DAY).unwrap()
}

fn authority() -> Authority {
    Authority::generate("Test CA", Some("east.mesh.local"), validity()).unwrap()
}

fn der(pem: &str) -> Vec<u8> {
    Pem::iter_from_buffer(pem.as_bytes()).next().unwrap().unwrap().contents
}

/// Whether `leaf` carries a valid signature of `ca`.
fn is_signed_by(leaf: &str, ca: &str) -> bool {
    let (leaf, ca) = (der(leaf), der(ca));
    let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).unwrap();
    let (_, ca) = x509_parser::parse_x509_certificate(&ca).unwrap();
    leaf.verify_signature(Some(ca.public_key())).is_ok()
}

#[test]
fn an_authority_says_what_it_is() {
    let ca = authority();
    let info = CertificateInfo::parse(ca.certificate_pem()).unwrap();
    assert!(info.is_ca);
    assert_eq!(info.subject, "CN=Test CA");
    assert_eq!(info.validity, validity());
    assert_eq!(info.spiffe_id(), Some(SpiffeId::trust_domain("east.mesh.local").unwrap()));
    assert_eq!(info.fingerprint_sha256, fingerprint_sha256(ca.certificate_pem()).unwrap());
    assert_eq!(info.fingerprint_sha256.len(), 64);
    assert!(is_signed_by(ca.certificate_pem(), ca.certificate_pem()));
}

#[test]
fn a_workload_certificate_is_an_svid() {
    let ca = authority();
    let id: SpiffeId = "spiffe://east.mesh.local/ns/default/sa/web".parse().unwrap();
    let issued = ca.issue_workload(&id, now(), DAY).unwrap();
    let info = CertificateInfo::parse(&issued.certificate_pem).unwrap();
    assert_eq!(info.spiffe_id(), Some(id));
    assert_eq!(info.validity.not_before, now() - Duration::from_secs(10));
    assert_eq!(info.validity.not_after, now() + DAY);
    assert!(!info.is_ca);

    let der = der(&issued.certificate_pem);
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    let usage = parsed.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && usage.key_encipherment() && usage.key_agreement());
    assert!(!usage.key_cert_sign());
    let extended = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && extended.client_auth);
    assert!(is_signed_by(&issued.chain_pem, ca.certificate_pem()));
    assert!(!is_signed_by(&issued.chain_pem, authority().certificate_pem()));
    assert_eq!(certificates(&issued.chain_pem).unwrap().len(), 2);
}

#[test]
fn server_and_client_certificates_carry_their_names() {
    let ca = authority();
    let names = ["localhost", "*.mesh.local", "127.0.0.1", "::1"].map(str::to_owned);
    let issued = ca.issue_server("cp", &names, validity()).unwrap();
    let info = CertificateInfo::parse(&issued.certificate_pem).unwrap();
    assert_eq!(info.dns_names, ["localhost", "*.mesh.local"]);
    assert_eq!(info.ip_addresses, ["127.0.0.1".parse::<std::net::IpAddr>().unwrap(), "::1".parse().unwrap()]);
    let error = ca.issue_server("cp", &["hélas".to_owned()], validity()).unwrap_err();
    assert!(matches!(error, PkiError::Name(_)));
    let client = ca.issue_client("zone-east", validity()).unwrap();
    let info = CertificateInfo::parse(&client.certificate_pem).unwrap();
    assert_eq!((info.subject.as_str(), info.spiffe_id()), ("CN=zone-east", None));
}

#[test]
fn an_authority_is_read_back_and_goes_on_issuing() {
    let ca = authority();
    let again = Authority::from_pem(ca.certificate_pem(), ca.key().expose()).unwrap();
    let issued = again.issue_client("x", validity()).unwrap();
    assert!(is_signed_by(&issued.certificate_pem, ca.certificate_pem()));
}

#[test]
fn an_authority_with_an_rsa_key_in_either_form() {
    let key = crate::token::SigningKey::generate().unwrap();
    let pkcs1 = key.private_pem().expose();
    let pair = KeyPair::from_pem(pkcs1).unwrap();
    let certificate = request::authority("RSA CA", validity()).self_signed(&pair).unwrap().pem();
    let ca = Authority::from_pem(&certificate, pkcs1).unwrap();
    let id = "spiffe://a/b".parse().unwrap();
    let issued = ca.issue_workload(&id, now(), DAY).unwrap();
    assert!(is_signed_by(&issued.certificate_pem, &certificate));
    let pkcs8 = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let certificate = request::authority("RSA CA", validity()).self_signed(&pkcs8).unwrap().pem();
    Authority::from_pem(&certificate, &pkcs8.serialize_pem()).unwrap();
}

#[test]
fn what_is_no_authority_is_refused() {
    let ca = authority();
    let leaf = ca.issue_client("x", validity()).unwrap();
    let key = ca.key().expose();
    let refusal = |certificate: &str, key: &str| Authority::from_pem(certificate, key).unwrap_err();
    assert!(matches!(refusal(&leaf.certificate_pem, leaf.key.expose()), PkiError::NotACa { .. }));
    assert!(matches!(refusal(ca.certificate_pem(), leaf.key.expose()), PkiError::KeyMismatch));
    assert!(matches!(refusal(ca.certificate_pem(), "x"), PkiError::NotAKey));
    assert!(matches!(refusal(key, key), PkiError::NotACertificate(_)));
    assert!(matches!(refusal("", key), PkiError::NotACertificate(_)));
    assert!(matches!(CertificateInfo::parse_der(b"\x30\x03abc"), Err(PkiError::NotACertificate(_))));
    assert!(matches!(Validity::starting(now(), Duration::MAX), Err(PkiError::Validity)));
}

#[test]
fn no_key_shows_in_debug_output() {
    let ca = authority();
    let leaf = ca.issue_client("x", validity()).unwrap();
    let shown = format!("{ca:?} {leaf:?}");
    for key in [ca.key(), &leaf.key] {
        assert!(!shown.contains(key.expose().lines().nth(1).unwrap()));
    }
    assert!(!shown.contains("PRIVATE KEY"));
}

#[test]
fn spiffe_ids_are_checked() {
    for good in ["spiffe://a.b-c_1", "spiffe://mesh/ns/Default/sa/web_1.x-y"] {
        assert_eq!(good.parse::<SpiffeId>().unwrap().as_str(), good);
    }
    let long = format!("spiffe://a/{}", "x".repeat(2048));
    let bad = ["", "http://a/b", "spiffe://", "spiffe:///x", "spiffe://A/b", "spiffe://a/", "spiffe://a//b"];
    for bad in
        bad.iter().chain(&["spiffe://a/../b", "spiffe://a/b c", "spiffe://a/%41", "spiffe://a:1/b", &long])
    {
        assert!(bad.parse::<SpiffeId>().is_err(), "{bad}");
    }
}
