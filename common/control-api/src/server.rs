//! Binding and serving the API.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use model::labels::Plane;
use runtime::serve::{self, BindError, ServeOptions};
use runtime::tls::{ReloadingCertificate, TlsError, server_config};
use runtime::{OnExit, Tasks};
use serde_json::Value;
use store::Store;
use store::index::SnapshotReceiver;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::routes::{self, OverTls};
use crate::{ApiConfig, Metrics, ProxyInspector};

/// What the control plane says of itself.
#[derive(Clone, Debug)]
pub struct BuildInfo {
    /// Version of the program.
    pub version: String,
    /// Name of this run of the process.
    pub instance_id: String,
    /// Id of the store: the same on every instance that shares it.
    pub cluster_id: String,
}

/// What the API stands on.
pub struct Api {
    /// Where writes go.
    pub store: Store,
    /// Where reads come from.
    pub snapshots: SnapshotReceiver,
    /// Which control plane this is.
    pub plane: Plane,
    /// What it says of itself.
    pub build: BuildInfo,
    /// Whom it asks about running proxies.
    pub proxies: Arc<dyn ProxyInspector>,
    /// Its effective configuration, secrets masked.
    pub config_json: Value,
    /// The control plane's own TLS identity, for HTTPS without configured files.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Whether a new mesh gets its signing key and default policies.
    pub mesh_defaults: bool,
    /// Mass removals by peers that wait for a confirmation.
    pub guard: kds::Guard,
    /// What is counted.
    pub metrics: Metrics,
}

/// Where the API is served.
#[derive(Clone, Copy, Debug)]
pub struct Handle {
    /// Plain HTTP.
    pub http: SocketAddr,
    /// HTTPS, if it is served.
    pub https: Option<SocketAddr>,
}

/// Why the API is not served.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// A port is taken.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The certificate cannot be used.
    #[error("api.https: the certificate cannot be used")]
    Tls(#[from] TlsError),
    /// Only one of both files.
    #[error("api.https: certFile and keyFile go together")]
    HalfPair,
    /// HTTPS without any certificate.
    #[error("api.https: there is no certificate: set certFile and keyFile")]
    NoCertificate,
}

/// Binds the ports and serves the API until shutdown.
///
/// # Errors
/// When a port is taken or HTTPS has no usable certificate.
pub fn spawn(tasks: &Tasks, config: ApiConfig, api: Api) -> Result<Handle, ApiError> {
    let open = !config.address.is_loopback();
    let https = config.https.enabled || (open && !config.plain_http_off_loopback);
    let tls = if https { Some(tls_of(&config, &api)?) } else { None };
    let plain = match config.address {
        address if !open || config.plain_http_off_loopback => address,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let http_listener = serve::bind(SocketAddr::new(plain, config.port))?;
    let https_listener = match tls {
        Some(tls) => Some((serve::bind(SocketAddr::new(config.address, config.https.port))?, tls)),
        None => None,
    };
    let app = App::new(config, api, tasks.token());
    tasks.spawn("insights", OnExit::Shutdown, Arc::clone(&app).count_changes());
    let plain = routes::router(Arc::clone(&app), OverTls(false));
    let http = serve::spawn(tasks, "api", http_listener, plain, ServeOptions::default())?;
    let https = https_listener
        .map(|(listener, tls)| {
            let router = routes::router(Arc::clone(&app), OverTls(true));
            serve::spawn(tasks, "api over TLS", listener, router, ServeOptions::tls(tls))
        })
        .transpose()?;
    Ok(Handle { http, https })
}

fn tls_of(config: &ApiConfig, api: &Api) -> Result<Arc<rustls::ServerConfig>, ApiError> {
    match (&config.https.cert_file, &config.https.key_file) {
        (Some(cert), Some(key)) => Ok(server_config(ReloadingCertificate::load(cert, key)?, None)?),
        (None, None) => api.tls.clone().ok_or(ApiError::NoCertificate),
        _ => Err(ApiError::HalfPair),
    }
}

/// The API as a router, for embedding it elsewhere. Requests must carry `ConnectInfo<SocketAddr>`: without it
/// nobody is local.
pub fn router(config: ApiConfig, api: Api) -> Router {
    routes::router(App::new(config, api, CancellationToken::new()), OverTls(false))
}
