//! The document `/meshmetric`: what to collect, and which metrics of Envoy are meant by it.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};
use serde::Deserialize;

/// A larger program than this is no sensible expression over names of metrics.
const MAX_EXPRESSION: usize = 1 << 20;

/// What dashboards and alerts need: traffic, its errors and its limits, and the state of Envoy.
const BASIC: [&str; 12] = [
    "envoy_cluster_circuit_breakers_",
    "envoy_cluster_external_upstream_rq",
    "envoy_cluster_health_check_",
    "envoy_cluster_membership_",
    "envoy_cluster_outlier_detection_",
    "envoy_cluster_ssl_",
    "envoy_cluster_upstream_",
    "envoy_control_plane_",
    "envoy_http_downstream_",
    "envoy_http_rbac_",
    "envoy_listener_",
    "envoy_server_",
];

/// The document. Lists that are `null` are empty.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Document {
    observability: Observability,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Observability {
    metrics: Collection,
}

/// What to collect.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Collection {
    pub(crate) applications: Option<Vec<Application>>,
    sidecar: Option<Sidecar>,
    /// Labels of every metric, with names as OpenTelemetry writes them.
    pub(crate) extra_labels: BTreeMap<String, String>,
}

/// An application to scrape.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Application {
    pub(crate) name: Option<String>,
    pub(crate) path: String,
    pub(crate) port: u16,
    pub(crate) address: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Sidecar {
    profiles: Option<Profiles>,
    include_unused: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Profiles {
    append_profiles: Option<Vec<Profile>>,
    exclude: Option<Vec<Selector>>,
    include: Option<Vec<Selector>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Profile {
    name: ProfileName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum ProfileName {
    All,
    Basic,
    None,
}

#[derive(Clone, Debug, Deserialize)]
struct Selector {
    r#type: SelectorType,
    r#match: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum SelectorType {
    Prefix,
    Regex,
    Exact,
    Contains,
}

impl Document {
    pub(crate) fn collection(&self) -> &Collection {
        &self.observability.metrics
    }
}

impl Collection {
    /// Whether metrics of Envoy that never changed are wanted.
    pub(crate) fn include_unused(&self) -> bool {
        self.sidecar.as_ref().and_then(|sidecar| sidecar.include_unused).unwrap_or(false)
    }

    /// Which metrics of Envoy are wanted.
    pub(crate) fn selection(&self) -> Selection {
        let profiles = self.sidecar.as_ref().and_then(|sidecar| sidecar.profiles.clone()).unwrap_or_default();
        let named: Vec<_> =
            profiles.append_profiles.unwrap_or_default().iter().map(|profile| profile.name).collect();
        let base = if named.is_empty() || named.contains(&ProfileName::All) {
            ProfileName::All
        } else if named.contains(&ProfileName::Basic) {
            ProfileName::Basic
        } else {
            ProfileName::None
        };
        let matchers = |selectors: Option<Vec<Selector>>| {
            selectors.unwrap_or_default().iter().filter_map(Matcher::new).collect()
        };
        Selection { base, exclude: matchers(profiles.exclude), include: matchers(profiles.include) }
    }
}

/// Which metrics are wanted, by name: `include` wins over `exclude`, and both over the profiles.
#[derive(Debug)]
pub(crate) struct Selection {
    base: ProfileName,
    exclude: Vec<Matcher>,
    include: Vec<Matcher>,
}

impl Selection {
    pub(crate) fn wants(&self, name: &str) -> bool {
        if self.include.iter().any(|matcher| matcher.matches(name)) {
            return true;
        }
        if self.exclude.iter().any(|matcher| matcher.matches(name)) {
            return false;
        }
        match self.base {
            ProfileName::All => true,
            ProfileName::Basic => BASIC.iter().any(|prefix| name.starts_with(prefix)),
            ProfileName::None => false,
        }
    }
}

#[derive(Debug)]
enum Matcher {
    Prefix(String),
    Regex(Regex),
    Exact(String),
    Contains(String),
}

impl Matcher {
    /// `None` for an expression that cannot be used: it selects nothing.
    fn new(selector: &Selector) -> Option<Self> {
        let text = selector.r#match.clone();
        Some(match selector.r#type {
            SelectorType::Prefix => Self::Prefix(text),
            SelectorType::Exact => Self::Exact(text),
            SelectorType::Contains => Self::Contains(text),
            SelectorType::Regex => match RegexBuilder::new(&text).size_limit(MAX_EXPRESSION).build() {
                Ok(expression) => Self::Regex(expression),
                Err(error) => {
                    tracing::warn!(expression = text, %error, "a selector of metrics cannot be used");
                    return None;
                }
            },
        })
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Prefix(text) => name.starts_with(text),
            Self::Regex(expression) => expression.is_match(name),
            Self::Exact(text) => name == text,
            Self::Contains(text) => name.contains(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(sidecar: &str) -> Selection {
        let text =
            format!(r#"{{"observability":{{"metrics":{{"applications":null,"sidecar":{sidecar}}}}}}}"#);
        serde_json::from_str::<Document>(&text).unwrap().collection().selection()
    }

    #[test]
    fn without_profiles_everything_is_wanted() {
        assert!(selection("null").wants("anything"));
        assert!(selection(r#"{"includeUnused":true}"#).wants("anything"));
    }

    #[test]
    fn profiles_add_up() {
        let basic = selection(r#"{"profiles":{"appendProfiles":[{"name":"None"},{"name":"Basic"}]}}"#);
        assert!(basic.wants("envoy_cluster_upstream_rq"));
        assert!(!basic.wants("envoy_runtime_load_success"));
        let none = selection(r#"{"profiles":{"appendProfiles":[{"name":"None"}]}}"#);
        assert!(!none.wants("envoy_cluster_upstream_rq"));
    }

    #[test]
    fn include_wins_over_exclude_and_both_over_profiles() {
        let selection = selection(
            r#"{"profiles":{"appendProfiles":[{"name":"All"}],
                "exclude":[{"type":"Prefix","match":"envoy_"},{"type":"Contains","match":"go"},
                           {"type":"Regex","match":"("}],
                "include":[{"type":"Exact","match":"envoy_server_live"},{"type":"Regex","match":"_rq$"}]}}"#,
        );
        assert!(selection.wants("envoy_server_live"));
        assert!(!selection.wants("envoy_server_live_other"));
        assert!(selection.wants("envoy_cluster_upstream_rq"));
        assert!(!selection.wants("a_go_b"));
        assert!(selection.wants("process_threads"));
    }
}
