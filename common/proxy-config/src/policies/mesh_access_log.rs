//! MeshAccessLog: what the proxy writes down of requests and connections, and where.

mod backends;
mod format;

use std::collections::BTreeMap;

use envoy_api::envoy::config::accesslog::v3::access_log_filter::FilterSpecifier;
use envoy_api::envoy::config::accesslog::v3::extension_filter::ConfigType;
use envoy_api::envoy::config::accesslog::v3::{AccessLog, AccessLogFilter, ExtensionFilter, MetadataFilter};
use envoy_api::envoy::config::core::v3::data_source::Specifier;
use envoy_api::envoy::config::core::v3::{DataSource, TrafficDirection};
use envoy_api::envoy::extensions::access_loggers::filters::cel::v3::ExpressionFilter;
use envoy_api::envoy::extensions::filters::http::lua::v3::Lua;
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_api::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::TcpAccessLogOptions;
use envoy_api::envoy::r#type::matcher::v3::metadata_matcher::PathSegment;
use envoy_api::envoy::r#type::matcher::v3::metadata_matcher::path_segment::Segment;
use envoy_api::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_api::envoy::r#type::matcher::v3::value_matcher::{MatchPattern as ValuePattern, NullMatch};
use envoy_api::envoy::r#type::matcher::v3::{MetadataMatcher, StringMatcher, ValueMatcher};
use model::Kind;
use model::spec::{AccessLogBackend, AccessLogConf, MatchType, PeerMatch};
use policy::{Section, Selected};

use super::outbound::OutboundConfs;
use super::peers::{PeerConf, asks_for_server};
use crate::draft::{Chain, Draft, Filter, Listener, Origin, Role};
use crate::generate::Context;
use crate::parts::{document, http_filter, inspect_tls, routes_mut};
use crate::view::Destination;
use backends::Loggers;
use format::{DEFAULT_HTTP, DEFAULT_TCP, Placeholders};

const LUA: &str = "envoy.filters.http.lua";

/// Where requests remember their route, and under which name.
const ROUTES: &str = "kuma.routes";
const ROUTE: &str = "route_kri";

