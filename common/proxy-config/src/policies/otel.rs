//! Collectors of OpenTelemetry: how Envoy reaches the one that a policy means. A program beside Envoy that can do so
//! sends signals on from a local socket, with what the environment of the proxy says of the collector; for others
//! Envoy calls the collector itself.

use std::collections::BTreeSet;
use std::net::IpAddr;

use envoy_api::envoy::config::cluster::v3::Cluster as ClusterMessage;
use envoy_api::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType, DnsLookupFamily};
use envoy_api::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy_api::envoy::config::core::v3::http_uri::HttpUpstreamType;
use envoy_api::envoy::config::core::v3::{GrpcService, HttpService, HttpUri};
use model::Resource;
use model::duration::GoDuration;
use model::spec::{MeshOpenTelemetryBackend, OtelBackendRef, OtelEnv, OtelEnvMode, Protocol};

use crate::documents::{OtelBackend, OtelDocument, OtelSignal};
use crate::draft::{Cluster, Draft, Role};
use crate::generate::Context;
use crate::metadata::Feature;
use crate::parts::{host, http_version, pipe, seconds, socket_path, static_cluster};

/// Path of the document.
const PATH: &str = "otel";

/// How long a connection to a collector may take to open, and a request to it.
const TIMEOUT: i64 = 10;

/// Where the program beside the proxy is looked for when nobody knows the machine's address.
const LOOPBACK: &str = "127.0.0.1";

/// What is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Traces,
    Logs,
    /// And how often.
    Metrics(GoDuration),
}

impl Signal {
    /// As environment variables and paths of OTLP name it.
    fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Logs => "logs",
            Self::Metrics(_) => "metrics",
        }
    }
}

/// The collector that a policy means.
pub(crate) struct Collector<'a> {
    resource: &'a Resource,
    spec: &'a MeshOpenTelemetryBackend,
}

/// How Envoy sends.
pub(crate) enum Exporter {
    Grpc(Box<GrpcService>),
    Http(HttpService),
}

impl<'a> Collector<'a> {
    /// `None` for one that is not there, or that cannot be read.
    pub(crate) fn of(context: &Context<'a>, reference: Option<&OtelBackendRef>) -> Option<Self> {
        let resource = context.view.collector(reference?)?;
        Some(Self { resource, spec: resource.spec().ok()? })
    }

    pub(crate) fn name(&self) -> &'a str {
        self.resource.name()
    }

    /// Where Envoy hands signals over.
    pub(crate) fn socket(&self, workdir: &str) -> String {
        socket_path(workdir, &format!("kuma-otel-{}", self.name()))
    }

    fn host(&self, context: &'a Context<'_>) -> &'a str {
        self.spec.address().or(context.proxy.metadata.host_ip.as_deref()).unwrap_or(LOOPBACK)
    }

    /// Names are made of address and port where Envoy calls the collector itself.
    pub(crate) fn place(&self, context: &Context<'_>) -> String {
        clean(&format!("{}-{}", self.host(context), self.spec.port()))
    }

    /// Makes Envoy's way to the collector; `cluster` names it. `None` where the environment should say where the
    /// collector is and does not.
    pub(crate) fn export(
        &self,
        context: &Context<'_>,
        draft: &mut Draft,
        signal: Signal,
        cluster: &str,
    ) -> Option<Exporter> {
        if let Some(workdir) = via_program(context) {
            if !self.hand_over(context, draft, signal, workdir) {
                return None;
            }
            let message = with_timeout(static_cluster(cluster, pipe(&self.socket(workdir))));
            add_cluster(draft, message, Protocol::Http2);
            return Some(Exporter::Grpc(Box::new(grpc(cluster))));
        }
        self.add_cluster(context, draft, cluster);
        Some(match self.spec.is_http() {
            true => Exporter::Http(self.http(context, signal, cluster)),
            false => Exporter::Grpc(Box::new(grpc(cluster))),
        })
    }

    /// Adds the way by which Envoy calls the collector itself.
    pub(crate) fn add_cluster(&self, context: &Context<'_>, draft: &mut Draft, name: &str) {
        let message = cluster_to(context, name, self.host(context), self.spec.port());
        add_cluster(draft, message, if self.spec.is_http() { Protocol::Http } else { Protocol::Http2 });
    }

    fn http(&self, context: &Context<'_>, signal: Signal, cluster: &str) -> HttpService {
        let authority = authority(self.host(context), self.spec.port());
        let uri = format!("http://{authority}{}/v1/{}", self.spec.path(), signal.name());
        let http_upstream_type = Some(HttpUpstreamType::Cluster(cluster.into()));
        let uri = HttpUri { uri, timeout: seconds(TIMEOUT), http_upstream_type };
        HttpService { http_uri: Some(uri), ..HttpService::default() }
    }

    /// Tells the program beside Envoy of a signal; answers whether it is exported.
    pub(crate) fn hand_over(
        &self,
        context: &Context<'_>,
        draft: &mut Draft,
        signal: Signal,
        workdir: &str,
    ) -> bool {
        let policy = self.spec.env.clone().unwrap_or_default();
        let plan = plan(context, &policy, signal);
        let is_enabled = plan.enabled;
        let address = self.spec.address().unwrap_or_default();
        let backend = draft.collectors.entry(self.name().into()).or_insert_with(|| OtelBackend {
            name: self.name().into(),
            socket_path: self.socket(workdir),
            endpoint: authority(address, self.spec.port()),
            use_http: self.spec.is_http(),
            path: self.spec.path().into(),
            env_policy: Some(OtelEnv {
                allow_signal_overrides: Some(policy.allow_signal_overrides.unwrap_or(true)),
                ..policy
            }),
            ..OtelBackend::default()
        });
        let place = match signal {
            Signal::Traces => &mut backend.traces,
            Signal::Logs => &mut backend.logs,
            Signal::Metrics(_) => &mut backend.metrics,
        };
        place.get_or_insert(plan);
        is_enabled
    }
}

