//! One run of mesh-dp, from the flags to the last process it started.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus_client::registry::Registry;
use runtime::config::HumanDuration;
use runtime::serve::{self, BindError, ServeOptions};
use runtime::telemetry::{self, LogFormat, TelemetryConfig, TelemetryError};
use runtime::tls::{TlsError, Trust};
use runtime::{OnExit, Readiness, Tasks};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::access_log::AccessLog;
use crate::admin::Admin;
use crate::bootstrap::{
    self, AgentVersion, BootstrapRequest, Client, EnvoyVersion, FetchError, MetricsResources, Version,
};
use crate::cli::{self, RunArgs};
use crate::dataplane::{self, Dataplane, DataplaneError};
use crate::dns::Records;
use crate::dns::server::{self as dns, DnsError, DnsServer};
use crate::dynamic_config::Poller;
use crate::envoy::{self, EnvoyError, Supervisor};
use crate::mesh_metric::{self, Source};
use crate::metrics::Metrics;
use crate::otel::{self, Environment};
use crate::readiness::{self, Probe};
use crate::transparent_proxy::{Settings, SettingsError};
use crate::workdir::{Workdir, WorkdirError};

/// Applications start even if the names of the mesh do not come.
const DNS_PATIENCE: Duration = Duration::from_secs(15);
/// How often connections are counted while draining.
const DRAIN_POLL: Duration = Duration::from_millis(500);
/// Consecutive counts of zero after which nobody is left, rather than between two connections.
const DRAIN_IDLE_POLLS: u32 = 2;
/// Our own tasks only close sockets.
const SHUTDOWN: Duration = Duration::from_secs(5);
/// Bundles of root certificates of the usual distributions, for Envoy to verify external services.
const SYSTEM_CA: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

