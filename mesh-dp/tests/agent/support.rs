//! A control plane of one handler, the agent as a child process, and waiting.

use std::ffi::OsStr;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use auth::pki::{Authority, Validity, fingerprint_sha256};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine;
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runtime::serve::{self, ServeOptions};
use runtime::{Tasks, tls};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, UnixStream};

const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until a condition holds; panics with its name after the deadline.
pub(crate) async fn eventually<F, C>(what: &str, mut condition: C)
where
    C: FnMut() -> F,
    F: Future<Output = bool>,
{
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    let holds = async {
        while !condition().await {
            ticks.tick().await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, holds).await.is_ok(), "not in time: {what}");
}

/// What the control plane answers, one after another; the last one again and again.
#[derive(Clone, Copy)]
pub(crate) enum Reply {
    UnknownDataplane,
    Refusal,
    Bootstrap,
    BrokenBootstrap,
}

#[derive(Default)]
struct Served {
    requests: Mutex<Vec<Value>>,
    replies: Mutex<Vec<Reply>>,
}

/// A control plane that serves `/bootstrap` over TLS.
pub(crate) struct ControlPlane {
    address: SocketAddr,
    pub(crate) fingerprint: String,
    /// Its authority, PEM.
    pub(crate) ca: String,
    served: Arc<Served>,
    tasks: Tasks,
}

impl ControlPlane {
    pub(crate) fn start(mut replies: Vec<Reply>) -> Self {
        let validity =
            Validity::starting(time::OffsetDateTime::now_utc(), Duration::from_secs(3600)).unwrap();
        let ca = Authority::generate("test", None, validity).unwrap();
        let issued = ca.issue_server("cp", &["127.0.0.1".to_owned()], validity).unwrap();
        let certificate = tls::fixed_certificate(&issued.chain_pem, issued.key.expose()).unwrap();
        let options = ServeOptions::tls(tls::server_config(certificate, None).unwrap());
        replies.reverse();
        let served = Arc::new(Served { replies: Mutex::new(replies), ..Served::default() });
        let router = Router::new().route("/bootstrap", post(bootstrap)).with_state(Arc::clone(&served));
        let tasks = Tasks::new();
        let listener = serve::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = serve::spawn(&tasks, "cp", listener, router, options).unwrap();
        let fingerprint = fingerprint_sha256(ca.certificate_pem()).unwrap();
        Self { address, fingerprint, ca: ca.certificate_pem().to_owned(), served, tasks }
    }

    pub(crate) fn requests(&self) -> Vec<Value> {
        self.served.requests.lock().unwrap().clone()
    }

    /// The request that got a bootstrap.
    pub(crate) async fn request(&self) -> Value {
        let answered = || self.served.replies.lock().unwrap().len() == 1 && !self.requests().is_empty();
        eventually("a bootstrap request", || async { answered() }).await;
        self.requests().pop().unwrap()
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

async fn bootstrap(State(served): State<Arc<Served>>, Json(request): Json<Value>) -> Response {
    let reply = {
        let mut replies = served.replies.lock().unwrap();
        if replies.len() > 1 { replies.pop().unwrap() } else { replies[0] }
    };
    let workdir = request["workdir"].as_str().unwrap().to_owned();
    served.requests.lock().unwrap().push(request);
    let encoded = |config: Value| {
        let text = base64::engine::general_purpose::STANDARD.encode(config.to_string());
        Json(json!({"bootstrap": text, "kumaSidecarConfiguration": {}})).into_response()
    };
    match reply {
        Reply::UnknownDataplane => StatusCode::NOT_FOUND.into_response(),
        Reply::Refusal => {
            let document = json!({"title": "Invalid", "detail": "mesh \"default\" does not exist"});
            (StatusCode::UNPROCESSABLE_ENTITY, Json(document)).into_response()
        }
        Reply::Bootstrap => encoded(envoy_config(&workdir)),
        Reply::BrokenBootstrap => encoded(json!({"no_such_field": 1})),
    }
}

/// An admin socket, the DNS records on the dynamic configuration socket, and one TCP listener.
fn envoy_config(workdir: &str) -> Value {
    let http = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let records = json!({"records": [{"name": "backend.mesh", "ips": ["10.9.8.7"]}], "ttl": 30}).to_string();
    let listener = |name: &str, path: &str, body: &str| {
        json!({
            "name": name,
            "address": {"pipe": {"path": format!("{workdir}/{path}")}},
            "filter_chains": [{"filters": [{"name": "http", "typed_config": {
                "@type": http, "stat_prefix": name,
                "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{
                    "match": {"path": "/dns"},
                    "direct_response": {"status": 200, "body": {"inline_string": body}},
                    "response_headers_to_add": [{"header": {"key": "etag", "value": "t1"}}]
                }]}]},
                "http_filters": [{"name": "router", "typed_config": {"@type": router}}]
            }}]}]
        })
    };
    json!({
        "node": {"id": "default.web-1", "cluster": "web"},
        "admin": {"address": {"pipe": {"path": format!("{workdir}/kuma-envoy-admin.sock"), "mode": 384}}},
        "static_resources": {"listeners": [
            listener("dynamic", "kuma-mesh-metric-config.sock", &records),
            listener("application", "app.sock", "")
        ]}
    })
}

