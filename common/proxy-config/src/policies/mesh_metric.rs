//! MeshMetric: listeners from which Prometheus takes metrics, and what the program beside Envoy collects and pushes.

use std::collections::BTreeMap;

use envoy_api::envoy::config::core::v3::data_source::Specifier;
use envoy_api::envoy::config::core::v3::{DataSource, TrafficDirection};
use envoy_api::envoy::config::listener::v3::Listener;
use envoy_api::envoy::config::route::v3::RouteAction;
use envoy_api::envoy::extensions::transport_sockets::tls::v3::{
    CommonTlsContext, DownstreamTlsContext, TlsCertificate,
};
use kds_proto::mesh::dataplane::networking::listener::Type;
use model::duration::GoDuration;
use model::spec::{
    MetricBackendConf, MetricBackendType, MetricConf, OtelMetricBackend, PrometheusBackend, PrometheusTlsMode,
};
use model::{Kind, labels};

use super::otel::{Collector, Signal, via_program};
use crate::documents::{Application, MetricBackend, MetricDocument, MetricPush, Metrics, Observability};
use crate::draft::{Chain, Cluster, Draft, Filter, Role};
use crate::generate::Context;
use crate::parts::{
    downstream_tls, http_manager, pipe, prefix_route, route_configuration, socket, socket_path, stat_name,
    static_cluster, to_cluster, trusted_names,
};

/// Path of the document, and where the program beside Envoy serves metrics.
const PATH: &str = "meshmetric";

/// How often metrics are pushed unless a policy says otherwise.
const REFRESH: GoDuration = GoDuration::from_nanos(60_000_000_000);

/// Adds the listeners and the document.
pub(crate) fn apply(context: &Context<'_>, draft: &mut Draft) {
    let selected = context.policies(Kind::MESH_METRIC);
    let Some(conf) = selected.proxy().and_then(|conf| conf.decode::<MetricConf>().ok()) else { return };
    let Some(workdir) = context.proxy.metadata.workdir.as_deref() else { return };
    let backends = conf.backends.iter().flatten();
    let backends = backends.filter_map(|backend| add_backend(context, draft, workdir, backend));
    let backends: Vec<MetricBackend> = backends.collect();
    let metrics = Metrics {
        applications: applications(context, &conf),
        backends: (!backends.is_empty()).then_some(backends),
        sidecar: conf.sidecar,
        extra_labels: extra_labels(context),
    };
    let document = MetricDocument { observability: Observability { metrics } };
    if let Ok(text) = serde_json::to_string(&document) {
        draft.documents.insert(PATH.into(), text);
    }
}

/// Proxies of a zone have no applications.
fn applications(context: &Context<'_>, conf: &MetricConf) -> Option<Vec<Application>> {
    let is_zone_proxy = context.networking.inbound.is_empty() && !context.networking.listeners.is_empty();
    let said = conf.applications.as_ref().filter(|said| !said.is_empty() && !is_zone_proxy)?;
    let each = said.iter().filter_map(|one| {
        Some(Application {
            name: one.name.clone(),
            path: one.path.clone(),
            port: u32::try_from(one.port).ok()?,
            address: one.address.clone().unwrap_or_default(),
        })
    });
    Some(each.collect())
}

fn extra_labels(context: &Context<'_>) -> BTreeMap<String, String> {
    let known = [
        ("mesh", Some(context.view.mesh())),
        ("zone", Some(context.view.zone())),
        ("kuma.proxy_role", Some(role(context))),
        ("kuma.workload", context.proxy.dataplane.label(labels::WORKLOAD)),
    ];
    known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect()
}