#[derive(Debug, thiserror::Error)]
pub(crate) enum AppError {
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
    #[error(transparent)]
    Workdir(#[from] WorkdirError),
    #[error(transparent)]
    Envoy(#[from] EnvoyError),
    #[error(transparent)]
    Bootstrap(#[from] FetchError),
    #[error(transparent)]
    Dns(#[from] DnsError),
    #[error("the readiness port cannot be served")]
    Readiness(#[source] BindError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot receive signals")]
    Signals(#[source] io::Error),
    #[error("cannot make the access log pipe")]
    AccessLog(#[source] io::Error),
    #[error(transparent)]
    TransparentProxy(#[from] SettingsError),
    #[error("cannot make the socket for metrics")]
    Metrics(#[source] io::Error),
    #[error("{0}")]
    Task(String),
}

/// Runs until a signal or a failure. Nothing that it started is left when it returns.
pub(crate) async fn run(args: RunArgs) -> Result<(), AppError> {
    let guard = telemetry::init(&telemetry_config(&args), "mesh-dp")?;
    let tasks = Tasks::new();
    let end = run_with(&args, &tasks).await;
    tasks.shutdown(SHUTDOWN).await;
    guard.shutdown().await;
    end
}

fn telemetry_config(args: &RunArgs) -> TelemetryConfig {
    TelemetryConfig {
        log_level: args.log_level.clone(),
        log_format: if args.log_json { LogFormat::Json } else { LogFormat::Text },
        otlp_endpoint: args.otlp_endpoint.clone(),
    }
}

async fn run_with(args: &RunArgs, tasks: &Tasks) -> Result<(), AppError> {
    let shutdown = runtime::shutdown_signal().map_err(AppError::Signals)?;
    for variable in cli::unread(std::env::vars().map(|(name, _)| name)) {
        tracing::warn!(variable, "a variable of kuma-dp that has no counterpart here is not read");
    }
    let template = dataplane::template(args.dataplane_file.as_deref(), args.dataplane.as_deref())?;
    let dataplane = dataplane::load(
        args.mesh.as_deref(),
        args.name.as_deref(),
        template.as_deref(),
        &args.dataplane_vars,
    )?;
    let workdir = Workdir::open(args.workdir.as_deref())?;
    let end = run_in(args, tasks, &dataplane, &workdir, shutdown).await;
    workdir.clean();
    end
}

async fn run_in(
    args: &RunArgs,
    tasks: &Tasks,
    dataplane: &Dataplane,
    workdir: &Workdir,
    shutdown: impl Future<Output = &'static str>,
) -> Result<(), AppError> {
    let mut shutdown = std::pin::pin!(shutdown);
    let version = envoy::version(&args.envoy).await?;
    let environment = Environment::read(std::env::vars());
    let (mesh, name) = (dataplane.mesh.as_str(), dataplane.name.as_str());
    tracing::info!(mesh, name, envoy = version.version, workdir = %workdir.path().display(), "starting");
    let ports = Ports::open(args, tasks, workdir).await?;
    let request = request(args, dataplane, workdir, &ports, version, &environment)?;
    let client = client(args, &ports.metrics)?;
    let bootstrap = tokio::select! {
        bootstrap = client.fetch(&request) => bootstrap?,
        _ = shutdown.as_mut() => return Ok(()),
    };
    workdir.write_bootstrap(&bootstrap)?;
    let log = AccessLog::open(&workdir.access_log_pipe(name, mesh), ports.metrics.clone());
    let log = log.map_err(AppError::AccessLog)?.run();
    let stop = tasks.token();
    tasks.spawn_fallible("access log", OnExit::Shutdown, async move {
        tokio::select! {
            end = log => end,
            () = stop.cancelled() => Ok(()),
        }
    });
    serve_signals(tasks, dataplane, workdir, environment)?;
    let Ports { probe, metrics, bootstrap: blocker, .. } = ports;
    drop(blocker);
    let stop = CancellationToken::new();
    let supervisor = Supervisor {
        command: envoy::command_line(args, &workdir.bootstrap()),
        sockets: vec![workdir.admin_socket(), workdir.dynamic_config_socket()],
        terminating: probe.terminating.clone(),
        stop: stop.clone(),
        metrics,
    };
    let drained = drain_listeners_on_signal(tasks, probe.admin.clone())?;
    let mut envoy = std::pin::pin!(supervisor.run());
    let end = tokio::select! {
        // Without a signal, it ends only by giving up.
        end = envoy.as_mut() => return Ok(end?),
        name = shutdown => {
            tracing::info!(signal = name, "draining");
            None
        }
        () = tasks.cancelled() => Some(AppError::Task(tasks.failure().unwrap_or_default())),
    };
    probe.terminating.cancel();
    if end.is_none() {
        let second = runtime::shutdown_signal().map_err(AppError::Signals)?;
        tokio::select! {
            end = envoy.as_mut() => return Ok(end?),
            () = drain(&probe.admin, args.drain_time), if !drained.is_cancelled() => {}
            () = drained.cancelled() => tracing::info!("its listeners are drained already"),
            name = second => tracing::info!(signal = name, "stopping at once"),
        }
    }
    stop.cancel();
    envoy.await?;
    end.map_or(Ok(()), Err)
}

/// Lets Envoy's listeners drain when SIGUSR2 says that this host is about to go; the token tells that it was so.
fn drain_listeners_on_signal(tasks: &Tasks, admin: Admin) -> Result<CancellationToken, AppError> {
    let mut announced = signal(SignalKind::user_defined2()).map_err(AppError::Signals)?;
    let (stop, drained) = (tasks.token(), CancellationToken::new());
    let done = drained.clone();
    tasks.spawn("drain of listeners", OnExit::Ignore, async move {
        tokio::select! {
            _ = announced.recv() => {}
            () = stop.cancelled() => return,
        }
        match admin.drain_listeners().await {
            Ok(()) => tracing::info!("the listeners of Envoy drain"),
            Err(error) => tracing::warn!(%error, "Envoy's listeners cannot be drained"),
        }
        done.cancel();
    });
    Ok(drained)
}

/// What is open before the bootstrap is asked for, because the request tells the ports.
struct Ports {
    probe: Probe,
    readiness: SocketAddr,
    dns: Option<SocketAddr>,
    metrics: Metrics,
    bootstrap: runtime::Blocker,
}

impl Ports {
    async fn open(args: &RunArgs, tasks: &Tasks, workdir: &Workdir) -> Result<Self, AppError> {
        let metrics = Metrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let readiness = Readiness::new();
        let bootstrap = readiness.blocker("bootstrap");
        let dns = open_dns(args, tasks, workdir, &readiness, &metrics).await?;
        let admin = Admin::new(workdir.admin_socket());
        let probe = Probe { readiness, terminating: CancellationToken::new(), admin };
        let address = SocketAddr::new(args.readiness_address, args.readiness_port);
        let listener = serve::bind(address).map_err(AppError::Readiness)?;
        let router = readiness::router(probe.clone(), Arc::new(registry));
        let readiness = serve::spawn(tasks, "readiness", listener, router, ServeOptions::default())
            .map_err(AppError::Readiness)?;
        Ok(Self { probe, readiness, dns, metrics, bootstrap })
    }
}

async fn open_dns(
    args: &RunArgs,
    tasks: &Tasks,
    workdir: &Workdir,
    readiness: &Readiness,
    metrics: &Metrics,
) -> Result<Option<SocketAddr>, AppError> {
    let Some(port) = args.served_dns_port() else { return Ok(None) };
    let upstream = args.dns_upstream.map_or_else(dns::system_upstream, Ok)?;
    let (tx, rx) = watch::channel(None);
    let bind = |address| DnsServer::bind(address, upstream, rx.clone(), metrics.clone());
    let server = bind(SocketAddr::new(args.dns_address, port)).await?;
    let address = server.address();
    server.spawn(tasks);
    if args.dns_address == Ipv4Addr::LOCALHOST && has_ipv6() {
        bind((Ipv6Addr::LOCALHOST, address.port()).into()).await?.spawn(tasks);
    }
    follow(tasks, Poller::new(workdir.dynamic_config_socket(), "/dns", tx));
    let blocker = readiness.blocker("dns");
    tasks.spawn("first names", OnExit::Ignore, async move {
        if tokio::time::timeout(DNS_PATIENCE, first(rx)).await.is_err() {
            tracing::warn!("no names of the mesh yet, ready without them");
        }
        drop(blocker);
    });
    Ok(Some(address))
}

/// Keeps a document of the dynamic configuration up to date.
fn follow<T: DeserializeOwned + Send + Sync + 'static>(tasks: &Tasks, poller: Poller<T>) {
    let stop = tasks.token();
    tasks.spawn("dynamic configuration", OnExit::Shutdown, async move {
        tokio::select! {
            () = poller.run() => {}
            () = stop.cancelled() => {}
        }
    });
}

/// Serves the metrics of Envoy and of applications, as MeshMetric says, to the listener that Envoy has for Prometheus,
/// and sends them and the spans and logs of Envoy to collectors.
fn serve_signals(
    tasks: &Tasks,
    dataplane: &Dataplane,
    workdir: &Workdir,
    environment: Environment,
) -> Result<(), AppError> {
    let (tx, rx) = watch::channel(None);
    let socket = workdir.metrics_socket(&dataplane.name, &dataplane.mesh);
    let metrics = Source::new(Admin::new(workdir.admin_socket()), rx);
    mesh_metric::serve(tasks, &socket, metrics.clone()).map_err(AppError::Metrics)?;
    follow(tasks, Poller::new(workdir.dynamic_config_socket(), "/meshmetric", tx));
    let (tx, rx) = watch::channel(None);
    otel::serve(tasks, otel::Context { metrics, environment, started: SystemTime::now() }, rx);
    follow(tasks, Poller::new(workdir.dynamic_config_socket(), "/otel", tx).forgetting());
    Ok(())
}

async fn first(mut records: watch::Receiver<Option<Records>>) {
    // An error means that the poller is gone, and with it this process.
    let _ = records.wait_for(Option::is_some).await;
}

fn client(args: &RunArgs, metrics: &Metrics) -> Result<Client, AppError> {
    let trust = match (&args.cp_ca_file, &args.cp_ca_cert, args.cp_ca_fingerprint) {
        (Some(file), ..) => Trust::CaFile(file.clone()),
        (None, Some(pem), _) => Trust::CaPem(pem.clone()),
        (None, None, Some(pin)) => Trust::Fingerprint(pin),
        (None, None, None) if args.cp_skip_verify => Trust::SkipVerify,
        (None, None, None) => Trust::System,
    };
    let patience = Some(args.cp_retry_for).filter(|limit| *limit > HumanDuration::default());
    Ok(Client::new(&args.cp_address, &trust, patience.map(HumanDuration::get), metrics.clone())?)
}

fn request(
    args: &RunArgs,
    dataplane: &Dataplane,
    workdir: &Workdir,
    ports: &Ports,
    envoy: EnvoyVersion,
    environment: &Environment,
) -> Result<BootstrapRequest, AppError> {
    let text = |path: &Option<PathBuf>| path.as_ref().map(read).transpose();
    let token = text(&args.token_file)?.or_else(|| args.token.clone()).map(|token| token.trim().to_owned());
    // Envoy may be made to read the token itself, with this path from its bootstrap.
    let absolute = |path: &PathBuf| {
        std::path::absolute(path).map_err(|source| AppError::Read { path: path.clone(), source })
    };
    let token_path = args.token_file.as_ref().map(absolute).transpose()?;
    let metrics_resources = match (&args.metrics_cert_path, &args.metrics_key_path) {
        (Some(cert), Some(key)) => Some(MetricsResources {
            cert_path: absolute(cert)?.display().to_string(),
            key_path: absolute(key)?.display().to_string(),
        }),
        _ => None,
    };
    let agent = AgentVersion { version: env!("CARGO_PKG_VERSION").to_owned(), ..AgentVersion::default() };
    Ok(BootstrapRequest {
        mesh: dataplane.mesh.clone(),
        name: dataplane.name.clone(),
        proxy_type: "dataplane",
        dataplane_token: token,
        dataplane_token_path: token_path.map(|path| path.display().to_string()),
        dataplane_resource: dataplane.resource.clone(),
        version: Version { kuma_dp: agent, envoy },
        ca_cert: text(&args.cp_ca_file)?.or_else(|| args.cp_ca_cert.clone()),
        dynamic_metadata: environment.host_ip.iter().map(|ip| ("hostIP".to_owned(), ip.clone())).collect(),
        otel_env: environment.inventory(),
        dns_port: ports.dns.map(|address| address.port()),
        readiness_port: Some(ports.readiness.port()),
        operating_system: std::env::consts::OS,
        features: bootstrap::features(args.bind_outbounds, args.is_transparent()),
        workdir: workdir.path().display().to_string(),
        system_ca_path: SYSTEM_CA
            .iter()
            .find(|path| std::fs::exists(path).unwrap_or(false))
            .map(|p| (*p).to_owned()),
        ipv6_enabled: has_ipv6(),
        metrics_resources,
        transparent_proxy: transparent_proxy(args)?,
    })
}

/// Which packets are brought to Envoy, as whoever installed the rules was told.
fn transparent_proxy(args: &RunArgs) -> Result<Option<Value>, AppError> {
    if !args.is_transparent() {
        return Ok(None);
    }
    let settings = Settings::load(&args.transparent_proxy_config, std::env::vars(), Value::Null)?;
    Ok(Some(serde_json::to_value(settings).unwrap_or_default()))
}

fn read(path: &PathBuf) -> Result<String, AppError> {
    std::fs::read_to_string(path).map_err(|source| AppError::Read { path: path.clone(), source })
}

/// Whether this host can listen on IPv6 at all.
fn has_ipv6() -> bool {
    UdpSocket::bind((IpAddr::from(Ipv6Addr::LOCALHOST), 0)).is_ok()
}

/// Turns peers away and waits until their connections are gone or the time is over.
async fn drain(admin: &Admin, limit: HumanDuration) {
    let deadline = Instant::now() + limit.get();
    if let Err(error) = admin.fail_health_checks().await {
        tracing::warn!(%error, "Envoy cannot be told to drain");
        return;
    }
    let mut idle = 0;
    while idle < DRAIN_IDLE_POLLS && Instant::now() < deadline {
        tokio::time::sleep_until((Instant::now() + DRAIN_POLL).min(deadline)).await;
        match admin.active_connections().await {
            Ok(0) => idle += 1,
            Ok(connections) => {
                idle = 0;
                tracing::debug!(connections, "draining");
            }
            Err(error) => {
                tracing::warn!(%error, "cannot count connections");
                return;
            }
        }
    }
    tracing::info!(idle = idle == DRAIN_IDLE_POLLS, "drained");
}
