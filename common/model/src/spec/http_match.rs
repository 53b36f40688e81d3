//! Which requests a rule is for.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::{check_expression, check_header_name};
use crate::Violations;

/// Requests: everything given must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpMatch {
    /// Their path; any where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
    /// Their method; any where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<HttpMethod>,
    /// Parameters of their query, all of which must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_params: Option<Vec<QueryMatch>>,
    /// Their headers, all of which must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Vec<HeaderMatch>>,
}

/// A path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PathMatch {
    /// An absolute path, or an expression. A prefix matches whole segments of paths.
    pub value: String,
    /// How it is compared.
    pub r#type: PathMatchType,
}

/// How paths are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PathMatchType {
    /// The whole path.
    Exact,
    /// The path and what is below it.
    PathPrefix,
    /// An expression (RE2) for the whole path.
    RegularExpression,
}

/// Methods of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "RFC 9110 names and describes them")]
pub enum HttpMethod {
    Connect,
    Delete,
    Get,
    Head,
    Options,
    Patch,
    Post,
    Put,
    Trace,
}

impl HttpMethod {
    /// All.
    pub const ALL: [Self; 9] = [
        Self::Connect,
        Self::Delete,
        Self::Get,
        Self::Head,
        Self::Options,
        Self::Patch,
        Self::Post,
        Self::Put,
        Self::Trace,
    ];

    /// As it stands in requests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Delete => "DELETE",
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Patch => "PATCH",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Trace => "TRACE",
        }
    }
}

/// A parameter of a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueryMatch {
    /// How the value is compared.
    pub r#type: QueryMatchType,
    /// Name of the parameter.
    pub name: String,
    /// Its value, or an expression.
    pub value: String,
}

/// How values of parameters are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum QueryMatchType {
    /// The whole value.
    Exact,
    /// An expression (RE2) for the whole value.
    RegularExpression,
}

/// A header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeaderMatch {
    /// How the value is compared; `Exact` where it is absent.
    #[serde(default)]
    pub r#type: HeaderMatchType,
    /// Name of the header in lower case; headers are compared without case.
    pub name: String,
    /// Its value, its beginning, or an expression; none for `Present` and `Absent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// How headers are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HeaderMatchType {
    /// The whole value.
    #[default]
    Exact,
    /// Whether it is there.
    Present,
    /// An expression (RE2) for the whole value.
    RegularExpression,
    /// Whether it is missing.
    Absent,
    /// The beginning of the value.
    Prefix,
}

impl HttpMatch {
    pub(super) fn check(&self, path: &str, violations: &mut Violations) {
        if let Some(wanted) = &self.path {
            wanted.check(&format!("{path}.path.value"), violations);
        }
        let mut seen = BTreeSet::new();
        for (at, parameter) in self.query_params.iter().flatten().enumerate() {
            let path = format!("{path}.queryParams[{at}]");
            check_once(&path, &parameter.name, &mut seen, violations);
            if parameter.name.is_empty() {
                violations.add(format!("{path}.name"), "in body should be at least 1 chars long");
            }
            if parameter.r#type == QueryMatchType::RegularExpression {
                check_expression(&format!("{path}.value"), &parameter.value, violations);
            }
        }
        let mut seen = BTreeSet::new();
        for (at, header) in self.headers.iter().flatten().enumerate() {
            let path = format!("{path}.headers[{at}]");
            check_once(&path, &header.name, &mut seen, violations);
            header.check(&path, violations);
        }
    }
}

fn check_once<'a>(path: &str, name: &'a str, seen: &mut BTreeSet<&'a str>, violations: &mut Violations) {
    if !seen.insert(name) {
        violations.add(format!("{path}.name"), format!("multiple entries for name {name}"));
    }
}

impl PathMatch {
    fn check(&self, path: &str, violations: &mut Violations) {
        match self.r#type {
            _ if self.value.is_empty() => violations.add(path, "in body should be at least 1 chars long"),
            PathMatchType::RegularExpression => check_expression(path, &self.value, violations),
            PathMatchType::Exact | PathMatchType::PathPrefix => {
                if !self.value.starts_with('/') {
                    violations.add(path, "must be an absolute path");
                }
            }
        }
    }
}

impl HeaderMatch {
    pub(super) fn check(&self, path: &str, violations: &mut Violations) {
        check_header_name(&format!("{path}.name"), &self.name, violations);
        let path = format!("{path}.value");
        match (self.r#type, &self.value) {
            (HeaderMatchType::Exact | HeaderMatchType::Prefix | HeaderMatchType::RegularExpression, None) => {
                violations.add(path, "must be defined");
            }
            (HeaderMatchType::RegularExpression, Some(value)) => check_expression(&path, value, violations),
            _ => {}
        }
    }
}
