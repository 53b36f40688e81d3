//! Real handshakes in memory: who is trusted and who is not.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

/// A certificate for `names` that signed itself, and its key.
pub(crate) fn self_signed(names: &[&str]) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// An authority and a chain (leaf, authority) for `localhost` with its key.
pub(crate) fn authority() -> (String, String, String) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::<String>::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::from_params(&ca, &ca_key);
    let key = KeyPair::generate().unwrap();
    let leaf =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    (ca_pem.clone(), leaf.pem() + &ca_pem, key.serialize_pem())
}

async fn handshake(chain: &str, key: &str, trust: &Trust, name: &str) -> std::io::Result<()> {
    let server = server_config(fixed_certificate(chain, key).unwrap(), None).unwrap();
    let client = Arc::new(client_config(trust, None).unwrap());
    let (near, far) = tokio::io::duplex(65_536);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let (accepted, connected) =
        tokio::join!(TlsAcceptor::from(server).accept(far), TlsConnector::from(client).connect(name, near));
    drop(accepted);
    connected.map(drop)
}

#[tokio::test]
async fn a_listed_authority_vouches_for_its_names_only() {
    let (ca, chain, key) = authority();
    let trust = Trust::CaPem(ca);
    handshake(&chain, &key, &trust, "localhost").await.unwrap();
    handshake(&chain, &key, &trust, "elsewhere").await.unwrap_err();
    let other = Trust::CaPem(authority().0);
    handshake(&chain, &key, &other, "localhost").await.unwrap_err();
}

#[tokio::test]
async fn a_self_signed_authority_may_serve_when_it_is_listed() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    let trust = Trust::CaPem(pem.clone());
    handshake(&pem, &key.serialize_pem(), &trust, "localhost").await.unwrap();
    handshake(&pem, &key.serialize_pem(), &trust, "elsewhere").await.unwrap_err();

    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let expired = params.self_signed(&key).unwrap().pem();
    let trust = Trust::CaPem(expired.clone());
    handshake(&expired, &key.serialize_pem(), &trust, "localhost").await.unwrap_err();
}

#[tokio::test]
async fn a_fingerprint_pins_the_leaf_or_its_authority() {
    let (ca, chain, key) = authority();
    let of_ca = Trust::Fingerprint(Fingerprint::of_pem(&ca).unwrap());
    handshake(&chain, &key, &of_ca, "localhost").await.unwrap();
    handshake(&chain, &key, &of_ca, "elsewhere").await.unwrap_err();
    let of_leaf = Trust::Fingerprint(Fingerprint::of_pem(&chain).unwrap());
    handshake(&chain, &key, &of_leaf, "elsewhere").await.unwrap();
    let (other, other_key) = self_signed(&["localhost"]);
    handshake(&other, &other_key, &of_ca, "localhost").await.unwrap_err();
    // An impostor that adds the pinned authority to its own chain is not signed by it.
    handshake(&(other + &ca), &other_key, &of_ca, "localhost").await.unwrap_err();
}

#[tokio::test]
async fn skipping_verification_accepts_anyone() {
    let (chain, key) = self_signed(&["a"]);
    handshake(&chain, &key, &Trust::SkipVerify, "b").await.unwrap();
}

#[test]
fn fingerprints_are_read_in_every_usual_form() {
    let pin = Fingerprint::of_pem(&self_signed(&["a"]).0).unwrap();
    let text = pin.to_string();
    let colons: Vec<_> = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap()).collect();
    for form in [text.clone(), colons.join(":").to_uppercase(), format!("sha256:{text}")] {
        assert_eq!(form.parse::<Fingerprint>().unwrap(), pin);
    }
    assert!("abc".parse::<Fingerprint>().is_err());
    assert!("zz".repeat(32).parse::<Fingerprint>().is_err());
}

#[test]
fn the_provider_can_be_installed_twice() {
    install_provider();
    install_provider();
}
