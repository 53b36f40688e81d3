//! Logs on stderr and, when an endpoint is configured, traces over OTLP.

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::{Deserialize, Serialize};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// Shape of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The section `telemetry` of a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TelemetryConfig {
    /// A level or a tracing-subscriber directive list such as `info,store=debug`.
    pub log_level: String,
    /// Shape of a log line.
    pub log_format: LogFormat,
    /// gRPC endpoint of an OTLP collector, e.g. `http://localhost:4317`. Absent: no traces leave.
    pub otlp_endpoint: Option<String>,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { log_level: "info".to_owned(), log_format: LogFormat::Text, otlp_endpoint: None }
    }
}

/// Why telemetry could not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `logLevel` is not a directive list.
    #[error("telemetry.logLevel {level:?} is not a level or a list of target=level")]
    Level {
        /// What was configured.
        level: String,
        /// What the parser says.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The exporter refused its endpoint.
    #[error("telemetry.otlpEndpoint {endpoint:?} cannot be used")]
    Exporter {
        /// What was configured.
        endpoint: String,
        /// What the exporter says.
        source: opentelemetry_otlp::ExporterBuildError,
    },
    /// Another subscriber is installed: a process has one.
    #[error("a tracing subscriber is already installed")]
    AlreadyInstalled,
}

/// Holds the exporter. [`TelemetryGuard::shutdown`] sends what is still buffered.
#[must_use = "dropping the guard stops trace export"]
#[derive(Debug)]
pub struct TelemetryGuard {
    provider: Option<SdkTracerProvider>,
}

/// Installs the process's subscriber. Call it once, inside the tokio runtime.
pub fn init(config: &TelemetryConfig, service: &'static str) -> Result<TelemetryGuard, TelemetryError> {
    let filter = EnvFilter::try_new(&config.log_level)
        .map_err(|source| TelemetryError::Level { level: config.log_level.clone(), source })?;
    let provider = config.otlp_endpoint.as_deref().map(|endpoint| exporter(endpoint, service)).transpose()?;
    let traces = provider.as_ref().map(|p| tracing_opentelemetry::layer().with_tracer(p.tracer(service)));
    let installed =
        Registry::default().with(filter).with(log_layer(config.log_format)).with(traces).try_init();
    installed.map_err(|_| TelemetryError::AlreadyInstalled)?;
    Ok(TelemetryGuard { provider })
}

fn log_layer<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Text => layer.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}

fn exporter(endpoint: &str, service: &'static str) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .map_err(|source| TelemetryError::Exporter { endpoint: endpoint.to_owned(), source })?;
    let resource = Resource::builder().with_service_name(service).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

impl TelemetryGuard {
    /// Sends what is buffered and stops the exporter; bounded by the exporter's own time-out.
    pub async fn shutdown(mut self) {
        let Some(provider) = self.provider.take() else { return };
        // The exporter waits for the runtime's reactor, so it must not block one of its threads.
        let stopped = tokio::task::spawn_blocking(move || provider.shutdown()).await;
        if let Ok(Err(error)) = stopped {
            tracing::warn!(%error, "the last traces were not exported");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_subscriber_a_process_and_a_level_that_parses() {
        let bad = TelemetryConfig { log_level: "info,=,=".to_owned(), ..Default::default() };
        let error = init(&bad, "test").unwrap_err();
        assert!(error.to_string().contains("telemetry.logLevel"), "{error}");

        let config =
            TelemetryConfig { otlp_endpoint: Some("http://127.0.0.1:1".to_owned()), ..Default::default() };
        let guard = init(&config, "test").unwrap();
        assert!(guard.provider.is_some());
        assert!(matches!(init(&TelemetryConfig::default(), "test"), Err(TelemetryError::AlreadyInstalled)));
        guard.shutdown().await;
    }
}
