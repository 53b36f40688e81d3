//! What a proxy proves and whom it trusts.

use envoy_api::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_api::envoy::extensions::transport_sockets::tls::v3::spiffe_cert_validator_config::TrustDomain;
use envoy_api::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, SpiffeCertValidatorConfig, TlsCertificate,
};

use crate::config::{ConfigResource, ProxyConfig, ResourceType};
use crate::identity::Identity;
use crate::parts::{TRUST_BUNDLE, extension, inline};
use crate::view::Trust;

/// Adds the secrets of a proxy with an identity. Without anybody to trust there is no bundle: what refers to it
/// stays closed.
pub(crate) fn add(trust: &Trust, identity: &Identity, config: &mut ProxyConfig) {
    let mut secrets = Vec::new();
    if !trust.is_empty() {
        secrets.push(bundle(trust));
    }
    if !identity.private_key_pem.is_empty() {
        secrets.push(certificate(identity));
    }
    for secret in secrets {
        config.insert(secret.name.as_str().into(), ConfigResource::encode(ResourceType::Secret, &secret));
    }
}

fn bundle(trust: &Trust) -> Secret {
    let trust_domains = trust.iter().map(|(name, pem)| TrustDomain {
        name: name.into(),
        trust_bundle: inline(pem),
        ..TrustDomain::default()
    });
    let validator = SpiffeCertValidatorConfig {
        trust_domains: trust_domains.collect(),
        ..SpiffeCertValidatorConfig::default()
    };
    let custom_validator_config = Some(extension("envoy.tls.cert_validator.spiffe", &validator));
    let context =
        CertificateValidationContext { custom_validator_config, ..CertificateValidationContext::default() };
    Secret { name: TRUST_BUNDLE.into(), r#type: Some(Type::ValidationContext(context)) }
}

fn certificate(identity: &Identity) -> Secret {
    let certificate = TlsCertificate {
        certificate_chain: inline(&identity.certificate_pem),
        private_key: inline(&identity.private_key_pem),
        ..TlsCertificate::default()
    };
    Secret { name: identity.secret_name(), r#type: Some(Type::TlsCertificate(certificate)) }
}
