//! Puts a zone control plane together and runs it.

use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use control_api::{Api, BuildInfo, ProxyInspector, StoredProxies};
use control_plane::{Foundation, Parts, ServerTls};
use model::labels::Plane;
use model::{Labels, Timestamp, validation};
use prometheus_client::registry::Registry;
use runtime::OnExit;
use runtime::tls::Trust;
use store::index::SnapshotReceiver;

use crate::cli::RunArgs;
use crate::config::{Config, ZoneConfig};
use crate::{dp_server, kds, proxies, setup};

/// Prefix of metrics.
const METRICS: &str = "isthmus_zone";
/// Config resource with the organisation's id; a federated zone has it from the global.
const CLUSTER_ID: &str = "kuma-cluster-id";
/// File in the data folder with the administrator's token.
const ADMIN_TOKEN_FILE: &str = "admin-token";

/// Runs the zone control plane until it is told to stop.
///
/// # Errors
/// When something it needs cannot be had, or a vital part of it ends.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    let Some(config) = control_plane::configuration::<Config>(&args.common, args.flags())? else {
        return Ok(());
    };
    let name = &config.zone.name;
    if name.len() > 63 || !validation::is_dns1035_label(name) {
        anyhow::bail!(
            "zone.name: {name:?} is no zone name: lower-case letters, digits and '-', starting with a letter"
        );
    }
    let telemetry = runtime::telemetry::init(&config.telemetry, "zone-cp")?;
    let ended = serve(&args, config).await;
    telemetry.shutdown().await;
    ended
}

fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}

async fn serve(args: &RunArgs, config: Config) -> anyhow::Result<()> {
    let mut metrics = Registry::with_prefix(METRICS);
    let kds_metrics = ::kds::Metrics::new(&mut metrics);
    let guard = ::kds::Guard::new(config.zone.removal_guard, &mut metrics);
    let api_metrics = control_api::Metrics::new(&mut metrics);
    let link_metrics = kds::LinkMetrics::new(&mut metrics);
    let proxy_metrics = dp_server::Metrics::new(&mut metrics);
    let mut foundation = Foundation::open(Parts {
        name: "zone-cp",
        data_dir: config.data_dir.as_deref(),
        store: &config.store,
        diagnostics: (!args.common.api_only).then_some(&config.diagnostics),
        metrics,
    })
    .await?;
    if let Some(file) = &args.common.preload {
        control_api::preload(&foundation.store, file).await?;
    }
    let federated = !config.zone.global_address.is_empty();
    let plane = Plane::Zone { name: config.zone.name.clone(), federated };
    let mut build = BuildInfo {
        version: env!("CARGO_PKG_VERSION").into(),
        instance_id: runtime::instance_id(),
        cluster_id: String::new(),
    };
    if args.common.api_only {
        let snapshots = foundation.index().await?;
        let proxies = StoredProxies::new(snapshots.clone(), &*config.zone.name);
        let proxies = Arc::new(proxies);
        let served = Served { plane, build, proxies, guard, metrics: api_metrics };
        return api(foundation, config, snapshots, served, None).await;
    }
    setup::only_zone(&foundation.store, &plane, now()).await?;
    let store_id = setup::store_id(&foundation.store, now()).await?;
    if !federated {
        build.cluster_id =
            control_plane::stored_id(&foundation.store, CLUSTER_ID, &Labels::new(), now()).await?;
    }
    let token = control_api::defaults::ensure(&foundation.store, &plane, &config.defaults).await?;
    if let Some(token) = token {
        foundation.write_private(ADMIN_TOKEN_FILE, &token)?;
    }
    let snapshots = foundation.index().await?;
    let instance = &build.instance_id;
    let served = proxies::spawn(&mut foundation, &config, &plane, &snapshots, instance, proxy_metrics)?;
    let proxies: Arc<dyn ProxyInspector> = Arc::new(served);
    if federated {
        let link = link(&config, &build.instance_id, store_id)?;
        let deps = kds::Deps {
            store: Arc::clone(&foundation.store),
            snapshots: snapshots.clone(),
            proxies: Arc::clone(&proxies),
            metrics: kds_metrics,
            guard: guard.clone(),
        };
        let states = kds::spawn(&foundation.tasks, link, deps);
        foundation.tasks.spawn("link metrics", OnExit::Ignore, link_metrics.follow(states));
    }
    let tls = foundation.tls("zone-cp", &config.dp_server.tls)?;
    let served = Served { plane, build, proxies, guard, metrics: api_metrics };
    api(foundation, config, snapshots, served, tls).await
}

fn link(config: &Config, instance: &str, store_id: String) -> anyhow::Result<kds::Link> {
    let zone = &config.zone;
    let token = match (&zone.token_file, zone.token.is_empty()) {
        (Some(_), false) => anyhow::bail!("zone.token and zone.tokenFile exclude each other"),
        (Some(file), true) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("zone.tokenFile: cannot read {}", file.display()))?;
            Some(text.trim().into())
        }
        (None, false) => Some(zone.token.clone()),
        (None, true) => None,
    };
    let address: kds::GlobalAddress = zone.global_address.parse().context("zone.globalAddress")?;
    if !address.is_tls() {
        tracing::warn!(global = %address, "the connection to the global is not encrypted: use grpcs://");
    }
    Ok(kds::Link {
        address,
        trust: trust(zone)?,
        zone: zone.name.clone(),
        token,
        config: serde_json::to_string(config)?,
        instance: instance.into(),
        store_id,
    })
}

fn trust(zone: &ZoneConfig) -> anyhow::Result<Trust> {
    Ok(match (&zone.global_ca_file, zone.global_ca_fingerprint.as_str(), zone.global_skip_verify) {
        (None, "", false) => Trust::System,
        (Some(file), "", false) => Trust::CaFile(file.clone()),
        (None, pin, false) => Trust::Fingerprint(pin.parse().context("zone.globalCaFingerprint")?),
        (None, "", true) => Trust::SkipVerify,
        _ => anyhow::bail!(
            "zone.globalCaFile, zone.globalCaFingerprint and zone.globalSkipVerify exclude each other"
        ),
    })
}

/// What the API answers for.
struct Served {
    plane: Plane,
    build: BuildInfo,
    proxies: Arc<dyn ProxyInspector>,
    guard: ::kds::Guard,
    metrics: control_api::Metrics,
}

/// Serves the API and runs until stopped. Without TLS the API is all there is.
async fn api(
    mut foundation: Foundation,
    config: Config,
    snapshots: SnapshotReceiver,
    served: Served,
    tls: Option<ServerTls>,
) -> anyhow::Result<()> {
    let mesh_defaults = tls.is_some() && !served.plane.is_federated_zone();
    let Served { plane, build, proxies, guard, metrics } = served;
    let api = Api {
        store: Arc::clone(&foundation.store),
        snapshots,
        plane,
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
