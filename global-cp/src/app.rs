//! Puts the global control plane together and runs it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use control_api::{Api, BuildInfo, NoProxies, ProxyInspector};
use control_plane::{Foundation, Parts, ServerTls};
use model::labels::Plane;
use model::{Labels, Timestamp};
use prometheus_client::registry::Registry;
use store::index::SnapshotReceiver;

use crate::cli::RunArgs;
use crate::config::Config;
use crate::inspect::ThroughZones;
use crate::kds;

/// Prefix of metrics.
const METRICS: &str = "isthmus_global";
/// Config resource with the organisation's id; zones share it.
const CLUSTER_ID: &str = "kuma-cluster-id";
/// File in the data folder with the administrator's token.
const ADMIN_TOKEN_FILE: &str = "admin-token";

/// Runs the global control plane until it is told to stop.
///
/// # Errors
/// When something it needs cannot be had, or a vital part of it ends.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    let Some(config) = control_plane::configuration::<Config>(&args.common, args.flags())? else {
        return Ok(());
    };
    let telemetry = runtime::telemetry::init(&config.telemetry, "global-cp")?;
    let ended = serve(&args, config).await;
    telemetry.shutdown().await;
    ended
}

async fn serve(args: &RunArgs, config: Config) -> anyhow::Result<()> {
    let mut metrics = Registry::with_prefix(METRICS);
    let kds_metrics = ::kds::Metrics::new(&mut metrics);
    let guard = ::kds::Guard::new(config.kds.removal_guard, &mut metrics);
    let api_metrics = control_api::Metrics::new(&mut metrics);
    let mut foundation = Foundation::open(Parts {
        name: "global-cp",
        data_dir: config.data_dir.as_deref(),
        store: &config.store,
        diagnostics: (!args.common.api_only).then_some(&config.diagnostics),
        metrics,
    })
    .await?;
    if let Some(file) = &args.common.preload {
        control_api::preload(&foundation.store, file).await?;
    }
    let build = BuildInfo {
        version: env!("CARGO_PKG_VERSION").into(),
        instance_id: runtime::instance_id(),
        cluster_id: cluster_id(args, &foundation).await?,
    };
    if args.common.api_only {
        let snapshots = foundation.index().await?;
        let served = Served { build, proxies: Arc::new(NoProxies), tls: None, guard, metrics: api_metrics };
        return api(foundation, config, snapshots, served, false).await;
    }
    let token = control_api::defaults::ensure(&foundation.store, &Plane::Global, &config.defaults).await?;
    if let Some(token) = token {
        foundation.write_private(ADMIN_TOKEN_FILE, &token)?;
    }
    let snapshots = foundation.index().await?;
    let tls = foundation.tls("global-cp", &config.kds.tls)?;
    let listener =
        runtime::serve::bind(SocketAddr::new(config.kds.address, config.kds.port)).context("kds.port")?;
    foundation.port("kds", listener.local_addr()?.port());
    if config.kds.zone_auth == kds::ZoneAuth::None {
        tracing::warn!("kds.zoneAuth is none: whoever reaches the KDS port can be any zone");
    }
    let deps = kds::Deps {
        store: Arc::clone(&foundation.store),
        snapshots: snapshots.clone(),
        zone_auth: config.kds.zone_auth,
        instance: build.instance_id.clone(),
        metrics: kds_metrics,
        guard: guard.clone(),
    };
    let kds_tls = tls.as_ref().map(|tls| Arc::clone(&tls.config));
    let admin = kds::spawn(&foundation.tasks, deps, listener, kds_tls)?;
    let proxies = Arc::new(ThroughZones::new(admin, snapshots.clone()));
    let served = Served { build, proxies, tls, guard, metrics: api_metrics };
    api(foundation, config, snapshots, served, true).await
}

async fn cluster_id(args: &RunArgs, foundation: &Foundation) -> anyhow::Result<String> {
    if args.common.api_only {
        return Ok(String::new());
    }
    let now = Timestamp::from_system(SystemTime::now());
    control_plane::stored_id(&foundation.store, CLUSTER_ID, &Labels::new(), now).await
}

/// What the API answers for.
struct Served {
    build: BuildInfo,
    proxies: Arc<dyn ProxyInspector>,
    tls: Option<ServerTls>,
    guard: ::kds::Guard,
    metrics: control_api::Metrics,
}

/// Serves the API and runs until stopped.
async fn api(
    mut foundation: Foundation,
    config: Config,
    snapshots: SnapshotReceiver,
    served: Served,
    mesh_defaults: bool,
) -> anyhow::Result<()> {
    let Served { build, proxies, tls, guard, metrics } = served;
    let api = Api {
        store: Arc::clone(&foundation.store),
        snapshots,
        plane: Plane::Global,
        build,
        proxies,
        config_json: serde_json::to_value(&config)?,
        tls: tls.map(|tls| tls.config),
        mesh_defaults,
        guard,
        metrics,
    };
    let handle = control_api::spawn(&foundation.tasks, config.api, api)?;
    foundation.port("api", handle.http.port());
    if let Some(https) = handle.https {
        foundation.port("apiTls", https.port());
    }
    foundation.run_until_stopped().await
}
