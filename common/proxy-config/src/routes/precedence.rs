//! The order in which rules are tried: the more specific match first, as the Gateway API orders them.

use std::cmp::Reverse;

use model::spec::{HttpMatch, PathMatchType};

use super::HttpRule;

/// Orders rules; equally specific ones stay as they are.
pub(super) fn sort(rules: &mut [HttpRule]) {
    rules.sort_by_key(|rule| rank(&rule.matches));
}

/// Whole paths, then longer ones, then those with a method, with more headers, with more parameters.
fn rank(matches: &HttpMatch) -> (bool, Reverse<usize>, bool, Reverse<usize>, Reverse<usize>) {
    let exact = matches.path.as_ref().is_some_and(|path| path.r#type == PathMatchType::Exact);
    let length = matches.path.as_ref().map_or(0, |path| match path.r#type {
        PathMatchType::PathPrefix => path.value.trim_end_matches('/').len(),
        PathMatchType::Exact | PathMatchType::RegularExpression => path.value.len(),
    });
    let headers = matches.headers.as_ref().map_or(0, Vec::len);
    let parameters = matches.query_params.as_ref().map_or(0, Vec::len);
    (!exact, Reverse(length), matches.method.is_none(), Reverse(headers), Reverse(parameters))
}

/// Whether a match leaves nothing to others.
pub(super) fn takes_all(matches: &HttpMatch) -> bool {
    let path = matches.path.as_ref();
    let every_path = path.is_none_or(|path| {
        path.r#type == PathMatchType::PathPrefix && path.value.trim_end_matches('/').is_empty()
    });
    every_path
        && matches.method.is_none()
        && matches.headers.as_ref().is_none_or(Vec::is_empty)
        && matches.query_params.as_ref().is_none_or(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn matches(document: &Value) -> HttpMatch {
        serde_json::from_value(document.clone()).expect("a match")
    }

    #[test]
    fn the_more_specific_match_comes_first() {
        let path = |kind: &str, value: &str| json!({"path": {"type": kind, "value": value}});
        let header = json!({"name": "a", "type": "Present"});
        let parameter = json!({"name": "a", "type": "Exact", "value": "b"});
        let ordered = [
            path("Exact", "/abc"),
            path("Exact", "/a"),
            path("RegularExpression", "/[a-z]+/x"),
            path("PathPrefix", "/abcd/"),
            path("PathPrefix", "/a"),
            json!({"method": "GET", "headers": [header]}),
            json!({"method": "GET"}),
            json!({"headers": [header, header]}),
            json!({"headers": [header], "queryParams": [parameter]}),
            json!({"headers": [header]}),
            json!({"queryParams": [parameter]}),
            path("PathPrefix", "/"),
        ];
        let ranks: Vec<_> = ordered.iter().map(|document| rank(&matches(document))).collect();
        for (at, pair) in ranks.windows(2).enumerate() {
            assert!(pair[0] < pair[1], "{} before {}", ordered[at], ordered[at + 1]);
        }
        let all: Vec<_> = ordered.iter().filter(|document| takes_all(&matches(document))).collect();
        assert_eq!(all, [&path("PathPrefix", "/")]);
        assert!(takes_all(&HttpMatch::default()));
    }
}
