//! What holds in a MeshHTTPRoute.

use std::collections::BTreeSet;

use super::super::Checked;
use super::super::checks::{SERVICES, check_header_name, check_target, check_top};
use super::super::common::IntOrString;
use super::super::http_match::{HttpMatch, PathMatchType};
use super::{
    HeaderModifier, HttpRouteFilter, HttpRouteFilterType, HttpRouteRule, MeshHTTPRoute, PathRewrite,
    PathRewriteType, RequestRedirect, UrlRewrite,
};
use crate::Violations;

/// Names of headers that one list of changes may have.
const MAX_HEADERS: usize = 16;

/// Statuses of redirections.
const REDIRECTIONS: [u32; 5] = [301, 302, 303, 307, 308];

impl Checked for MeshHTTPRoute {
    fn check(&self, violations: &mut Violations) {
        check_top(self.target_ref.as_ref(), false, violations);
        for (at, item) in self.to.iter().flatten().enumerate() {
            let path = format!("spec.to[{at}]");
            check_target(&format!("{path}.targetRef"), &item.target_ref, &SERVICES, violations);
            if item.hostnames.as_ref().is_some_and(|names| !names.is_empty()) {
                violations.add(format!("{path}.hostnames"), "must not be set");
            }
            for (at, rule) in item.rules.iter().enumerate() {
                rule.check(&format!("{path}.rules[{at}]"), violations);
            }
        }
    }
}

impl HttpRouteRule {
    fn check(&self, path: &str, violations: &mut Violations) {
        if self.matches.is_empty() {
            violations.add(format!("{path}.matches"), "in body should have at least 1 items");
        }
        for (at, wanted) in self.matches.iter().enumerate() {
            wanted.check(&format!("{path}.matches[{at}]"), violations);
        }
        let of_prefix = |wanted: &HttpMatch| {
            wanted.path.as_ref().is_some_and(|path| path.r#type == PathMatchType::PathPrefix)
        };
        let of_prefixes = self.matches.iter().all(of_prefix);
        for (at, filter) in self.default.filters.iter().flatten().enumerate() {
            filter.check(&format!("{path}.default.filters[{at}]"), of_prefixes, violations);
        }
        for (at, backend) in self.default.backend_refs.iter().flatten().enumerate() {
            backend.check(&format!("{path}.default.backendRefs[{at}]"), violations);
        }
    }
}

impl HttpRouteFilter {
    fn check(&self, path: &str, of_prefixes: bool, violations: &mut Violations) {
        use HttpRouteFilterType as Type;
        let field = |name: &str| format!("{path}.{name}");
        let fields = [
            (Type::RequestHeaderModifier, "requestHeaderModifier", self.request_header_modifier.is_some()),
            (Type::ResponseHeaderModifier, "responseHeaderModifier", self.response_header_modifier.is_some()),
            (Type::RequestRedirect, "requestRedirect", self.request_redirect.is_some()),
            (Type::URLRewrite, "urlRewrite", self.url_rewrite.is_some()),
            (Type::RequestMirror, "requestMirror", self.request_mirror.is_some()),
        ];
        for (kind, name, set) in fields {
            if kind == self.r#type && !set {
                violations.add(field(name), "must be defined");
            }
        }
        if let Some(modifier) = &self.request_header_modifier {
            modifier.check(&field("requestHeaderModifier"), violations);
        }
        if let Some(modifier) = &self.response_header_modifier {
            modifier.check(&field("responseHeaderModifier"), violations);
        }
        if let Some(redirect) = &self.request_redirect {
            redirect.check(&field("requestRedirect"), of_prefixes, violations);
        }
        if let Some(rewrite) = &self.url_rewrite {
            rewrite.check(&field("urlRewrite"), of_prefixes, violations);
        }
        if let Some(mirror) = &self.request_mirror {
            let path = field("requestMirror");
            if let Some(share) = &mirror.percentage {
                check_percentage(&format!("{path}.percentage"), share, violations);
            }
            mirror.backend_ref.check(&format!("{path}.backendRef"), violations);
        }
    }
}

