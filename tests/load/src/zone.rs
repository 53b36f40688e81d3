//! A zone that is played: it connects as a zone control plane does, holds names and versions of what it is sent,
//! acknowledges at once, and offers what a view gives it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use kds::{Everything, ServerSession, View};
use kds_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use kds_proto::envelope::Envelope;
use kds_proto::mesh::kds_sync_service_client::KdsSyncServiceClient;
use model::Kind;
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::CompressionEncoding;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use crate::board::Board;

/// Label whose value tells one version of a probe from another.
pub(crate) const MARKER: &str = "load/marker";
/// Beginning of the names of probes.
pub(crate) const PROBE: &str = "probe";
/// Between two attempts to connect: those who measure do not wait for a backoff.
const PAUSE: Duration = Duration::from_millis(20);
const QUEUE: usize = 16;

/// Which control plane the zone behaves like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Dialect {
    /// Ours: tells what it holds when it connects again.
    Isthmus,
    /// Kuma's: asks for everything again.
    Kuma,
}

/// What all zones of a run share.
pub(crate) struct Global {
    pub(crate) port: u16,
    pub(crate) ca: String,
    pub(crate) dialect: Dialect,
    names: Mutex<BTreeSet<Arc<str>>>,
}

impl Global {
    pub(crate) fn new(port: u16, ca: String, dialect: Dialect) -> Arc<Self> {
        Arc::new(Self { port, ca, dialect, names: Mutex::default() })
    }

    /// Names and versions are the same in many zones: one copy of each.
    fn intern(&self, text: &str) -> Arc<str> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = names.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        names.insert(Arc::clone(&new));
        new
    }
}

/// One played zone.
pub(crate) struct Zone {
    pub(crate) index: usize,
    pub(crate) name: String,
    pub(crate) token: String,
    pub(crate) global: Arc<Global>,
    pub(crate) board: Arc<Board>,
    /// What it offers.
    pub(crate) views: watch::Receiver<Arc<View>>,
}

type Client = KdsSyncServiceClient<Channel>;

impl Zone {
    /// Stays connected until it is aborted.
    pub(crate) async fn keep(self) {
        loop {
            let ended = self.connected().await;
            let reason = ended.map_or_else(|error| format!("ended: {error:#}"), |()| "was closed".to_owned());
            self.board.zone(self.index).ended = Some(reason);
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn connected(&self) -> anyhow::Result<()> {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.global.ca))
            .domain_name("localhost");
        let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{}", self.global.port))?;
        let channel = endpoint.tls_config(tls)?.tcp_nodelay(true).connect().await?;
        self.board.connected();
        let client = KdsSyncServiceClient::new(channel)
            .send_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(kds::MAX_MESSAGE)
            .max_encoding_message_size(kds::MAX_MESSAGE);
        {
            let mut zone = self.board.zone(self.index);
            (zone.answered, zone.ended) = (0, None);
        }
        tokio::select! {
            ended = self.receive(client.clone()) => ended,
            ended = self.offer(client) => ended,
        }
    }

    fn request<T>(&self, message: T) -> anyhow::Result<Request<T>> {
        let mut request = Request::new(message);
        let headers = request.metadata_mut();
        add(headers, "client-id", &self.name)?;
        add(headers, "features", "zone-ping-health")?;
        add(headers, "features", "hash-suffix")?;
        add(headers, "kds-version", "v3")?;
        add(headers, "authorization", &format!("Bearer {}", self.token))?;
        Ok(request)
    }