/// The agent as a child process. Killed when dropped.
pub(crate) struct Agent {
    child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
    _files: TempDir,
}

impl Agent {
    pub(crate) fn start(control_plane: &ControlPlane, extra: &[&str]) -> Self {
        Self::start_trusting(control_plane, &control_plane.fingerprint, extra)
    }

    pub(crate) fn start_trusting(control_plane: &ControlPlane, fingerprint: &str, extra: &[&str]) -> Self {
        let files = tempfile::tempdir().unwrap();
        let dataplane = files.path().join("dataplane.yaml");
        let yaml = "type: Dataplane\nmesh: default\nname: web-1\nnetworking:\n  address: {{ address }}\n";
        std::fs::write(&dataplane, yaml).unwrap();
        let token = files.path().join("token");
        std::fs::write(&token, "the-token\n").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mesh-dp"));
        command
            .env_clear()
            .arg("run")
            .args(["--cp-address", &format!("https://{}", control_plane.address)])
            .args(["--cp-ca-fingerprint", fingerprint, "--readiness-port", "0", "--log-json"])
            .args([
                OsStr::new("--dataplane-file"),
                dataplane.as_ref(),
                "-v".as_ref(),
                "address=127.0.0.9".as_ref(),
            ])
            .args([OsStr::new("--token-file"), token.as_ref(), "--envoy".as_ref(), envoy().as_ref()])
            .args(["--concurrency", "1"])
            .args(extra);
        Self::spawn(command, files)
    }

    /// Starts it with nothing but the environment that kuma-dp would have.
    pub(crate) fn start_as_peer(control_plane: &ControlPlane, variables: &[(&str, &str)]) -> Self {
        let files = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mesh-dp"));
        command
            .env_clear()
            .env("KUMA_CONTROL_PLANE_URL", format!("https://{}", control_plane.address))
            .env("KUMA_CONTROL_PLANE_CA_CERT", &control_plane.ca)
            .env("KUMA_DATAPLANE_RUNTIME_BINARY_PATH", envoy())
            .env("KUMA_READINESS_PORT", "0")
            .envs(variables.iter().copied())
            .args(["run", "--log-json"]);
        Self::spawn(command, files)
    }

    fn spawn(mut command: Command, files: TempDir) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (stderr, sink) = (child.stderr.take().unwrap(), Arc::clone(&log));
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = sink.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { child, log, reader: Some(reader), _files: files }
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The process id of the nth Envoy.
    pub(crate) async fn envoy_pid(&self, nth: usize) -> i32 {
        let pids = || -> Vec<i32> {
            let log = self.log();
            let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let started = events.filter(|event| event["message"] == "Envoy started");
            started.filter_map(|event| i32::try_from(event["pid"].as_i64()?).ok()).collect()
        };
        eventually("an Envoy", || async { pids().len() >= nth }).await;
        pids()[nth - 1]
    }

    pub(crate) fn signal(&self, kind: Signal) {
        signal(i32::try_from(self.child.id()).unwrap(), kind);
    }

    /// Waits for the end of the process and of its log.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        let ended = async {
            while status.is_none() {
                ticks.tick().await;
                status = self.child.try_wait().unwrap();
            }
        };
        let ended = tokio::time::timeout(DEADLINE, ended).await;
        assert!(ended.is_ok(), "mesh-dp did not end:\n{}", self.log());
        self.reader.take().unwrap().join().unwrap();
        status.unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn envoy() -> PathBuf {
    let path = std::env::var_os("ISTHMUS_ENVOY")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/envoy/envoy"), PathBuf::from);
    assert!(path.exists(), "no Envoy at {}: run `cargo xtask test` or set ISTHMUS_ENVOY", path.display());
    path
}

pub(crate) fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

/// Whether a process is there and not just waiting to be reaped.
pub(crate) fn is_running(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    serve::bind(([127, 0, 0, 1], 0).into()).unwrap().local_addr().unwrap().port()
}

/// The readiness port that the agent told the control plane.
pub(crate) fn url(request: &Value) -> SocketAddr {
    let port = u16::try_from(request["readinessPort"].as_u64().unwrap()).unwrap();
    ([127, 0, 0, 1], port).into()
}

pub(crate) async fn is_ready(address: SocketAddr) -> bool {
    status(address).await == Some(200)
}

/// The status that `/ready` answers.
pub(crate) async fn status(address: SocketAddr) -> Option<u16> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(b"GET /ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

/// Opens a connection to the application's listener and makes sure that Envoy has accepted it.
pub(crate) async fn connect(workdir: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(workdir.join("app.sock")).await.unwrap();
    stream.write_all(b"GET /dns HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    stream.read_u8().await.unwrap();
    stream
}

/// Asks the agent's DNS for the addresses of a name.
pub(crate) async fn resolve(port: u16, name: &str) -> String {
    let mut query = Message::new(1, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    let socket = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
    socket.send_to(&query.to_vec().unwrap(), ("127.0.0.1", port)).await.unwrap();
    let mut buffer = [0; 512];
    let (length, _) = tokio::time::timeout(DEADLINE, socket.recv_from(&mut buffer)).await.unwrap().unwrap();
    let answers = Message::from_vec(&buffer[..length]).unwrap().answers;
    answers.iter().map(|record| record.data.to_string()).collect::<Vec<_>>().join(",")
}
