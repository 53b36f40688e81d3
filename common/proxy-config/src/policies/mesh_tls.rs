//! MeshTLS: proxies with an identity prove it to each other. Strict inbounds take nothing else, permissive ones also
//! plain connections, for the time in which peers get their identities.

use envoy_api::envoy::config::listener::v3::{FilterChain, FilterChainMatch};
use envoy_api::envoy::extensions::transport_sockets::tls::v3::TlsParameters;
use envoy_api::envoy::extensions::transport_sockets::tls::v3::tls_parameters::TlsProtocol;
use model::Kind;
use model::spec::Protocol;
use policy::{Section, Selected};
use serde::Deserialize;

use crate::draft::{Chain, Draft, Filter, Role};
use crate::generate::Context;
use crate::identity::Identity;
use crate::parts::{MESH_ALPN, downstream_tls, inspect_tls, tcp_proxy, trusted_names};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
enum Mode {
    #[default]
    Strict,
    Permissive,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    mode: Mode,
    tls_version: Option<Versions>,
    tls_ciphers: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Versions {
    min: Option<String>,
    max: Option<String>,
}

impl Conf {
    /// What policies say of an inbound; what cannot be read says nothing, which is strict.
    fn of(selected: &Selected, section: &Section) -> Self {
        selected.catch_all(section).and_then(|conf| conf.decode().ok()).unwrap_or_default()
    }

    fn parameters(&self) -> Option<TlsParameters> {
        let (min, max) = match &self.tls_version {
            Some(versions) => (versions.min.as_deref(), versions.max.as_deref()),
            None => (None, None),
        };
        parameters(min, max, &self.tls_ciphers)
    }
}

/// Limits of TLS; `None` where there are none.
pub(crate) fn parameters(min: Option<&str>, max: Option<&str>, ciphers: &[String]) -> Option<TlsParameters> {
    let version = |name: Option<&str>| match name {
        Some("TLS10") => TlsProtocol::TlSv10,
        Some("TLS11") => TlsProtocol::TlSv11,
        Some("TLS12") => TlsProtocol::TlSv12,
        Some("TLS13") => TlsProtocol::TlSv13,
        _ => TlsProtocol::TlsAuto,
    };
    (min.is_some() || max.is_some() || !ciphers.is_empty()).then(|| TlsParameters {
        tls_minimum_protocol_version: version(min).into(),
        tls_maximum_protocol_version: version(max).into(),
        cipher_suites: ciphers.to_vec(),
        ..TlsParameters::default()
    })
}

fn sections<'a>(context: &'a Context<'_>) -> impl Iterator<Item = Section> + 'a {
    let inbounds = context.networking.inbound.iter();
    inbounds.map(|inbound| Section { name: inbound.name.clone(), port: inbound.port })
}

/// Whether no inbound takes plain connections.
pub(crate) fn is_strict_everywhere(context: &Context<'_>) -> bool {
    let selected = context.policies(Kind::MESH_TLS);
    sections(context).all(|section| Conf::of(&selected, &section).mode == Mode::Strict)
}

/// Puts TLS around the inbounds of a proxy with an identity, and its limits on calls within the mesh.
pub(crate) fn apply(context: &Context<'_>, draft: &mut Draft) {
    let Some(identity) = context.identity else { return };
    let selected = context.policies(Kind::MESH_TLS);
    for listener in draft.listeners.values_mut() {
        let Role::Inbound { section, protocol } = &listener.role else { continue };
        let conf = Conf::of(&selected, section);
        let Some(plain) = listener.chains.pop() else { continue };
        listener.chains = match conf.mode {
            Mode::Strict => vec![with_tls(context, identity, &conf, plain)],
            Mode::Permissive => {
                inspect_tls(&mut listener.message.listener_filters);
                permissive(context, identity, &conf, plain, (*protocol, &listener.message.name))
            }
        };
    }
    let limits = sections(context).find_map(|section| Conf::of(&selected, &section).parameters());
    let Some(limits) = limits else { return };
    for cluster in draft.clusters.values_mut() {
        let Role::Outbound(destination) = &cluster.role else { continue };
        let common = cluster.tls.as_mut().and_then(|tls| tls.common_tls_context.as_mut());
        if let (Some(common), false) = (common, destination.is_external()) {
            common.tls_params = Some(limits.clone());
        }
    }
}

fn with_tls(context: &Context<'_>, identity: &Identity, conf: &Conf, plain: Chain) -> Chain {
    let mut tls = downstream_tls(identity, trusted_names(context.view.trust()));
    if let Some(common) = &mut tls.common_tls_context {
        common.tls_params = conf.parameters();
    }
    Chain { tls: Some(tls), ..plain }
}

/// Plain connections, connections with the application's own TLS, and those of the mesh.
fn permissive(
    context: &Context<'_>,
    identity: &Identity,
    conf: &Conf,
    plain: Chain,
    (protocol, name): (Protocol, &str),
) -> Vec<Chain> {
    let only = |transport: &str, protocols: &[&str]| FilterChain {
        filter_chain_match: Some(FilterChainMatch {
            transport_protocol: transport.into(),
            application_protocols: protocols.iter().map(|protocol| (*protocol).into()).collect(),
            ..FilterChainMatch::default()
        }),
        ..FilterChain::default()
    };
    let through = if protocol.is_http() {
        vec![Filter::Tcp(Box::new(tcp_proxy(name, name)))]
    } else {
        plain.filters.clone()
    };
    let own_tls = Chain { message: only("tls", &[]), filters: through, ..Chain::default() };
    let mesh =
        Chain { message: only("tls", &[MESH_ALPN]), ..with_tls(context, identity, conf, plain.clone()) };
    vec![Chain { message: only("raw_buffer", &[]), ..plain }, own_tls, mesh]
}