impl HeaderModifier {
    fn check(&self, path: &str, violations: &mut Violations) {
        let count = |length: Option<usize>| length.unwrap_or(0);
        let lists = [
            ("set", count(self.set.as_ref().map(Vec::len))),
            ("add", count(self.add.as_ref().map(Vec::len))),
            ("remove", count(self.remove.as_ref().map(Vec::len))),
        ];
        if lists.iter().all(|(_, length)| *length == 0) {
            violations.add(path, "must have at least one defined: set, add, remove");
        }
        for (name, _) in lists.into_iter().filter(|(_, length)| *length > MAX_HEADERS) {
            let message = format!("in body should have at most {MAX_HEADERS} items");
            violations.add(format!("{path}.{name}"), message);
        }
        let set =
            self.set.iter().flatten().enumerate().map(|(at, one)| (format!("set[{at}].name"), &one.name));
        let add =
            self.add.iter().flatten().enumerate().map(|(at, one)| (format!("add[{at}].name"), &one.name));
        let remove =
            self.remove.iter().flatten().enumerate().map(|(at, name)| (format!("remove[{at}]"), name));
        let mut seen = BTreeSet::new();
        for (field, name) in set.chain(add).chain(remove) {
            let lower = name.to_ascii_lowercase();
            let checked = if field.starts_with("remove") { &lower } else { name };
            check_header_name(&format!("{path}.{field}"), checked, violations);
            if !seen.insert(lower) {
                violations.add(format!("{path}.{field}"), format!("duplicate header name '{name}'"));
            }
        }
    }
}

impl RequestRedirect {
    fn check(&self, path: &str, of_prefixes: bool, violations: &mut Violations) {
        if let Some(hostname) = &self.hostname {
            check_hostname(&format!("{path}.hostname"), hostname, violations);
        }
        if let Some(new) = &self.path {
            new.check(&format!("{path}.path"), of_prefixes, violations);
        }
        if self.port.is_some_and(|port| !(1..=u32::from(u16::MAX)).contains(&port)) {
            violations.add(format!("{path}.port"), "port must be a valid (1-65535)");
        }
        if !REDIRECTIONS.contains(&self.status_code) {
            violations.add(format!("{path}.statusCode"), "in body should be one of [301 302 303 307 308]");
        }
    }
}

impl UrlRewrite {
    fn check(&self, path: &str, of_prefixes: bool, violations: &mut Violations) {
        if self.hostname.is_none() && self.path.is_none() && !self.host_to_backend_hostname {
            violations.add(path, "must have at least one defined: hostname, path");
        }
        if let Some(hostname) = &self.hostname {
            check_hostname(&format!("{path}.hostname"), hostname, violations);
        }
        if let Some(new) = &self.path {
            new.check(&format!("{path}.path"), of_prefixes, violations);
        }
        if self.host_to_backend_hostname {
            violations.add(format!("{path}.hostToBackendHostname"), "must not be set");
        }
    }
}

impl PathRewrite {
    fn check(&self, path: &str, of_prefixes: bool, violations: &mut Violations) {
        match self.r#type {
            PathRewriteType::ReplaceFullPath => match &self.replace_full_path {
                None => violations.add(format!("{path}.replaceFullPath"), "must be defined"),
                Some(new) if !new.starts_with('/') => {
                    violations.add(format!("{path}.replaceFullPath"), "must be an absolute path");
                }
                Some(_) => {}
            },
            PathRewriteType::ReplacePrefixMatch => {
                if self.replace_prefix_match.is_none() {
                    violations.add(format!("{path}.replacePrefixMatch"), "must be defined");
                }
                if !of_prefixes {
                    let message = "can only appear if all matches match a path prefix";
                    violations.add(format!("{path}.type"), message);
                }
            }
        }
    }
}

/// Checks a share from 0 to 100.
fn check_percentage(path: &str, share: &IntOrString, violations: &mut Violations) {
    let share = match share {
        IntOrString::Int(share) => Ok(f64::from(i32::try_from(*share).unwrap_or(i32::MAX))),
        IntOrString::String(share) => share.parse::<f64>(),
    };
    match share {
        Err(_) => violations.add(path, "string must be a valid number"),
        Ok(share) if !(0.0..=100.0).contains(&share) => {
            violations.add(path, "must be in inclusive range [0.0, 100.0]");
        }
        Ok(_) => {}
    }
}

