//! The metrics that MeshMetric asks for: those of Envoy and of applications, collected when Envoy's listener for
//! Prometheus asks for them on a Unix socket, and given the labels of the mesh.
//!
//! A source that does not answer, or with what is no metrics, is left out: the others are still there.

mod config;
mod exposition;
mod otlp;

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use http::{Request, header};
use http_body_util::Empty;
use hyper::body::Bytes;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use runtime::{OnExit, Tasks};
use tokio::net::{TcpStream, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(crate) use self::config::Document;
use self::config::{Application, Collection};
use self::exposition::{Families, ParseError};
use crate::admin::{self, Admin, AdminError, Answer};
use crate::workdir::{self, SocketFile};

/// Under which Envoy asks; Prometheus' own path is behind it.
const PATH: &str = "/meshmetric";
/// Prometheus gives up after ten seconds by default: what the others have must be out before.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Says which application a metric is from, for those that have a name.
const APPLICATION: &str = "kuma_application";
/// Both formats, the one that needs no translation first.
const ACCEPT: &str = "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.5";
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Why a source has no metrics.
#[derive(Debug, thiserror::Error)]
enum SourceError {
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error("its address or path makes no request")]
    Request(#[from] http::Error),
    #[error(transparent)]
    Http(#[from] AdminError),
    #[error("it answers with {0}")]
    Status(StatusCode),
    #[error(transparent)]
    Parse(#[from] ParseError),
    #[error("it does not answer in time")]
    Timeout,
}

/// What is asked for, and from which Envoy.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    admin: Admin,
    document: watch::Receiver<Option<Document>>,
}

impl Source {
    pub(crate) fn new(admin: Admin, document: watch::Receiver<Option<Document>>) -> Self {
        Self { admin, document }
    }

    /// What the newest document asks for, as a request of OpenTelemetry.
    pub(crate) async fn export(&self, started: SystemTime, now: SystemTime) -> ExportMetricsServiceRequest {
        let document = self.document();
        let collection = document.collection();
        let families = collect(&self.admin, collection).await;
        otlp::request(&families, &collection.extra_labels, otlp::Times::new(started, now))
    }

    fn document(&self) -> Document {
        self.document.borrow().clone().unwrap_or_default()
    }
}

/// Serves on the socket until the tasks are told to end.
pub(crate) fn serve(tasks: &Tasks, socket: &Path, source: Source) -> io::Result<()> {
    workdir::remove(socket)?;
    let listener = UnixListener::bind(socket)?;
    let file = SocketFile::new(socket);
    let router = Router::new().fallback(answer).with_state(source);
    let stop = tasks.token();
    tasks.spawn_fallible("metrics", OnExit::Shutdown, async move {
        let _file = file;
        tokio::select! {
            end = async { axum::serve(listener, router).await } => end,
            () = stop.cancelled() => Ok(()),
        }
    });
    Ok(())
}

async fn answer(State(source): State<Source>, uri: Uri) -> Response {
    if !uri.path().starts_with(PATH) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let document = source.document();
    let collection = document.collection();
    let mut families = collect(&source.admin, collection).await;
    families.label(collection.extra_labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], families.render()).into_response()
}

async fn collect(admin: &Admin, collection: &Collection) -> Families {
    let mut applications = JoinSet::new();
    for (index, application) in collection.applications.iter().flatten().cloned().enumerate() {
        applications.spawn(async move {
            let end = tokio::time::timeout(TIMEOUT, scrape(&application)).await;
            (index, application, end.unwrap_or(Err(SourceError::Timeout)))
        });
    }
    let mut families = envoy(admin, collection).await.unwrap_or_else(|error| {
        tracing::warn!(error = &error as &dyn std::error::Error, "no metrics of Envoy");
        Families::default()
    });
    let mut ends = applications.join_all().await;
    ends.sort_by_key(|(index, ..)| *index);
    for (_, application, end) in ends {
        match end {
            Ok(mut metrics) => {
                metrics.label(application.name.iter().map(|name| (APPLICATION, name.as_str())));
                families.merge(metrics);
            }
            Err(error) => {
                let Application { name, port, path, .. } = application;
                let error = &error as &dyn std::error::Error;
                tracing::warn!(name, port, path, error, "no metrics of an application");
            }
        }
    }
    families
}

async fn envoy(admin: &Admin, collection: &Collection) -> Result<Families, SourceError> {
    let mut families = read(&admin.metrics(collection.include_unused()).await?)?;
    let selection = collection.selection();
    families.retain(|name| selection.wants(name));
    Ok(families)
}

async fn scrape(application: &Application) -> Result<Families, SourceError> {
    let address = if application.address.is_empty() { "127.0.0.1" } else { &application.address };
    let stream = TcpStream::connect((address, application.port)).await.map_err(SourceError::Connect)?;
    let path = if application.path.is_empty() { "/metrics" } else { &application.path };
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let request = Request::get(path)
        .header(header::HOST, format!("{host}:{}", application.port))
        .header(header::ACCEPT, ACCEPT)
        .body(Empty::<Bytes>::new())?;
    read(&admin::converse(stream, request).await?)
}

fn read(answer: &Answer) -> Result<Families, SourceError> {
    if answer.status != StatusCode::OK {
        return Err(SourceError::Status(answer.status));
    }
    let kind = answer.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let open_metrics = kind.is_some_and(|kind| kind.starts_with("application/openmetrics-text"));
    Ok(Families::parse(&String::from_utf8_lossy(&answer.body), open_metrics)?)
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use http::Method;
    use tokio::net::TcpListener;

    use super::*;

    async fn application(tasks: &Tasks, body: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = Router::new().route("/m", get(move || async move { body }));
        tasks.spawn_fallible("application", OnExit::Ignore, async { axum::serve(listener, router).await });
        port
    }

    #[tokio::test]
    async fn one_bad_source_does_not_cost_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let tasks = Tasks::new();
        let envoy = dir.path().join("admin");
        let stats = |uri: Uri| async move {
            let unused = if uri.query() == Some("text_readouts&usedonly") { "" } else { "unused 0\n" };
            format!("# TYPE envoy_a counter\nenvoy_a 1\nenvoy_b 2\n{unused}")
        };
        let router = Router::new().route("/stats/prometheus", get(stats));
        let listener = UnixListener::bind(&envoy).unwrap();
        tasks.spawn_fallible("envoy", OnExit::Ignore, async { axum::serve(listener, router).await });
        let good = application(&tasks, "envoy_b 3\n").await;
        let bad = application(&tasks, "fine 1\n<html>\n").await;
        let document = format!(
            r#"{{"observability":{{"metrics":{{"applications":[
                {{"name":"bad","path":"/m","port":{bad},"address":""}},
                {{"name":null,"path":"/missing","port":{good},"address":""}},
                {{"name":"good","path":"/m","port":{good},"address":"127.0.0.1"}}],
              "backends":null,"extraLabels":{{"mesh":"m"}},
              "sidecar":{{"profiles":{{"exclude":[{{"type":"Exact","match":"envoy_b"}}]}}}}}}}}}}"#
        );
        let (tx, rx) = watch::channel(None);
        let socket = dir.path().join("kuma-mh");
        serve(&tasks, &socket, Source::new(Admin::new(envoy), rx)).unwrap();

        let first = admin::request(&socket, Method::GET, PATH, None).await.unwrap();
        assert_eq!(first.body, "# TYPE envoy_a counter\nenvoy_a 1\n# TYPE envoy_b untyped\nenvoy_b 2\n");
        tx.send_replace(Some(serde_json::from_str(&document).unwrap()));
        let next = admin::request(&socket, Method::GET, "/meshmetric/", None).await.unwrap();
        let expected = "# TYPE envoy_a counter\nenvoy_a{mesh=\"m\"} 1\n# TYPE envoy_b untyped\n\
                        envoy_b{kuma_application=\"good\",mesh=\"m\"} 3\n";
        assert_eq!(next.body, expected);
        let other = admin::request(&socket, Method::GET, "/", None).await.unwrap();
        assert_eq!(other.status, StatusCode::NOT_FOUND);
        tasks.shutdown(Duration::from_secs(1)).await;
        assert!(!socket.exists());
    }
}
