//! The KDS server: zones connect here, are identified by their token, receive what the global offers and send
//! what they have.

mod admin;
mod identify;
mod service;
mod zones;

use std::sync::Arc;

use anyhow::Context;
use kds::{MAX_MESSAGE, Outgoing, View};
use kds_proto::mesh::global_kds_service_server::GlobalKdsServiceServer;
use kds_proto::mesh::kds_sync_service_server::KdsSyncServiceServer;
use runtime::serve::ServeOptions;
use runtime::{OnExit, Tasks};
use store::Store;
use store::index::SnapshotReceiver;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::codec::CompressionEncoding;

pub use admin::{Admin, AdminError, ProxyName};
pub use identify::ZoneAuth;

/// What the KDS server stands on.
pub struct Deps {
    /// Where what arrives is written.
    pub store: Store,
    /// What is offered.
    pub snapshots: SnapshotReceiver,
    /// Who may connect.
    pub zone_auth: ZoneAuth,
    /// Name of this instance.
    pub instance: String,
    /// What is counted.
    pub metrics: kds::Metrics,
    /// Holds mass removals by zones back.
    pub guard: kds::Guard,
}

/// Serves KDS; answers the handle for questions to proxies.
///
/// # Errors
/// When the listener cannot be used.
pub fn spawn(
    tasks: &Tasks,
    deps: Deps,
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
) -> anyhow::Result<Arc<Admin>> {
    let outgoing = Outgoing::FromGlobal { public_key_of: identify::public_key_of };
    let (views, follow) = kds::view::follow(deps.snapshots.clone(), outgoing);
    tasks.spawn("kds views", OnExit::Shutdown, follow);
    let admin = Arc::new(Admin::default());
    let service = Arc::new(service::Service::new(tasks.clone(), deps, views, Arc::clone(&admin)));
    let sync = KdsSyncServiceServer::from_arc(Arc::clone(&service))
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let global = GlobalKdsServiceServer::from_arc(service)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(MAX_MESSAGE);
    let router = tonic::service::Routes::new(sync).add_service(global).prepare().into_axum_router();
    let options = ServeOptions { tls, ..ServeOptions::default() };
    runtime::serve::spawn(tasks, "kds", listener, router, options).context("kds.port")?;
    Ok(admin)
}

/// Views of the global, as streams receive them.
type Views = watch::Receiver<Arc<View>>;