/// Checks the name of a host: labels of RFC 1123 in lower case.
fn check_hostname(path: &str, name: &str, violations: &mut Violations) {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label = |label: &str| {
        label.chars().all(|c| letter(c) || c == '-') && label.starts_with(letter) && label.ends_with(letter)
    };
    if name.is_empty() {
        violations.add(path, "in body should be at least 1 chars long");
    } else if name.len() > 253 {
        violations.add(path, "in body should be at most 253 chars long");
    } else if !name.split('.').all(label) {
        let pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
        violations.add(path, format!("in body should match '{pattern}'"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn report(rule: Value) -> Vec<String> {
        let mut violations = Violations::default();
        let target = json!({"kind": "MeshService", "labels": {"a": "b"}});
        let spec = json!({"to": [{"targetRef": target, "rules": [rule]}]});
        serde_json::from_value::<MeshHTTPRoute>(spec).unwrap().check(&mut violations);
        let shown = |path: &str| path.trim_start_matches("spec.to[0].rules[0].").to_owned();
        violations.iter().map(|one| format!("{}|{}", shown(&one.field), one.message)).collect()
    }

    #[test]
    fn matches_are_paths_and_expressions() {
        let matches = json!([
            {"path": {"type": "PathPrefix", "value": "/a/"}},
            {"path": {"type": "Exact", "value": "a"}},
            {"path": {"type": "RegularExpression", "value": "("}},
            {"queryParams": [{"type": "Exact", "name": "a", "value": ""}, {"type": "Exact", "name": "a", "value": "b"}]},
            {"headers": [{"name": "a", "value": "b"}, {"name": "a", "type": "Present", "value": "b"}]},
        ]);
        let expected = [
            "matches[1].path.value|must be an absolute path",
            "matches[2].path.value|must be a valid regular expression",
            "matches[3].queryParams[1].name|multiple entries for name a",
            "matches[4].headers[1].name|multiple entries for name a",
        ];
        assert_eq!(report(json!({"matches": matches, "default": {}})), expected);
        assert_eq!(
            report(json!({"matches": [], "default": {}})),
            ["matches|in body should have at least 1 items"]
        );
    }

    #[test]
    fn filters_have_the_field_of_their_type() {
        let backend = json!({"kind": "MeshService", "labels": {"a": "b"}, "port": 80});
        let redirect = json!({"hostname": "-a", "port": 0, "statusCode": 304,
            "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}});
        let modifier = json!({"set": [{"name": "a", "value": "b"}], "remove": ["A"]});
        let filters = json!([
            {"type": "URLRewrite", "requestMirror": {"percentage": "many", "backendRef": backend}},
            {"type": "RequestMirror", "requestMirror": {"percentage": 101, "backendRef": {"kind": "Mesh"}}},
            {"type": "RequestRedirect", "requestRedirect": redirect},
            {"type": "RequestHeaderModifier", "requestHeaderModifier": modifier},
            {"type": "ResponseHeaderModifier", "responseHeaderModifier": {}},
            {"type": "URLRewrite", "urlRewrite": {"hostToBackendHostname": true, "path": {"type": "ReplaceFullPath"}}},
        ]);
        let rule = json!({"matches": [{"method": "GET"}], "default": {"filters": filters}});
        let expected = [
            "default.filters[0].urlRewrite|must be defined",
            "default.filters[0].requestMirror.percentage|string must be a valid number",
            "default.filters[1].requestMirror.percentage|must be in inclusive range [0.0, 100.0]",
            "default.filters[1].requestMirror.backendRef.kind|value 'Mesh' is not supported",
            r"default.filters[2].requestRedirect.hostname|in body should match '^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$'",
            "default.filters[2].requestRedirect.path.type|can only appear if all matches match a path prefix",
            "default.filters[2].requestRedirect.port|port must be a valid (1-65535)",
            "default.filters[2].requestRedirect.statusCode|in body should be one of [301 302 303 307 308]",
            "default.filters[3].requestHeaderModifier.remove[0]|duplicate header name 'A'",
            "default.filters[4].responseHeaderModifier|must have at least one defined: set, add, remove",
            "default.filters[5].urlRewrite.path.replaceFullPath|must be defined",
            "default.filters[5].urlRewrite.hostToBackendHostname|must not be set",
        ];
        assert_eq!(report(rule), expected);
    }
}
