//! Starts what serves the zone's proxies: controllers, the issuer of identities, and the server they connect to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use control_plane::{Foundation, StoreBackend};
use model::labels::Plane;
use model::{Resource, Timestamp};
use proxy_config::Identity;
use store::Snapshot;
use store::index::SnapshotReceiver;
use tokio::sync::watch;

use crate::config::{Config, ProxyAuth};
use crate::controllers;
use crate::dp_server::{self, DpServerConfig, Handle, HealthConfig, Identities, Metrics};
use crate::identity::{Clock, Issuer};

impl Identities for Issuer {
    fn identity_of(&self, snapshot: &Snapshot, dataplane: &Resource) -> Option<Arc<Identity>> {
        Issuer::identity_of(self, snapshot, dataplane)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        Issuer::changes(self)
    }
}

/// Starts controllers, issuer and server.
///
/// # Errors
/// When the port is taken or has no usable certificate.
pub fn spawn(
    foundation: &mut Foundation,
    config: &Config,
    plane: &Plane,
    snapshots: &SnapshotReceiver,
    instance: &str,
    metrics: Metrics,
) -> anyhow::Result<Handle> {
    let clock: Clock = Arc::new(|| Timestamp::from_system(SystemTime::now()));
    let (store, tasks) = (&foundation.store, &foundation.tasks);
    let settings = controllers::Settings {
        plane: plane.clone(),
        vip_ranges: config.ipam.ranges()?,
        deletion_grace: config.mesh_service.deletion_grace_period.get(),
    };
    controllers::spawn(tasks, Arc::clone(store), snapshots.clone(), settings, Arc::clone(&clock));
    let issuer = Arc::new(Issuer::new(plane.zone().unwrap_or_default(), clock));
    issuer.spawn(tasks);
    let deps = dp_server::Deps {
        store: Arc::clone(store),
        snapshots: snapshots.clone(),
        identities: issuer,
        plane: plane.clone(),
    };
    let server = DpServerConfig { metrics, ..server(foundation, config, instance)? };
    let handle = dp_server::spawn(&foundation.tasks, server, deps).context("dpServer.port")?;
    foundation.port("dpServer", handle.address().port());
    Ok(handle)
}

fn server(foundation: &Foundation, config: &Config, instance: &str) -> anyhow::Result<DpServerConfig> {
    let section = &config.dp_server;
    let tls = foundation
        .tls("zone-cp", &section.tls)?
        .context("dpServer.tls.enabled: proxies and tokens need an encrypted port")?;
    let address = SocketAddr::new(section.address, section.port);
    let defaults = DpServerConfig::new(address, tls.config, &tls.certificate_pem, &tls.ca_pem, instance)?;
    if section.auth == ProxyAuth::None {
        tracing::warn!("dpServer.auth is none: whoever reaches its port can be any proxy");
    }
    Ok(DpServerConfig {
        token_required: section.auth == ProxyAuth::Token,
        xds_host: section.public_host.clone(),
        xds_port: section.public_port,
        admin_port: section.admin_port,
        shared_store: config.store.r#type == StoreBackend::Etcd,
        deregistration_delay: section.deregistration_delay.get(),
        health: HealthConfig { enabled: section.health_enabled, interval: section.health_interval.get() },
        ..defaults
    })
}
