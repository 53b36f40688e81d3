//! TLS on both sides of a connection.

use envoy_api::envoy::config::core::v3::data_source::Specifier;
use envoy_api::envoy::config::core::v3::transport_socket::ConfigType;
use envoy_api::envoy::config::core::v3::{DataSource, TransportSocket};
use envoy_api::envoy::extensions::transport_sockets::tls::v3::common_tls_context::{
    CombinedCertificateValidationContext, ValidationContextType,
};
use envoy_api::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_api::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
    SubjectAltNameMatcher, UpstreamTlsContext,
};
use envoy_api::envoy::r#type::matcher::v3::StringMatcher;
use envoy_api::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use prost::{Message, Name};

use super::over_ads;
use crate::identity::Identity;
use crate::view::Trust;

/// Name of the secret with the trust bundles.
pub(crate) const TRUST_BUNDLE: &str = "system_trust_bundle";

/// The protocol by which proxies of a mesh know each other.
pub(crate) const MESH_ALPN: &str = "kuma";

/// Text in the message itself.
pub(crate) fn inline(text: &str) -> Option<DataSource> {
    let specifier = Some(Specifier::InlineBytes(text.as_bytes().to_vec()));
    Some(DataSource { specifier, ..DataSource::default() })
}

/// The transport of a connection with TLS.
pub(crate) fn tls_socket<M: Message + Name>(context: &M) -> Option<TransportSocket> {
    let config = ConfigType::TypedConfig(envoy_api::pack(context));
    Some(TransportSocket { name: "envoy.transport_sockets.tls".into(), config_type: Some(config) })
}

/// A name in a certificate.
pub(crate) fn san(kind: SanType, pattern: MatchPattern) -> SubjectAltNameMatcher {
    let matcher = StringMatcher { match_pattern: Some(pattern), ..StringMatcher::default() };
    SubjectAltNameMatcher {
        san_type: kind.into(),
        matcher: Some(matcher),
        ..SubjectAltNameMatcher::default()
    }
}

fn secret(name: String) -> SdsSecretConfig {
    SdsSecretConfig { name, sds_config: over_ads() }
}

fn mesh_tls(identity: &Identity, names: Vec<SubjectAltNameMatcher>) -> CommonTlsContext {
    let validation = CertificateValidationContext {
        match_typed_subject_alt_names: names,
        ..CertificateValidationContext::default()
    };
    let combined = CombinedCertificateValidationContext {
        default_validation_context: Some(validation),
        validation_context_sds_secret_config: Some(secret(TRUST_BUNDLE.into())),
        ..CombinedCertificateValidationContext::default()
    };
    CommonTlsContext {
        tls_certificate_sds_secret_configs: vec![secret(identity.secret_name())],
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(combined)),
        ..CommonTlsContext::default()
    }
}

/// Any name of a trusted domain.
pub(crate) fn trusted_names(trust: &Trust) -> Vec<SubjectAltNameMatcher> {
    let prefix = |domain: &str| MatchPattern::Prefix(format!("spiffe://{domain}/"));
    trust.iter().map(|(domain, _)| san(SanType::Uri, prefix(domain))).collect()
}

/// One of these identities. Nobody has the empty one: without any identity nobody is accepted, where an empty list
/// would accept everybody.
pub(crate) fn exact_names<'a>(identities: impl Iterator<Item = &'a str>) -> Vec<SubjectAltNameMatcher> {
    let exact = |id: &str| san(SanType::Uri, MatchPattern::Exact(id.into()));
    let names: Vec<_> = identities.map(exact).collect();
    if names.is_empty() { vec![exact("")] } else { names }
}

/// Proves the proxy to peers of the mesh and accepts those with one of the names.
pub(crate) fn downstream_tls(identity: &Identity, names: Vec<SubjectAltNameMatcher>) -> DownstreamTlsContext {
    DownstreamTlsContext {
        common_tls_context: Some(mesh_tls(identity, names)),
        require_client_certificate: Some(true),
        ..DownstreamTlsContext::default()
    }
}

/// Calls a peer of the mesh that has one of the names.
pub(crate) fn upstream_tls(
    identity: &Identity,
    names: Vec<SubjectAltNameMatcher>,
    sni: &str,
) -> UpstreamTlsContext {
    let common = CommonTlsContext { alpn_protocols: vec![MESH_ALPN.into()], ..mesh_tls(identity, names) };
    UpstreamTlsContext { common_tls_context: Some(common), sni: sni.into(), ..UpstreamTlsContext::default() }
}
