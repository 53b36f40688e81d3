//! MeshTrace: requests that are traced, and who takes the spans.

use std::net::IpAddr;

use envoy_api::envoy::config::core::v3::{DataSource, data_source};
use envoy_api::envoy::config::trace::v3::tracing::Http as Provider;
use envoy_api::envoy::config::trace::v3::tracing::http::ConfigType;
use envoy_api::envoy::config::trace::v3::zipkin_config::CollectorEndpointVersion;
use envoy_api::envoy::config::trace::v3::{DatadogConfig, OpenTelemetryConfig, ZipkinConfig};
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::Tracing;
use envoy_api::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use envoy_api::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_api::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, UpstreamTlsContext,
};
use envoy_api::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_api::envoy::r#type::tracing::v3::CustomTag;
use envoy_api::envoy::r#type::tracing::v3::custom_tag::{Header, Literal, Type};
use envoy_api::envoy::r#type::v3::Percent;
use model::Kind;
use model::spec::{
    CollectorUrl, DatadogBackend, IntOrString, OtelTraceBackend, TraceBackend, TraceBackendType, TraceConf,
    TraceTag, ZipkinApiVersion, ZipkinBackend,
};
use prost::{Message, Name};

use super::otel::{Collector, Exporter, Signal, clean, cluster_to};
use crate::draft::{Cluster, Draft, Filter, Role};
use crate::generate::Context;
use crate::parts::san;

/// Who takes the spans of a listener.
enum Tracer {
    Zipkin(Box<ZipkinConfig>),
    Datadog { cluster: String, splits: bool },
    OpenTelemetry(Box<OpenTelemetryConfig>),
}

/// Traces what comes in, what leaves for the mesh, and what passes a proxy of the zone.
pub(crate) fn apply(context: &Context<'_>, draft: &mut Draft) {
    let selected = context.policies(Kind::MESH_TRACE);
    let Some(conf) = selected.proxy().and_then(|conf| conf.decode::<TraceConf>().ok()) else { return };
    let Some(backend) = conf.backends.as_deref().and_then(<[TraceBackend]>::first) else { return };
    let Some(tracer) = tracer(context, draft, backend) else { return };
    let tags = tags(context, &conf);
    for listener in draft.listeners.values_mut() {
        let suffix = match &listener.role {
            Role::Inbound { .. } | Role::ZoneIngress(_) | Role::ZoneEgress(_) => "_INBOUND".to_owned(),
            Role::Outbound(destination) if !destination.is_external() => {
                format!("_OUTBOUND_{}", destination.name)
            }
            _ => continue,
        };
        for filter in listener.chains.iter_mut().flat_map(|chain| &mut chain.filters) {
            let Filter::Http(manager) = filter else { continue };
            manager.tracing = Some(Tracing {
                custom_tags: tags.clone(),
                provider: Some(tracer.provider(context, &suffix)),
                spawn_upstream_span: Some(false),
                ..sampling(&conf)
            });
        }
    }
}

impl Tracer {
    fn provider(&self, context: &Context<'_>, suffix: &str) -> Provider {
        match self {
            Self::Zipkin(config) => provider("envoy.tracers.zipkin", config.as_ref()),
            Self::Datadog { cluster, splits } => {
                let service = context.workload();
                let service_name = if *splits { format!("{service}{suffix}") } else { service.to_owned() };
                let config = DatadogConfig {
                    collector_cluster: cluster.clone(),
                    service_name,
                    ..DatadogConfig::default()
                };
                provider("envoy.tracers.datadog", &config)
            }
            Self::OpenTelemetry(config) => provider("envoy.tracers.opentelemetry", config.as_ref()),
        }
    }
}

fn provider<M: Message + Name>(name: &str, config: &M) -> Provider {
    Provider { name: name.into(), config_type: Some(ConfigType::TypedConfig(envoy_api::pack(config))) }
}

fn sampling(conf: &TraceConf) -> Tracing {
    let Some(said) = &conf.sampling else { return Tracing::default() };
    let percent = |share: &Option<IntOrString>| {
        let value = share.as_ref()?.as_f64()?;
        Some(Percent { value: value.clamp(0.0, 100.0) })
    };
    Tracing {
        overall_sampling: percent(&said.overall),
        client_sampling: percent(&said.client),
        random_sampling: percent(&said.random),
        ..Tracing::default()
    }
}

