//! TLS towards what is outside the mesh.

use std::net::IpAddr;

use envoy_api::envoy::config::cluster::v3::cluster::TransportSocketMatch;
use envoy_api::envoy::config::core::v3::DataSource as Source;
use envoy_api::envoy::config::core::v3::data_source::Specifier;
use envoy_api::envoy::extensions::transport_sockets::tls::v3::certificate_validation_context::TrustChainVerification;
use envoy_api::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use envoy_api::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_api::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, SubjectAltNameMatcher, TlsCertificate, UpstreamTlsContext,
};
use envoy_api::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use model::Labels;
use model::spec::{DataSource, ExternalTls, ExternalVerification};

use super::Context;
use crate::parts::{document, san, tls_socket};
use crate::policies::mesh_tls::parameters;

/// Where a system keeps its authorities when the proxy did not say it.
const SYSTEM_CA: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The transport to the endpoints of a destination; `None` when a certificate it asks for is not there.
pub(crate) fn transport(
    context: &Context<'_>,
    tags: &Labels,
    host: &str,
    tls: &ExternalTls,
) -> Option<TransportSocketMatch> {
    let none = ExternalVerification::default();
    let verification = tls.verification.as_ref().unwrap_or(&none);
    let server = verification.server_name.as_deref().filter(|name| !name.is_empty());
    let version = tls.version.as_ref();
    let common = CommonTlsContext {
        tls_params: version.and_then(|version| parameters(Some(&version.min), Some(&version.max), &[])),
        tls_certificates: certificates(context, verification)?,
        validation_context_type: validation(context, verification, server.unwrap_or(host))?
            .map(ValidationContextType::ValidationContext),
        ..CommonTlsContext::default()
    };
    let by_name = host.parse::<IpAddr>().is_err().then_some(host);
    let socket = UpstreamTlsContext {
        common_tls_context: Some(common),
        sni: server.or(by_name).unwrap_or_default().into(),
        allow_renegotiation: tls.allow_renegotiation,
        ..UpstreamTlsContext::default()
    };
    let shown = tags.iter().filter(|(key, _)| *key != model::labels::SERVICE);
    Some(TransportSocketMatch {
        name: host.into(),
        r#match: Some(document(shown.map(|(key, value)| (key.as_str(), value.as_str())))),
        transport_socket: tls_socket(&socket),
    })
}

/// Own certificate and key, where the destination asks for them.
fn certificates(context: &Context<'_>, asked: &ExternalVerification) -> Option<Vec<TlsCertificate>> {
    let (Some(certificate), Some(key)) = (&asked.client_cert, &asked.client_key) else {
        return Some(Vec::new());
    };
    Some(vec![TlsCertificate {
        certificate_chain: Some(source(context, certificate)?),
        private_key: Some(source(context, key)?),
        ..TlsCertificate::default()
    }])
}

/// Whom to accept: `Some(None)` is everybody.
fn validation(
    context: &Context<'_>,
    asked: &ExternalVerification,
    server: &str,
) -> Option<Option<CertificateValidationContext>> {
    let mode = asked.mode.as_deref().unwrap_or("Secured");
    if mode == "SkipAll" {
        return Some(None);
    }
    let mut accepted = CertificateValidationContext::default();
    if mode == "SkipCA" {
        accepted.trust_chain_verification = TrustChainVerification::AcceptUntrusted.into();
    }
    accepted.trusted_ca = Some(match &asked.ca_cert {
        Some(authority) => source(context, authority)?,
        None => {
            let path = context.proxy.metadata.system_ca_path.clone();
            file(path.unwrap_or_else(|| SYSTEM_CA.into()))
        }
    });
    if mode != "SkipSAN" {
        accepted.match_typed_subject_alt_names = names(asked, server);
    }
    Some(Some(accepted))
}

/// Names that the certificate must have, as name of a host or as address.
fn names(asked: &ExternalVerification, server: &str) -> Vec<SubjectAltNameMatcher> {
    let patterns: Vec<MatchPattern> = if asked.subject_alt_names.is_empty() {
        vec![MatchPattern::Exact(server.into())]
    } else {
        let pattern = |name: &model::spec::SanMatch| match name.r#type.as_str() {
            "Prefix" => MatchPattern::Prefix(name.value.clone()),
            _ => MatchPattern::Exact(name.value.clone()),
        };
        asked.subject_alt_names.iter().map(pattern).collect()
    };
    let kinds = [SanType::Dns, SanType::IpAddress];
    patterns.into_iter().flat_map(|pattern| kinds.map(|kind| san(kind, pattern.clone()))).collect()
}

fn file(path: String) -> Source {
    Source { specifier: Some(Specifier::Filename(path)), ..Source::default() }
}

/// Data as Envoy reads it: files and variables where the proxy runs, secrets and inline text in the message.
fn source(context: &Context<'_>, data: &DataSource) -> Option<Source> {
    if let Some(of) = &data.file {
        return Some(file(of.path.clone()));
    }
    let specifier = if let Some(reference) = &data.secret_ref {
        Specifier::InlineBytes(context.view.secret(&reference.name)?.into_bytes())
    } else if let Some(variable) = &data.env_var {
        Specifier::EnvironmentVariable(variable.name.clone())
    } else {
        Specifier::InlineBytes(data.insecure_inline.as_ref()?.value.clone().into_bytes())
    };
    Some(Source { specifier: Some(specifier), ..Source::default() })
}
