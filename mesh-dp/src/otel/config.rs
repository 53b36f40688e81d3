//! The document `/otel`: collectors, and the signals that go to each.

use std::time::Duration;

use runtime::config::HumanDuration;
use serde::Deserialize;

/// What is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Traces,
    Logs,
    Metrics,
}

impl Signal {
    /// As paths of OTLP name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
        }
    }
}

/// The document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Document {
    pub(crate) backends: Vec<Backend>,
}

/// A collector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Backend {
    pub(crate) name: String,
    /// Where Envoy hands signals over.
    pub(crate) socket_path: String,
    /// `host:port`; the host may be left out.
    pub(crate) endpoint: String,
    #[serde(rename = "useHTTP")]
    pub(crate) use_http: bool,
    #[serde(rename = "useHTTPS")]
    pub(crate) use_https: bool,
    /// What stands before the paths of signals.
    pub(crate) path: String,
    pub(crate) env_policy: EnvPolicy,
    traces: Option<Plan>,
    logs: Option<Plan>,
    metrics: Option<Plan>,
}

/// How a signal is exported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Plan {
    enabled: bool,
    refresh_interval: Option<HumanDuration>,
}

/// What the environment may change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EnvPolicy {
    pub(crate) mode: EnvMode,
    pub(crate) precedence: Precedence,
    pub(crate) allow_signal_overrides: Option<bool>,
}

/// Whether the environment counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum EnvMode {
    #[default]
    Disabled,
    Optional,
    Required,
}

/// What wins where both say something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum Precedence {
    #[default]
    ExplicitFirst,
    EnvFirst,
}

impl Backend {
    /// Whether a signal goes there.
    pub(crate) fn sends(&self, signal: Signal) -> bool {
        let plan = match signal {
            Signal::Traces => &self.traces,
            Signal::Logs => &self.logs,
            Signal::Metrics => &self.metrics,
        };
        plan.as_ref().is_some_and(|plan| plan.enabled)
    }

    /// How often metrics are sent, where it says so.
    pub(crate) fn refresh_interval(&self) -> Option<Duration> {
        let said = self.metrics.as_ref()?.refresh_interval?.get();
        Some(said).filter(|said| !said.is_zero())
    }
}