/// What users say of spans, then what is known of the proxy.
fn tags(context: &Context<'_>, conf: &TraceConf) -> Vec<CustomTag> {
    let said = conf.tags.iter().flatten().filter_map(|TraceTag { name, literal: said, header }| {
        match (said, header) {
            (Some(value), _) => Some(literal(name, value)),
            (None, Some(header)) => {
                let header = Header {
                    name: header.name.clone(),
                    default_value: header.default.clone().unwrap_or_default(),
                };
                Some(CustomTag { tag: name.clone(), r#type: Some(Type::RequestHeader(header)) })
            }
            (None, None) => None,
        }
    });
    let workload = context.workload_kri().unwrap_or_default();
    let known = [
        ("kuma.mesh", context.view.mesh()),
        ("kuma.zone", context.view.zone()),
        ("kuma.workload", &workload),
    ];
    // Envoy refuses a tag without a value.
    let known = known.into_iter().filter(|(_, value)| !value.is_empty());
    said.chain(known.map(|(name, value)| literal(name, value))).collect()
}

fn literal(name: &str, value: &str) -> CustomTag {
    CustomTag { tag: name.into(), r#type: Some(Type::Literal(Literal { value: value.into() })) }
}

fn tracer(context: &Context<'_>, draft: &mut Draft, backend: &TraceBackend) -> Option<Tracer> {
    match backend.r#type {
        TraceBackendType::Zipkin => zipkin(context, draft, backend.zipkin.as_ref()?),
        TraceBackendType::Datadog => datadog(context, draft, backend.datadog.as_ref()?),
        TraceBackendType::OpenTelemetry => open_telemetry(context, draft, backend.open_telemetry.as_ref()?),
    }
}

fn zipkin(context: &Context<'_>, draft: &mut Draft, said: &ZipkinBackend) -> Option<Tracer> {
    let url = CollectorUrl::parse(&said.url)?;
    let cluster = format!("system_meshtrace_zipkin_{}", clean(&said.url));
    add_cluster(context, draft, &cluster, &url);
    let version = match said.api_version {
        ZipkinApiVersion::HttpJson => CollectorEndpointVersion::HttpJson,
        ZipkinApiVersion::HttpProto => CollectorEndpointVersion::HttpProto,
    };
    Some(Tracer::Zipkin(Box::new(ZipkinConfig {
        collector_cluster: cluster,
        // Envoy refuses an empty one.
        collector_endpoint: if url.path.is_empty() { "/" } else { url.path }.into(),
        collector_hostname: url.authority.into(),
        collector_endpoint_version: version.into(),
        trace_id_128bit: said.trace_id_128bit,
        shared_span_context: Some(said.shared_span_context),
        ..ZipkinConfig::default()
    })))
}

fn datadog(context: &Context<'_>, draft: &mut Draft, said: &DatadogBackend) -> Option<Tracer> {
    let url = CollectorUrl::parse(&said.url)?;
    let cluster = format!("system_meshtrace_datadog_{}", clean(&said.url));
    add_cluster(context, draft, &cluster, &url);
    Some(Tracer::Datadog { cluster, splits: said.split_service })
}

fn open_telemetry(context: &Context<'_>, draft: &mut Draft, said: &OtelTraceBackend) -> Option<Tracer> {
    let collector = Collector::of(context, said.backend_ref.as_ref())?;
    let cluster = format!("system_meshtrace_otel_{}", clean(collector.name()));
    let mut config =
        OpenTelemetryConfig { service_name: context.workload().into(), ..OpenTelemetryConfig::default() };
    match collector.export(context, draft, Signal::Traces, &cluster)? {
        Exporter::Grpc(service) => config.grpc_service = Some(*service),
        Exporter::Http(service) => config.http_service = Some(service),
    }
    Some(Tracer::OpenTelemetry(Box::new(config)))
}

fn add_cluster(context: &Context<'_>, draft: &mut Draft, name: &str, url: &CollectorUrl<'_>) {
    let message = cluster_to(context, name, url.host, u32::from(url.port_or_default()));
    let tls = url.is_https.then(|| client_tls(context, url.host));
    draft.add_cluster(Cluster { tls, ..Cluster::new(Role::System, message) });
}

/// The collector proves its name to an authority that the system trusts, where the proxy told those.
fn client_tls(context: &Context<'_>, host: &str) -> UpstreamTlsContext {
    let is_address = host.parse::<IpAddr>().is_ok();
    let validation = context.proxy.metadata.system_ca_path.as_ref().map(|path| {
        let kind = if is_address { SanType::IpAddress } else { SanType::Dns };
        let authorities = data_source::Specifier::Filename(path.clone());
        ValidationContextType::ValidationContext(CertificateValidationContext {
            trusted_ca: Some(DataSource { specifier: Some(authorities), ..DataSource::default() }),
            match_typed_subject_alt_names: vec![san(kind, MatchPattern::Exact(host.into()))],
            ..CertificateValidationContext::default()
        })
    });
    let common = CommonTlsContext { validation_context_type: validation, ..CommonTlsContext::default() };
    UpstreamTlsContext {
        common_tls_context: Some(common),
        sni: if is_address { String::new() } else { host.into() },
        ..UpstreamTlsContext::default()
    }
}
