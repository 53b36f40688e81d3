//! What proxies talk to, on one TLS port: bootstrap, the configuration streams, health.
//!
//! Last stop of the data flow in a zone: a [`views`] task follows the snapshots and makes what the proxies of a mesh
//! share; a stream wakes for its mesh, has the configuration of its proxy generated, and a sans-io [`session`] works
//! out what the proxy does not hold yet. Observations go back by another path: insights and health to the store.

mod absence;
mod admin;
mod ads;
mod bootstrap;
mod context;
mod credentials;
mod end;
mod health;
mod insight;
mod inspect;
mod made;
mod metrics;
mod node;
mod problems;
mod proxies;
mod registration;
mod session;
mod stream;
mod views;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use auth::pki::{CertificateInfo, PkiError};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::post;
use envoy_api::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use envoy_api::envoy::service::health::v3::health_discovery_service_server::HealthDiscoveryServiceServer;
use model::labels::Plane;
use model::{Key, Resource};
use proxy_config::{Identity, ProxyConfig, Settings};
use runtime::serve::{self, BindError, ServeOptions};
use runtime::{OnExit, Tasks};
use store::index::SnapshotReceiver;
use store::{Snapshot, Store};
use tokio::sync::watch;
use tonic::service::Routes;

pub use admin::AdminError;
pub use metrics::Metrics;
pub use problems::Problem;
pub use proxies::{ConnectedProxy, Progress};

use context::Context;

/// A Dataplane with a few hundred inbounds and a CA certificate.
const MAX_BOOTSTRAP: usize = 1 << 20;

/// How health is asked for.
#[derive(Clone, Debug)]
pub struct HealthConfig {
    /// Whether proxies probe at all.
    pub enabled: bool,
    /// How often a proxy reports.
    pub interval: Duration,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self { enabled: true, interval: Duration::from_secs(5) }
    }
}

/// How proxies are served.
#[derive(Clone)]
pub struct DpServerConfig {
    /// Where to listen; port 0 for any free one.
    pub address: SocketAddr,
    /// Certificate and key.
    pub tls: Arc<rustls::ServerConfig>,
    /// Names and addresses in the certificate: a proxy that came by another name would not verify it.
    pub server_names: Vec<String>,
    /// The authority that proxies are to trust, PEM.
    pub ca_pem: String,
    /// Whether proxies need a dataplane token.
    pub token_required: bool,
    /// Name of this instance, in insights.
    pub instance: String,
    /// Name that proxies are to dial; the one they asked by where it is absent.
    pub xds_host: Option<String>,
    /// Port that proxies are to dial; the one listened on where it is absent.
    pub xds_port: Option<u16>,
    /// How long a proxy tries to connect.
    pub xds_connect_timeout: Duration,
    /// Where Envoys serve their admin endpoint over TCP.
    pub admin_address: IpAddr,
    /// The port of it, and of the listener that shows it to this control plane.
    pub admin_port: u16,
    /// Whether Envoys serve their admin endpoint on a socket in the agent's folder.
    pub admin_socket: bool,
    /// How long a proxy that left may stay away before its Dataplane is removed.
    pub deregistration_delay: Duration,
    /// How long after a refusal the proxy is asked again; each further time twice as long, up to
    /// [`MAX_NACK_BACKOFF`].
    pub nack_backoff: Duration,
    /// How often an idle connection of a proxy is asked for a sign of life, and how long that may take.
    pub keepalive: Duration,
    /// Whether other instances serve proxies from the same store: then streams that one of them serves are its own
    /// to end.
    pub shared_store: bool,
    /// How health is asked for.
    pub health: HealthConfig,
    /// For every proxy's configuration.
    pub settings: Settings,
    /// Where it is counted.
    pub metrics: Metrics,
}

/// Longest time after which a proxy is asked again for what it refused: a port that another process holds may be
/// free by then.
pub const MAX_NACK_BACKOFF: Duration = Duration::from_secs(300);