/// Tells logs which route a request took: they see what a request carries, not what its route does.
const REMEMBER_ROUTE: &str = "function envoy_on_request(handle)
  local meta = handle:metadata():get(\"route_kri\")
  if meta ~= nil then
    handle:streamInfo():dynamicMetadata():set(\"kuma.routes\", \"route_kri\", meta)
  end
end
";

/// What is written of redirected connections to what is no destination of the mesh, unless a policy says otherwise.
const DEFAULT_PASSTHROUGH: &str = "tcp";

/// What peers are called that nobody knows.
const UNKNOWN: &str = "unknown";
const EXTERNAL: &str = "external";

/// What a connection is written down for, and when.
#[derive(Clone, Debug)]
struct Logs<'a> {
    backends: &'a [AccessLogBackend],
    filter: Option<AccessLogFilter>,
}

/// Adds logs to everything that policies name.
pub(crate) fn apply(context: &Context<'_>, draft: &mut Draft) {
    let selected = context.policies(Kind::MESH_ACCESS_LOG);
    if selected.is_empty() {
        return;
    }
    let mut listeners = std::mem::take(&mut draft.listeners);
    let mut loggers = Loggers::new(context, draft);
    for listener in listeners.values_mut() {
        log_listener(&mut loggers, &selected, listener);
    }
    draft.listeners = listeners;
}

fn log_listener(loggers: &mut Loggers<'_, '_>, selected: &Selected, listener: &mut Listener) {
    match listener.role.clone() {
        Role::Inbound { section, .. } | Role::ZoneIngress(section) | Role::ZoneEgress(section) => {
            log_inbound(loggers, selected, &section, listener);
        }
        Role::Outbound(destination) => {
            for chain in &mut listener.chains {
                log_outbound(loggers, selected, &destination, chain);
            }
        }
        Role::Passthrough if listener.message.traffic_direction() == TrafficDirection::Outbound => {
            log_beyond(loggers, selected, EXTERNAL, listener);
        }
        Role::DirectAccess => log_beyond(loggers, selected, UNKNOWN, listener),
        _ => {}
    }
}

/// Every rule that a connection fits writes it down.
fn log_inbound(
    loggers: &mut Loggers<'_, '_>,
    selected: &Selected,
    section: &Section,
    listener: &mut Listener,
) {
    let rules = selected.rules(section);
    let confs: Vec<PeerConf<AccessLogConf>> = rules.iter().filter_map(PeerConf::of).collect();
    let logs: Vec<Logs<'_>> = confs
        .iter()
        .map(|PeerConf { peer, conf }| Logs {
            backends: conf.backends.as_deref().unwrap_or_default(),
            filter: peer.as_ref().map(is_peer),
        })
        .collect();
    let is_zone_proxy = !matches!(listener.role, Role::Inbound { .. });
    for chain in &mut listener.chains {
        let destination = chain.destination.as_ref().map(|destination| destination.resource.display_name());
        let destination = destination.unwrap_or(loggers.own_name()).to_owned();
        let values = loggers.placeholders("INBOUND", UNKNOWN, &destination);
        for filter in &mut chain.filters {
            match filter {
                Filter::Http(manager) => {
                    let default = if is_zone_proxy { DEFAULT_TCP } else { DEFAULT_HTTP };
                    manager.access_log.extend(loggers.all(&logs, &values, default));
                }
                Filter::Tcp(proxy) => {
                    let added = loggers.all(&logs, &values, DEFAULT_TCP);
                    if is_zone_proxy && !added.is_empty() {
                        let flush_access_log_on_connected = true;
                        proxy.access_log_options = Some(TcpAccessLogOptions {
                            flush_access_log_on_connected,
                            ..TcpAccessLogOptions::default()
                        });
                    }
                    proxy.access_log.extend(added);
                }
                Filter::Other(_) => {}
            }
        }
    }
    if asks_for_server(confs.iter().filter_map(|conf| conf.peer.as_ref())) {
        inspect_tls(&mut listener.message.listener_filters);
    }
}

fn log_outbound(
    loggers: &mut Loggers<'_, '_>,
    selected: &Selected,
    destination: &Destination,
    chain: &mut Chain,
) {
    let confs = OutboundConfs::<AccessLogConf>::of(selected, destination, &chain.origins);
    let backends = |conf: &AccessLogConf| conf.backends.clone().unwrap_or_default();
    let shared = confs.destination().map(backends).unwrap_or_default();
    let routes: BTreeMap<&String, (String, Vec<AccessLogBackend>)> = chain
        .origins
        .iter()
        .filter_map(|(name, origin)| {
            Some((name, (route_name(origin), confs.route_alone(name).map(backends)?)))
        })
        .collect();
    let values = loggers.placeholders("OUTBOUND", loggers.own_name(), destination.resource.display_name());
    for filter in &mut chain.filters {
        match filter {
            Filter::Http(manager) => {
                let logs = Logs { backends: &shared, filter: Some(is_route(None)) };
                manager.access_log.extend(loggers.all(&[logs], &values, DEFAULT_HTTP));
                for (name, backends) in routes.values() {
                    let logs = Logs { backends, filter: Some(is_route(Some(name))) };
                    manager.access_log.extend(loggers.all(&[logs], &values, DEFAULT_HTTP));
                }
                remember_routes(manager, &routes);
            }
            Filter::Tcp(proxy) => {
                let logs = Logs { backends: &shared, filter: None };
                proxy.access_log.extend(loggers.all(&[logs], &values, DEFAULT_TCP));
            }
            Filter::Other(_) => {}
        }
    }
}

/// Only what is said of the whole mesh is said of what is no destination of it.
fn log_beyond(
    loggers: &mut Loggers<'_, '_>,
    selected: &Selected,
    destination: &str,
    listener: &mut Listener,
) {
    let conf = selected.to_mesh().and_then(|conf| conf.decode::<AccessLogConf>().ok());
    let backends = conf.and_then(|conf| conf.backends).unwrap_or_default();
    let logs = [Logs { backends: &backends, filter: None }];
    let values = loggers.placeholders("OUTBOUND", loggers.own_name(), destination);
    for filter in listener.chains.iter_mut().flat_map(|chain| &mut chain.filters) {
        let access_log = match filter {
            Filter::Http(manager) => &mut manager.access_log,
            Filter::Tcp(proxy) => &mut proxy.access_log,
            Filter::Other(_) => continue,
        };
        access_log.extend(loggers.all(&logs, &values, DEFAULT_PASSTHROUGH));
    }
}

/// The name that logs know a rule of a route by.
fn route_name(origin: &Origin) -> String {
    origin.route.kri.with_section(origin.section.replace('_', "")).to_string()
}

fn remember_routes(
    manager: &mut HttpConnectionManager,
    routes: &BTreeMap<&String, (String, Vec<AccessLogBackend>)>,
) {
    if routes.is_empty() {
        return;
    }
    for route in routes_mut(manager) {
        if let Some((name, _)) = routes.get(&route.name) {
            let metadata = route.metadata.get_or_insert_default();
            metadata.filter_metadata.insert(LUA.into(), document([(ROUTE, name.as_str())]));
        }
    }
    let code = Specifier::InlineString(REMEMBER_ROUTE.into());
    let code = DataSource { specifier: Some(code), ..DataSource::default() };
    let filter = Lua { default_source_code: Some(code), ..Lua::default() };
    manager.http_filters.insert(0, http_filter(LUA, &filter));
}

/// Requests that took a route with logs of its own, or that took none of these.
fn is_route(name: Option<&str>) -> AccessLogFilter {
    let pattern = match name {
        None => ValuePattern::NullMatch(NullMatch {}),
        Some(name) => ValuePattern::StringMatch(StringMatcher {
            match_pattern: Some(MatchPattern::Exact(name.into())),
            ..StringMatcher::default()
        }),
    };
    let matcher = MetadataMatcher {
        filter: ROUTES.into(),
        path: vec![PathSegment { segment: Some(Segment::Key(ROUTE.into())) }],
        value: Some(ValueMatcher { match_pattern: Some(pattern) }),
        ..MetadataMatcher::default()
    };
    let filter = MetadataFilter { matcher: Some(matcher), match_if_key_not_found: Some(name.is_none()) };
    AccessLogFilter { filter_specifier: Some(FilterSpecifier::MetadataFilter(filter)) }
}

/// Connections of a peer.
fn is_peer(peer: &PeerMatch) -> AccessLogFilter {
    let spiffe = peer.spiffe_id.as_ref().map(|id| {
        let attribute = "connection.uri_san_peer_certificate";
        match id.r#type {
            MatchType::Exact => format!("{attribute} == {}", quoted(&id.value)),
            MatchType::Prefix => format!("{attribute}.startsWith({})", quoted(&id.value)),
        }
    });
    let server =
        peer.sni.as_ref().map(|sni| format!("connection.requested_server_name == {}", quoted(&sni.value)));
    let expression = spiffe.into_iter().chain(server).collect::<Vec<_>>().join(" && ");
    let config = ExpressionFilter { expression, ..ExpressionFilter::default() };
    let filter = ExtensionFilter {
        name: "envoy.access_loggers.extension_filters.cel".into(),
        config_type: Some(ConfigType::TypedConfig(envoy_api::pack(&config))),
    };
    AccessLogFilter { filter_specifier: Some(FilterSpecifier::ExtensionFilter(filter)) }
}

/// Text in an expression (CEL, string literals).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

impl Logs<'_> {
    fn each(&self) -> impl Iterator<Item = (&AccessLogBackend, Option<&AccessLogFilter>)> {
        self.backends.iter().map(|backend| (backend, self.filter.as_ref()))
    }
}

impl Loggers<'_, '_> {
    /// What writes to all backends.
    fn all(&mut self, logs: &[Logs<'_>], values: &Placeholders, default: &str) -> Vec<AccessLog> {
        let each = logs.iter().flat_map(Logs::each);
        each.filter_map(|(backend, filter)| {
            let log = self.logger(backend, values, default)?;
            Some(AccessLog { filter: filter.cloned(), ..log })
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_does_not_leave_its_quotes() {
        assert_eq!(quoted(r#"a"b\"#), r#""a\"b\\""#);
    }
}