fn role(context: &Context<'_>) -> &'static str {
    let has = |kind: Type| context.networking.listeners.iter().any(|listener| listener.r#type() == kind);
    match (context.networking.inbound.is_empty(), has(Type::ZoneIngress), has(Type::ZoneEgress)) {
        (true, true, true) => "zone-proxy",
        (true, true, false) => "zone-ingress",
        (true, false, true) => "zone-egress",
        _ => "sidecar",
    }
}

/// Adds what serves a backend; answers how the program beside Envoy knows it.
fn add_backend(
    context: &Context<'_>,
    draft: &mut Draft,
    workdir: &str,
    backend: &MetricBackendConf,
) -> Option<MetricBackend> {
    match backend.r#type {
        MetricBackendType::Prometheus => {
            let said = backend.prometheus.clone().unwrap_or_default();
            add_prometheus(context, draft, workdir, &said);
            let r#type = "Prometheus".into();
            Some(MetricBackend { r#type, name: said.client_id, open_telemetry: None })
        }
        MetricBackendType::OpenTelemetry => {
            add_otel(context, draft, workdir, backend.open_telemetry.as_ref()?)
        }
    }
}

/// Without what its TLS is made of there is no listener: metrics are not for everybody.
fn add_prometheus(context: &Context<'_>, draft: &mut Draft, workdir: &str, said: &PrometheusBackend) {
    let mode = said.tls.clone().unwrap_or_default().mode;
    let tls = match mode {
        PrometheusTlsMode::Disabled => None,
        PrometheusTlsMode::ProvidedTLS => provided_tls(context),
        PrometheusTlsMode::ActiveMTLSBackend => {
            context.identity.map(|identity| downstream_tls(identity, trusted_names(context.view.trust())))
        }
    };
    let port = u16::try_from(said.port).ok().filter(|port| *port > 0);
    let (Some(address), Some(port)) = (context.address(), port) else { return };
    if mode != PrometheusTlsMode::Disabled && tls.is_none() {
        return;
    }
    let client = said.client_id.as_deref().filter(|client| !client.is_empty()).unwrap_or("default-backend");
    let name = format!("system_meshmetric_prometheus_{client}");
    let dataplane = context.proxy.dataplane.key();
    let metrics = socket_path(workdir, &format!("kuma-mh-{}-{}", dataplane.name, dataplane.mesh));
    draft.add_cluster(Cluster::new(Role::System, static_cluster(&name, pipe(&metrics))));
    let action = RouteAction { prefix_rewrite: format!("/{PATH}"), ..to_cluster(&name) };
    let listener = Listener {
        stat_prefix: stat_name(&name),
        address: Some(socket(address, u32::from(port))),
        traffic_direction: TrafficDirection::Inbound.into(),
        enable_reuse_port: context.reuse_port(),
        name: name.clone(),
        ..Listener::default()
    };
    let chain = Chain { tls, ..forward(context, &name, &said.path, action) };
    draft.add_listener(Role::System, listener, vec![chain]);
}

fn forward(context: &Context<'_>, name: &str, prefix: &str, action: RouteAction) -> Chain {
    let routes = route_configuration("", name, vec![prefix_route(prefix, action)]);
    let local: Vec<_> = context.local().collect();
    let manager = http_manager(name, routes, local.iter());
    Chain { filters: vec![Filter::Http(Box::new(manager))], ..Chain::default() }
}

/// The certificate that the proxy was started with.
fn provided_tls(context: &Context<'_>) -> Option<DownstreamTlsContext> {
    let metadata = &context.proxy.metadata;
    let file = |path: &String| {
        Some(DataSource { specifier: Some(Specifier::Filename(path.clone())), ..DataSource::default() })
    };
    let certificate = TlsCertificate {
        certificate_chain: file(metadata.metrics_certificate.as_ref()?),
        private_key: file(metadata.metrics_key.as_ref()?),
        ..TlsCertificate::default()
    };
    let common = CommonTlsContext { tls_certificates: vec![certificate], ..CommonTlsContext::default() };
    Some(DownstreamTlsContext { common_tls_context: Some(common), ..DownstreamTlsContext::default() })
}

/// The program beside Envoy pushes by itself; an older one through a socket of Envoy.
fn add_otel(
    context: &Context<'_>,
    draft: &mut Draft,
    workdir: &str,
    said: &OtelMetricBackend,
) -> Option<MetricBackend> {
    let collector = Collector::of(context, said.backend_ref.as_ref())?;
    let interval = said.refresh_interval.unwrap_or(REFRESH);
    if via_program(context).is_some() {
        collector.hand_over(context, draft, Signal::Metrics(interval), workdir);
        return None;
    }
    let name = format!("system_meshmetric_otel_{}", collector.name());
    collector.add_cluster(context, draft, &name);
    let endpoint = collector.socket(workdir);
    let listener = Listener {
        stat_prefix: stat_name(&name),
        address: Some(pipe(&endpoint)),
        traffic_direction: TrafficDirection::Outbound.into(),
        name: name.clone(),
        ..Listener::default()
    };
    let chain = forward(context, &name, "/", to_cluster(&name));
    draft.add_listener(Role::System, listener, vec![chain]);
    Some(MetricBackend {
        r#type: "OpenTelemetry".into(),
        name: Some(collector.name().into()),
        open_telemetry: Some(MetricPush { endpoint, refresh_interval: interval }),
    })
}