impl DpServerConfig {
    /// The defaults, with a certificate (PEM, leaf first) and what proxies are to trust.
    ///
    /// # Errors
    /// When the certificate cannot be read.
    pub fn new(
        address: SocketAddr,
        tls: Arc<rustls::ServerConfig>,
        certificate_pem: &str,
        ca_pem: &str,
        instance: &str,
    ) -> Result<Self, PkiError> {
        let certificate = CertificateInfo::parse(certificate_pem)?;
        let addresses = certificate.ip_addresses.iter().map(ToString::to_string);
        Ok(Self {
            address,
            tls,
            server_names: certificate.dns_names.iter().cloned().chain(addresses).collect(),
            ca_pem: ca_pem.into(),
            token_required: true,
            instance: instance.into(),
            xds_host: None,
            xds_port: None,
            xds_connect_timeout: Duration::from_secs(1),
            admin_address: Ipv4Addr::LOCALHOST.into(),
            admin_port: 9901,
            admin_socket: true,
            deregistration_delay: Duration::from_secs(10),
            nack_backoff: Duration::from_secs(5),
            keepalive: Duration::from_secs(15),
            shared_store: false,
            health: HealthConfig::default(),
            settings: Settings::default(),
            metrics: Metrics::default(),
        })
    }
}

/// Who gives proxies their identity.
pub trait Identities: Send + Sync {
    /// The identity of a proxy, if it is to have one.
    fn identity_of(&self, snapshot: &Snapshot, dataplane: &Resource) -> Option<Arc<Identity>>;

    /// Changes when an identity may have changed without a change of the snapshot.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// What the server stands on.
#[derive(Clone)]
pub struct Deps {
    /// Where registrations, insights and health are written.
    pub store: Store,
    /// Where configuration comes from.
    pub snapshots: SnapshotReceiver,
    /// Who gives proxies their identity.
    pub identities: Arc<dyn Identities>,
    /// This zone.
    pub plane: Plane,
}

/// A running server.
#[derive(Clone)]
pub struct Handle {
    context: Arc<Context>,
    address: SocketAddr,
}

impl Handle {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The proxies that have a configuration stream here, ordered by mesh and name.
    pub fn connected(&self) -> Vec<ConnectedProxy> {
        self.context.proxies.list()
    }

    /// What a connected proxy is to hold; what it does not hold yet is on its way.
    pub fn configuration(&self, dataplane: &Key) -> Option<Arc<ProxyConfig>> {
        self.context.proxies.get(dataplane)?.configuration()
    }
}

/// Starts to serve proxies.
///
/// # Errors
/// When the address cannot be listened on.
pub fn spawn(tasks: &Tasks, config: DpServerConfig, deps: Deps) -> Result<Handle, BindError> {
    let now = context::system_clock;
    let snapshot = Arc::clone(&deps.snapshots.borrow());
    let context = Arc::new(Context {
        credentials: credentials::Credentials::new(config.token_required, now),
        proxies: proxies::Proxies::default(),
        views: views::Views::new(deps.plane.zone().unwrap_or_default(), snapshot),
        admin: admin::Admin::new(now),
        turns: context::Turns::new(),
        generators: context::generators(),
        address: OnceLock::new(),
        tasks: tasks.clone(),
        now,
        config,
        deps,
    });
    let listener = serve::bind(context.config.address)?;
    let options = ServeOptions {
        keepalive_interval: context.config.keepalive,
        keepalive_timeout: context.config.keepalive,
        ..ServeOptions::tls(Arc::clone(&context.config.tls))
    };
    let address = serve::spawn(tasks, "dp-server", listener, router(&context), options)?;
    // Nobody else sets it.
    let _ = context.address.set(address);
    let (store, plane) = (Arc::clone(&context.deps.store), context.deps.plane.clone());
    tasks.spawn("admin authority", OnExit::Ignore, admin::ensure(store, plane, now));
    if !context.config.shared_store {
        let context = Arc::clone(&context);
        tasks.spawn("absent proxies", OnExit::Ignore, async move {
            absence::of_earlier_instances(&context).await;
        });
    }
    let following = Arc::clone(&context);
    let stop = tasks.token();
    tasks.spawn("mesh views", OnExit::Shutdown, async move {
        tokio::select! {
            () = following.views.follow(following.deps.snapshots.clone()) => {}
            () = stop.cancelled() => {}
        }
    });
    Ok(Handle { context, address })
}

fn router(context: &Arc<Context>) -> Router {
    let mut services = Routes::new(AggregatedDiscoveryServiceServer::new(ads::Ads(Arc::clone(context))));
    if context.config.health.enabled {
        services =
            services.add_service(HealthDiscoveryServiceServer::new(health::Health(Arc::clone(context))));
    }
    let bootstrap = Router::new()
        .route("/bootstrap", post(bootstrap::handle))
        .layer(DefaultBodyLimit::max(MAX_BOOTSTRAP))
        .with_state(Arc::clone(context));
    services.into_axum_router().merge(bootstrap)
}
