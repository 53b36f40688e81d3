//! What routes change of requests and responses.

use envoy_api::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_api::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_api::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use envoy_api::envoy::config::route::v3::route::Action;
use envoy_api::envoy::config::route::v3::route_action::HostRewriteSpecifier;
use envoy_api::envoy::config::route::v3::{RedirectAction, Route};
use envoy_api::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use model::spec::{
    HeaderKeyValue, HeaderModifier, HttpRouteFilter, HttpRouteFilterType, PathRewrite, PathRewriteType,
    RequestRedirect, UrlRewrite,
};

use super::matches::{Prefix, Shape, regex};
use crate::parts::action_mut;

/// Applies filters, in order. A redirection answers in place of any backend.
pub(super) fn apply(filters: &[HttpRouteFilter], shape: &Shape, route: &mut Route) {
    for filter in filters {
        match filter.r#type {
            HttpRouteFilterType::RequestHeaderModifier => {
                let (add, remove) = filter.request_header_modifier.as_ref().map(headers).unwrap_or_default();
                route.request_headers_to_add.extend(add);
                route.request_headers_to_remove.extend(remove);
            }
            HttpRouteFilterType::ResponseHeaderModifier => {
                let (add, remove) = filter.response_header_modifier.as_ref().map(headers).unwrap_or_default();
                route.response_headers_to_add.extend(add);
                route.response_headers_to_remove.extend(remove);
            }
            HttpRouteFilterType::URLRewrite => {
                if let Some(rewrite) = &filter.url_rewrite {
                    rewrite_url(rewrite, shape, route);
                }
            }
            HttpRouteFilterType::RequestRedirect => {
                if let Some(redirect) = &filter.request_redirect {
                    route.action = Some(Action::Redirect(redirection(redirect, shape)));
                }
            }
            // Where copies go is known before.
            HttpRouteFilterType::RequestMirror => {}
        }
    }
}

fn headers(modifier: &HeaderModifier) -> (Vec<HeaderValueOption>, Vec<String>) {
    let header = |header: &HeaderKeyValue, action: HeaderAppendAction| HeaderValueOption {
        header: Some(HeaderValue {
            key: header.name.clone(),
            value: header.value.clone(),
            ..HeaderValue::default()
        }),
        append_action: action.into(),
        ..HeaderValueOption::default()
    };
    let set = modifier.set.iter().flatten();
    let set = set.map(|one| header(one, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let add = modifier.add.iter().flatten();
    let add = add.map(|one| header(one, HeaderAppendAction::AppendIfExistsOrAdd));
    (set.chain(add).collect(), modifier.remove.clone().unwrap_or_default())
}

fn rewrite_url(rewrite: &UrlRewrite, shape: &Shape, route: &mut Route) {
    let Some(action) = action_mut(route) else { return };
    if let Some(host) = &rewrite.hostname {
        action.host_rewrite_specifier = Some(HostRewriteSpecifier::HostRewriteLiteral(host.clone()));
    }
    match rewrite.path.as_ref().and_then(|path| new_path(path, shape)) {
        Some(NewPath::Prefix(prefix)) => action.prefix_rewrite = prefix,
        Some(NewPath::Full(path)) => {
            // A backslash begins a reference to a group.
            let substitution = path.replace('\\', "\\\\");
            let pattern = Some(regex(".*"));
            action.regex_rewrite = Some(RegexMatchAndSubstitute { pattern, substitution });
        }
        None => {}
    }
}

fn redirection(redirect: &RequestRedirect, shape: &Shape) -> RedirectAction {
    let path = redirect.path.as_ref().and_then(|path| new_path(path, shape)).map(|path| match path {
        NewPath::Full(path) => PathRewriteSpecifier::PathRedirect(path),
        NewPath::Prefix(prefix) => PathRewriteSpecifier::PrefixRewrite(prefix),
    });
    let code = match redirect.status_code {
        301 => RedirectResponseCode::MovedPermanently,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::Found,
    };
    RedirectAction {
        host_redirect: redirect.hostname.clone().unwrap_or_default(),
        port_redirect: redirect.port.unwrap_or_default(),
        response_code: code.into(),
        scheme_rewrite_specifier: redirect
            .scheme
            .map(|scheme| SchemeRewriteSpecifier::SchemeRedirect(scheme.as_str().into())),
        path_rewrite_specifier: path,
        ..RedirectAction::default()
    }
}

enum NewPath {
    Full(String),
    /// In place of what the match took as a prefix.
    Prefix(String),
}

/// `None` for a path that stays as it is.
fn new_path(rewrite: &PathRewrite, shape: &Shape) -> Option<NewPath> {
    match rewrite.r#type {
        PathRewriteType::ReplaceFullPath => Some(NewPath::Full(rewrite.replace_full_path.clone()?)),
        PathRewriteType::ReplacePrefixMatch => {
            let prefix = rewrite.replace_prefix_match.as_ref()?.trim_end_matches('/');
            match shape.prefix {
                Prefix::None => None,
                Prefix::Whole if !prefix.is_empty() => Some(NewPath::Prefix(prefix.into())),
                Prefix::Whole | Prefix::WithSlash => Some(NewPath::Prefix(format!("{prefix}/"))),
            }
        }
    }
}