    /// Takes in what the global sends.
    async fn receive(&self, mut client: Client) -> anyhow::Result<()> {
        let node = self.node();
        let (tx, rx) = mpsc::channel(QUEUE);
        let ask = async {
            for kind in Kind::global_to_zone() {
                let request = DeltaDiscoveryRequest {
                    node: Some(node.clone()),
                    type_url: kind.name.into(),
                    resource_names_subscribe: vec!["*".into()],
                    initial_resource_versions: self.held(kind),
                    ..Default::default()
                };
                tx.send(request).await?;
            }
            Ok::<_, anyhow::Error>(())
        };
        let opened = self.request(ReceiverStream::new(rx))?;
        let open = async { Ok(client.global_to_zone_sync(opened).await?.into_inner()) };
        let (mut responses, ()) = tokio::try_join!(open, ask)?;
        while let Some(response) = responses.next().await {
            let response = response?;
            let answer = DeltaDiscoveryRequest {
                node: Some(kds_proto::core::Node { id: self.name.clone(), ..Default::default() }),
                type_url: response.type_url.clone(),
                response_nonce: response.nonce.clone(),
                ..Default::default()
            };
            self.take(&response)?;
            tx.send(answer).await?;
            self.board.step();
        }
        Ok(())
    }

    fn node(&self) -> kds_proto::core::Node {
        let mut node = kds::node(&self.name, env!("CARGO_PKG_VERSION"), &self.name, "{}");
        if self.global.dialect == Dialect::Kuma
            && let Some(metadata) = &mut node.metadata
        {
            // Without our features, the global treats it as any zone of Kuma's.
            metadata.fields.remove("features");
        }
        node
    }

    /// What it tells to hold already.
    fn held(&self, kind: Kind) -> std::collections::BTreeMap<String, String> {
        if self.global.dialect == Dialect::Kuma {
            return Default::default();
        }
        let zone = self.board.zone(self.index);
        let held = zone.held.get(&kind).into_iter().flatten();
        held.map(|(name, version)| (name.to_string(), version.to_string())).collect()
    }

    fn take(&self, response: &DeltaDiscoveryResponse) -> anyhow::Result<()> {
        let kind = Kind::by_name(&response.type_url).context("a response of an unknown kind")?;
        let mut marker = None;
        let mut taken = Vec::with_capacity(response.resources.len());
        for resource in &response.resources {
            if resource.name.starts_with(PROBE) {
                let envelope = Envelope::decode(resource.resource.as_ref())?;
                marker = marker.max(envelope.labels.get(MARKER).and_then(|value| value.parse::<u64>().ok()));
            }
            taken.push((self.global.intern(&resource.name), self.global.intern(&resource.version)));
        }
        let mut zone = self.board.zone(self.index);
        zone.bytes += response.encoded_len() as u64;
        zone.responses += 1;
        zone.answered += 1;
        let held = zone.held.entry(kind).or_default();
        held.extend(taken);
        let removed = response.removed_resources.iter().filter(|name| held.remove(name.as_str()).is_some());
        let removed = removed.count() as u64;
        zone.removed += removed;
        zone.marker = zone.marker.max(marker.unwrap_or_default());
        Ok(())
    }

    /// Offers what the zone has.
    async fn offer(&self, mut client: Client) -> anyhow::Result<()> {
        let (tx, rx) = mpsc::channel(QUEUE);
        let opened = self.request(ReceiverStream::new(rx))?;
        let requests = client.zone_to_global_sync(opened).await?.into_inner();
        let mut views = self.views.clone();
        let view = views.borrow_and_update().clone();
        let session = ServerSession::new(&self.name, view, Box::new(Everything));
        let report = |session: &ServerSession| {
            let mut zone = self.board.zone(self.index);
            for (kind, counters) in session.counters() {
                // The empty answer to the first request does not count.
                let all = counters.sent.saturating_sub(1);
                zone.offered.insert(*kind, (counters.sent == counters.acknowledged, all));
            }
            drop(zone);
            self.board.step();
        };
        kds::serve(session, views, requests, tx, report).await.map_err(|status: Status| status.into())
    }
}

fn add(headers: &mut MetadataMap, name: &'static str, value: &str) -> anyhow::Result<()> {
    let value: MetadataValue<Ascii> = value.parse().with_context(|| format!("the header {name}"))?;
    headers.append(name, value);
    Ok(())
}
