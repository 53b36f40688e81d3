//! Asks a proxy's Envoy about itself: through its socket where it runs on this host, else through the listener that
//! asks for this control plane's certificate.

mod authority;
mod http;

use std::sync::Arc;

use bytes::Bytes;
use control_api::AdminQuery;
use model::spec::Dataplane;
use model::{Key, Resource};
use proxy_config::Metadata;
use tokio::net::{TcpStream, UnixStream};

pub(crate) use authority::{Admin, ensure};

use super::context::Context;

/// The socket that bootstraps name: nothing else on this host is opened because a proxy says so.
const SOCKET: &str = "/kuma-envoy-admin.sock";

/// Why a proxy gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No stream.
    #[error("{0} has no stream to this control plane")]
    NotConnected(Key),
    /// No way.
    #[error("the admin endpoint of {0} cannot be reached from here: {1}")]
    Unreachable(Key, String),
    /// An answer that is none.
    #[error("the admin endpoint of {0} answered {1}")]
    Answer(Key, String),
}

fn path(query: AdminQuery) -> &'static str {
    match query {
        AdminQuery::ConfigDump { include_eds: false } => "/config_dump",
        AdminQuery::ConfigDump { include_eds: true } => "/config_dump?include_eds=true",
        AdminQuery::Stats { json: false, used_only: false } => "/stats",
        AdminQuery::Stats { json: false, used_only: true } => "/stats?usedonly",
        AdminQuery::Stats { json: true, used_only: false } => "/stats?format=json",
        AdminQuery::Stats { json: true, used_only: true } => "/stats?format=json&usedonly",
        AdminQuery::Clusters { json: false } => "/clusters",
        AdminQuery::Clusters { json: true } => "/clusters?format=json",
    }
}

/// Asks a proxy that has a stream here.
pub(super) async fn ask(context: &Context, key: &Key, query: AdminQuery) -> Result<Bytes, AdminError> {
    let live = context.proxies.get(key).ok_or_else(|| AdminError::NotConnected(key.clone()))?;
    let metadata = Metadata::from_struct(&live.metadata);
    let is_local = live.peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback());
    let socket = metadata.admin_socket.as_deref().filter(|path| is_local && path.ends_with(SOCKET));
    let answer = |error: http::HttpError| AdminError::Answer(key.clone(), error.to_string());
    if let Some(socket) = socket
        && let Ok(stream) = UnixStream::connect(socket).await
    {
        return http::get(stream, path(query)).await.map_err(answer);
    }
    let unreachable = |reason: String| AdminError::Unreachable(key.clone(), reason);
    let snapshot = Arc::clone(&context.deps.snapshots.borrow());
    let dataplane = snapshot.resource(key).ok_or_else(|| unreachable("its Dataplane is gone".into()))?;
    let (address, port) = listener(dataplane, &metadata)
        .ok_or_else(|| unreachable("it tells no address and port of its admin endpoint".into()))?;
    let connector = context.admin.connector(&snapshot).map_err(unreachable)?;
    let refused = |error: std::io::Error| unreachable(format!("{address}:{port}: {error}"));
    let stream = http::in_time(TcpStream::connect((address, port))).await.map_err(refused)?;
    let name = rustls::pki_types::ServerName::from(address);
    let stream = http::in_time(connector.connect(name, stream)).await.map_err(refused)?;
    http::get(stream, path(query)).await.map_err(answer)
}

/// Where a proxy serves its admin endpoint to this control plane.
fn listener(dataplane: &Resource, metadata: &Metadata) -> Option<(std::net::IpAddr, u16)> {
    let networking = dataplane.spec::<Dataplane>().ok()?.networking.as_ref()?;
    let own = networking.admin.as_ref().map(|admin| admin.port).filter(|port| *port > 0);
    let port = own.or(metadata.admin_port)?;
    Some((networking.address.parse().ok()?, u16::try_from(port).ok()?))
}
