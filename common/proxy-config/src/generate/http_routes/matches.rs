//! Which requests a route takes.

use envoy_api::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_api::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use envoy_api::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_api::envoy::config::route::v3::{HeaderMatcher, QueryParameterMatcher, RouteMatch};
use envoy_api::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_api::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};
use model::spec::{HeaderMatch, HeaderMatchType, HttpMatch, PathMatchType, QueryMatch, QueryMatchType};

/// A match of Envoy, and what of the path it took as a prefix.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) matches: RouteMatch,
    pub(super) prefix: Prefix,
}

/// What of a path a match took as a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    /// It does not look at a prefix.
    None,
    /// All of it: nothing follows.
    Whole,
    /// Up to a slash, that slash included.
    WithSlash,
}

/// The matches of Envoy that together take the requests of a match.
pub(super) fn shapes(matches: &HttpMatch) -> Vec<Shape> {
    let path = |specifier: PathSpecifier, prefix: Prefix| {
        let matches = RouteMatch {
            path_specifier: Some(specifier),
            headers: method(matches).into_iter().chain(headers(matches)).collect(),
            query_parameters: matches.query_params.iter().flatten().map(parameter).collect(),
            ..RouteMatch::default()
        };
        Shape { matches, prefix }
    };
    let every = || vec![path(PathSpecifier::Prefix("/".into()), Prefix::WithSlash)];
    let Some(wanted) = &matches.path else { return every() };
    match wanted.r#type {
        PathMatchType::Exact => vec![path(PathSpecifier::Path(wanted.value.clone()), Prefix::None)],
        PathMatchType::RegularExpression => {
            vec![path(PathSpecifier::SafeRegex(regex(&wanted.value)), Prefix::None)]
        }
        PathMatchType::PathPrefix => match wanted.value.trim_end_matches('/') {
            "" => every(),
            trimmed => vec![
                path(PathSpecifier::Path(trimmed.into()), Prefix::Whole),
                path(PathSpecifier::Prefix(format!("{trimmed}/")), Prefix::WithSlash),
            ],
        },
    }
}

fn method(matches: &HttpMatch) -> Option<HeaderMatcher> {
    let method = matches.method?;
    Some(header_is(":method", MatchPattern::Exact(method.as_str().into())))
}

fn headers(matches: &HttpMatch) -> impl Iterator<Item = HeaderMatcher> {
    matches.headers.iter().flatten().map(header)
}

/// A header as Envoy matches it.
pub(crate) fn header(header: &HeaderMatch) -> HeaderMatcher {
    let value = || header.value.clone().unwrap_or_default();
    let presence = |present: bool| HeaderMatcher {
        name: header.name.clone(),
        header_match_specifier: Some(HeaderMatchSpecifier::PresentMatch(present)),
        ..HeaderMatcher::default()
    };
    match header.r#type {
        HeaderMatchType::Exact => header_is(&header.name, MatchPattern::Exact(value())),
        HeaderMatchType::Prefix => header_is(&header.name, MatchPattern::Prefix(value())),
        HeaderMatchType::RegularExpression => {
            header_is(&header.name, MatchPattern::SafeRegex(regex(&value())))
        }
        HeaderMatchType::Present => presence(true),
        HeaderMatchType::Absent => presence(false),
    }
}

/// A header whose value fits a pattern.
pub(crate) fn header_is(name: &str, pattern: MatchPattern) -> HeaderMatcher {
    HeaderMatcher {
        name: name.into(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(text(pattern))),
        ..HeaderMatcher::default()
    }
}

fn parameter(parameter: &QueryMatch) -> QueryParameterMatcher {
    let pattern = match parameter.r#type {
        QueryMatchType::Exact => MatchPattern::Exact(parameter.value.clone()),
        QueryMatchType::RegularExpression => MatchPattern::SafeRegex(regex(&parameter.value)),
    };
    QueryParameterMatcher {
        name: parameter.name.clone(),
        query_parameter_match_specifier: Some(QueryParameterMatchSpecifier::StringMatch(text(pattern))),
    }
}

fn text(pattern: MatchPattern) -> StringMatcher {
    StringMatcher { match_pattern: Some(pattern), ..StringMatcher::default() }
}

/// An expression for all of a text.
pub(super) fn regex(expression: &str) -> RegexMatcher {
    RegexMatcher { regex: expression.into(), ..RegexMatcher::default() }
}
