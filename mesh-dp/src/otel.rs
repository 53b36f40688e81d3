//! Signals of OpenTelemetry on their way to collectors: spans and access logs that Envoy hands over on a Unix socket,
//! and the metrics that MeshMetric asks for. The document `/otel` says which go where.

mod config;
mod destination;
mod environment;
mod exporter;
mod pipe;

use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, SystemTime};

use runtime::{OnExit, Tasks};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

pub(crate) use self::config::Document;
use self::config::{Backend, Signal};
pub(crate) use self::environment::Environment;
use self::exporter::{Exporter, ExporterError};
use crate::mesh_metric::Source;

/// How often metrics are sent where nobody says it.
const REFRESH: Duration = Duration::from_secs(60);

/// What signals are made of, and what the host says of collectors.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// Metrics of Envoy and of applications.
    pub(crate) metrics: Source,
    /// `OTEL_EXPORTER_OTLP_*` and `HOST_IP`.
    pub(crate) environment: Environment,
    /// When this process began to count.
    pub(crate) started: SystemTime,
}

/// Sends signals as the newest document says, until the tasks are told to end.
pub(crate) fn serve(tasks: &Tasks, context: Context, document: watch::Receiver<Option<Document>>) {
    let stop = tasks.token();
    tasks.spawn("signals of OpenTelemetry", OnExit::Shutdown, async move {
        tokio::select! {
            () = follow(context, document) => {}
            () = stop.cancelled() => {}
        }
    });
}

/// Keeps one set of tasks for each collector; a collector that changes begins again.
async fn follow(context: Context, mut document: watch::Receiver<Option<Document>>) {
    let mut running: BTreeMap<String, (Backend, JoinSet<()>)> = BTreeMap::new();
    loop {
        let wanted = document.borrow_and_update().clone().unwrap_or_default().backends;
        let over: Vec<_> = running
            .iter()
            .filter(|(_, (held, _))| !wanted.contains(held))
            .map(|(name, _)| name.clone())
            .collect();
        for name in over {
            if let Some((_, mut tasks)) = running.remove(&name) {
                // Its socket is gone before another one is made of the same name.
                tasks.shutdown().await;
            }
        }
        for backend in wanted {
            running.entry(backend.name.clone()).or_insert_with(|| {
                let tasks = start(&backend, &context);
                (backend, tasks)
            });
        }
        if document.changed().await.is_err() {
            return;
        }
    }
}

fn start(backend: &Backend, context: &Context) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let exporter = |signal: Signal| -> Option<Exporter> {
        if !backend.sends(signal) {
            return None;
        }
        let destination = context.environment.destination(backend, signal);
        let made = destination.map_err(ExporterError::Address).and_then(|place| Exporter::new(&place));
        made.inspect_err(|error| complain(backend, signal, error)).ok()
    };
    let pipe = pipe::Pipe { traces: exporter(Signal::Traces), logs: exporter(Signal::Logs) };
    if pipe.is_open() {
        let (name, socket) = (backend.name.clone(), backend.socket_path.clone());
        tasks.spawn(async move {
            if let Err(error) = pipe.serve(&socket).await {
                let error = &error as &dyn Error;
                tracing::warn!(backend = name, error, "no signals of Envoy reach this collector");
            }
        });
    }
    if let Some(exporter) = exporter(Signal::Metrics) {
        tasks.spawn(send_metrics(backend.clone(), exporter, context.clone()));
    }
    tasks
}

async fn send_metrics(backend: Backend, exporter: Exporter, context: Context) {
    let mut ticks = tokio::time::interval(backend.refresh_interval().unwrap_or(REFRESH));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let request = context.metrics.export(context.started, SystemTime::now()).await;
        if let Err(error) = exporter.export(request).await {
            complain(&backend, Signal::Metrics, &error);
        }
    }
}

fn complain(backend: &Backend, signal: Signal, error: &ExporterError) {
    let error = error as &dyn Error;
    tracing::warn!(backend = backend.name, signal = signal.name(), error, "a signal is not exported");
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    use prost::Message;
    use tokio::net::{TcpListener, UnixStream};
    use tonic::transport::{Endpoint, Uri};

    use super::*;
    use crate::admin::Admin;

    /// A collector that takes OTLP over HTTP: paths and bodies that came.
    async fn collector(tasks: &Tasks) -> (u16, Arc<Mutex<Vec<(String, Vec<u8>)>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let kept = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&kept);
        let router = axum::Router::new().fallback(move |uri: http::Uri, body: axum::body::Bytes| {
            shared.lock().unwrap().push((uri.path().to_owned(), body.to_vec()));
            async {}
        });
        tasks.spawn_fallible("collector", OnExit::Ignore, async { axum::serve(listener, router).await });
        (port, kept)
    }

    async fn send_span(socket: &str) -> Result<(), Box<dyn Error>> {
        let path = socket.to_owned();
        let connect = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://envoy").connect_with_connector(connect).await?;
        let span = Span { name: "a".to_owned(), ..Span::default() };
        let scope = ScopeSpans { spans: vec![span], ..ScopeSpans::default() };
        let resource = ResourceSpans { scope_spans: vec![scope], ..ResourceSpans::default() };
        let request = ExportTraceServiceRequest { resource_spans: vec![resource] };
        TraceServiceClient::new(channel).export(request).await?;
        Ok(())
    }

    #[tokio::test]
    async fn spans_of_envoy_and_metrics_reach_the_collector_of_the_newest_document() {
        let dir = tempfile::tempdir().unwrap();
        let tasks = Tasks::new();
        let (port, kept) = collector(&tasks).await;
        let socket = dir.path().join("kuma-otel-c.sock").display().to_string();
        let document = format!(
            r#"{{"backends":[{{"name":"c","socketPath":"{socket}","endpoint":"127.0.0.1:{port}","useHTTP":true,
                "path":"/base","traces":{{"enabled":true}},
                "metrics":{{"enabled":true,"refreshInterval":"1h0m0s"}}}}]}}"#
        );
        let document: Document = serde_json::from_str(&document).unwrap();
        let metrics = Source::new(Admin::new(dir.path().join("no-envoy")), watch::channel(None).1);
        let context = Context { metrics, environment: Environment::default(), started: SystemTime::now() };
        let (tx, rx) = watch::channel(Some(document));
        serve(&tasks, context, rx);
        while send_span(&socket).await.is_err() {
            tokio::task::yield_now().await;
        }
        let paths = || kept.lock().unwrap().iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
        while !paths().contains(&"/base/v1/metrics".to_owned()) {
            tokio::task::yield_now().await;
        }
        let bodies = kept.lock().unwrap().clone();
        let (_, body) = bodies.iter().find(|(path, _)| path == "/base/v1/traces").unwrap();
        let came = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
        assert_eq!(came.resource_spans[0].scope_spans[0].spans[0].name, "a");
        tx.send_replace(None);
        while send_span(&socket).await.is_ok() {
            tokio::task::yield_now().await;
        }
        tasks.shutdown(Duration::from_secs(1)).await;
    }
}