/// The folder of the sockets, where the program beside Envoy sends signals on.
pub(crate) fn via_program<'a>(context: &Context<'a>) -> Option<&'a str> {
    let workdir = context.proxy.metadata.workdir.as_deref();
    workdir.filter(|_| context.has(Feature::OtelViaProgram))
}

/// Writes down what the program beside Envoy sends on.
pub(crate) fn add_document(draft: &mut Draft) {
    let backends: Vec<_> = std::mem::take(&mut draft.collectors).into_values().collect();
    if backends.is_empty() {
        return;
    }
    if let Ok(text) = serde_json::to_string(&OtelDocument { backends }) {
        draft.documents.insert(PATH.into(), text);
    }
}

/// What the environment of the proxy makes of a signal.
fn plan(context: &Context<'_>, policy: &OtelEnv, signal: Signal) -> OtelSignal {
    let environment = &context.proxy.metadata.otel_environment;
    let nothing = BTreeSet::new();
    let of = |layer: &str| environment.get(layer).unwrap_or(&nothing);
    let (shared, own) = (of("shared"), of(signal.name()));
    let refresh_interval = match signal {
        Signal::Metrics(interval) => Some(interval),
        _ => None,
    };
    let mut plan = OtelSignal { enabled: true, refresh_interval, ..OtelSignal::default() };
    if policy.mode == OtelEnvMode::Disabled {
        return plan;
    }
    let may_override = policy.allow_signal_overrides.unwrap_or(true);
    plan.env_input_present = !shared.is_empty() || !own.is_empty();
    plan.override_kinds = own.iter().cloned().collect();
    if !may_override && !own.is_empty() {
        plan.blocked_reasons.push("SignalOverridesDisallowed".into());
    }
    let counted = shared.iter().chain(own.iter().filter(|_| may_override));
    let has_endpoint = { counted }.any(|name| name.to_ascii_lowercase().contains("endpoint"));
    // Where the backend says where the collector is, the environment must still say so.
    if policy.mode == OtelEnvMode::Required && !has_endpoint {
        plan.enabled = false;
        plan.missing_fields.push("endpoint".into());
        plan.blocked_reasons.push("RequiredEnvMissing".into());
    }
    plan
}

fn add_cluster(draft: &mut Draft, message: ClusterMessage, spoken: Protocol) {
    draft.add_cluster(Cluster { http: http_version(spoken), ..Cluster::new(Role::System, message) });
}

/// A cluster of one host outside the mesh, by address or name.
pub(crate) fn cluster_to(context: &Context<'_>, name: &str, host_name: &str, port: u32) -> ClusterMessage {
    if host_name.parse::<IpAddr>().is_ok() {
        return with_timeout(static_cluster(name, host(host_name, port)));
    }
    let mut message = static_cluster(name, host(host_name, port));
    message.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::StrictDns.into()));
    if !context.proxy.metadata.ipv6 {
        message.dns_lookup_family = DnsLookupFamily::V4Only.into();
    }
    with_timeout(message)
}

fn with_timeout(mut message: ClusterMessage) -> ClusterMessage {
    message.connect_timeout = seconds(TIMEOUT);
    message
}

fn grpc(cluster: &str) -> GrpcService {
    let target = EnvoyGrpc { cluster_name: cluster.into(), ..EnvoyGrpc::default() };
    GrpcService { target_specifier: Some(TargetSpecifier::EnvoyGrpc(target)), ..GrpcService::default() }
}

/// Host and port; addresses of IPv6 in brackets.
fn authority(host: &str, port: u32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Text as part of a name: hyphens instead of all but small letters, digits, hyphens and underscores.
pub(crate) fn clean(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    text.chars().map(|c| if is_plain(c) { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_urls() {
        assert_eq!(
            clean("http://zipkin.example.com:9411/api/v2/spans"),
            "http---zipkin-example-com-9411-api-v2-spans"
        );
        assert_eq!(clean("10.0.0.1-4317"), "10-0-0-1-4317");
    }

    #[test]
    fn authorities_have_brackets_where_needed() {
        assert_eq!(authority("", 4317), ":4317");
        assert_eq!(authority("::1", 4317), "[::1]:4317");
        assert_eq!(authority("a.b", 4318), "a.b:4318");
    }
}
