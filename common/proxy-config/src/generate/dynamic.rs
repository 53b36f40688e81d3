//! Documents for the program beside Envoy: it asks a local listener for each, naming the version it holds.

use envoy_api::envoy::config::core::v3::data_source::Specifier;
use envoy_api::envoy::config::core::v3::{DataSource, HeaderValue, HeaderValueOption, TrafficDirection};
use envoy_api::envoy::config::listener::v3::Listener;
use envoy_api::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_api::envoy::config::route::v3::route::Action;
use envoy_api::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_api::envoy::config::route::v3::{DirectResponseAction, HeaderMatcher, Route, RouteMatch};
use envoy_api::envoy::r#type::matcher::v3::StringMatcher;
use envoy_api::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use sha2::{Digest, Sha256};

use super::Context;
use crate::draft::{Chain, Draft, Filter, Role};
use crate::parts::{http_manager, path_match, pipe, route_configuration, socket_path, stat_name};

const NAME: &str = "system_dynamicconfig";
const SOCKET: &str = "kuma-mesh-metric-config";

/// Adds the listener where there are documents and the proxy told where its sockets are.
pub(crate) fn add(context: &Context<'_>, draft: &mut Draft) {
    let Some(directory) = &context.proxy.metadata.workdir else { return };
    let documents = std::mem::take(&mut draft.documents);
    let Some(longest) = documents.values().map(String::len).max() else { return };
    let routes = documents.iter().flat_map(|(name, body)| routes(name, body));
    let mut routes = route_configuration("", NAME, routes.collect());
    // Envoy's own limit is lower than the document of a large mesh.
    routes.max_direct_response_body_size_bytes = Some(u32::try_from(longest).unwrap_or(u32::MAX));
    let local: Vec<_> = context.local().collect();
    let manager = http_manager(NAME, routes, local.iter());
    let listener = Listener {
        name: NAME.into(),
        stat_prefix: stat_name(NAME),
        address: Some(pipe(&socket_path(directory, SOCKET))),
        traffic_direction: TrafficDirection::Inbound.into(),
        ..Listener::default()
    };
    let chain = Chain { filters: vec![Filter::Http(Box::new(manager))], ..Chain::default() };
    draft.add_listener(Role::System, listener, vec![chain]);
}

fn routes(name: &str, body: &str) -> [Route; 2] {
    let version: String = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
    let path = path_match(PathSpecifier::Path(format!("/{name}")));
    let is_version = StringMatcher {
        match_pattern: Some(MatchPattern::Exact(version.clone())),
        ..StringMatcher::default()
    };
    let held = HeaderMatcher {
        name: "If-None-Match".into(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(is_version)),
        ..HeaderMatcher::default()
    };
    let unchanged = Route {
        name: format!("{NAME}_{name}_not_modified"),
        r#match: Some(RouteMatch { headers: vec![held], ..path.clone() }),
        action: Some(Action::DirectResponse(DirectResponseAction {
            status: 304,
            ..DirectResponseAction::default()
        })),
        ..Route::default()
    };
    let header = HeaderValue { key: "Etag".into(), value: version, ..HeaderValue::default() };
    let body = DataSource { specifier: Some(Specifier::InlineString(body.into())), ..DataSource::default() };
    let answer = Route {
        name: format!("{NAME}_{name}"),
        r#match: Some(path),
        action: Some(Action::DirectResponse(DirectResponseAction {
            status: 200,
            body: Some(body),
            ..DirectResponseAction::default()
        })),
        response_headers_to_add: vec![HeaderValueOption {
            header: Some(header),
            ..HeaderValueOption::default()
        }],
        ..Route::default()
    };
    [unchanged, answer]
}
