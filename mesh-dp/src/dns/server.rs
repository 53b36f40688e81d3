//! The DNS port: UDP and TCP, and forwarding to the host's name server.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use runtime::serve::{self, BindError};
use runtime::{OnExit, Tasks};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};

use super::{Answer, Records, Transport, answer, server_failure};
use crate::metrics::{DnsAnswer, Metrics};

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// The port of name servers.
const DNS_PORT: u16 = 53;
/// Resolvers retry after five seconds (resolv.conf(5)): an answer after that is not waited for.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(5);
/// A TCP client that asks nothing for this long is cut off.
const IDLE: Duration = Duration::from_secs(30);
/// Pause after an accept error, which would otherwise be met again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Queries and TCP connections at a time. Each holds at most a datagram and a socket.
const MAX_IN_FLIGHT: usize = 512;
/// The largest datagram, and the largest message over TCP.
const MAX_MESSAGE: usize = 65_535;

#[derive(Debug, thiserror::Error)]
pub(crate) enum DnsError {
    #[error("cannot serve DNS")]
    Bind(#[from] BindError),
    #[error("cannot serve DNS over UDP on {address}: choose another --dns-port")]
    Udp { address: SocketAddr, source: io::Error },
    #[error("no name server to forward to: {RESOLV_CONF} names none, give --dns-upstream")]
    NoUpstream,
    #[error("the name server to forward to, {0}, is this DNS port itself: give --dns-upstream")]
    Loop(SocketAddr),
}

/// A bound DNS port.
#[derive(Debug)]
pub(crate) struct DnsServer {
    udp: Arc<UdpSocket>,
    tcp: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    records: watch::Receiver<Option<Records>>,
    upstream: SocketAddr,
    metrics: Metrics,
    slots: Arc<Semaphore>,
}

/// The first name server of the host.
pub(crate) fn system_upstream() -> Result<SocketAddr, DnsError> {
    first_name_server(Path::new(RESOLV_CONF)).ok_or(DnsError::NoUpstream)
}

fn first_name_server(resolv_conf: &Path) -> Option<SocketAddr> {
    let text = std::fs::read_to_string(resolv_conf).ok()?;
    let mut addresses = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        // An IPv6 address may carry a zone, which names an interface: not of use here.
        let address = (words.next() == Some("nameserver")).then(|| words.next()).flatten()?;
        address.parse::<IpAddr>().ok()
    });
    addresses.next().map(|address| SocketAddr::new(address, DNS_PORT))
}

impl DnsServer {
    pub(crate) async fn bind(
        address: SocketAddr,
        upstream: SocketAddr,
        records: watch::Receiver<Option<Records>>,
        metrics: Metrics,
    ) -> Result<Self, DnsError> {
        let tcp = serve::bind(address)?;
        let udp = |source| DnsError::Udp { address, source };
        let address = tcp.local_addr().map_err(udp)?;
        if address == upstream {
            return Err(DnsError::Loop(upstream));
        }
        let udp = UdpSocket::bind(address).await.map_err(udp)?;
        let slots = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
        let shared = Arc::new(Shared { records, upstream, metrics, slots });
        Ok(Self { udp: Arc::new(udp), tcp, address, shared })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until shutdown.
    pub(crate) fn spawn(self, tasks: &Tasks) {
        tracing::info!(address = %self.address, upstream = %self.shared.upstream, "serving DNS");
        let stop = tasks.token();
        let udp = serve_udp(self.udp, Arc::clone(&self.shared), tasks.clone());
        let tcp = serve_tcp(self.tcp, self.shared, tasks.clone());
        tasks.spawn("dns", OnExit::Shutdown, async move {
            tokio::select! {
                () = udp => {}
                () = tcp => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, shared: Arc<Shared>, tasks: Tasks) {
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        // An error belongs to an earlier answer: the client's port was closed.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        let query = buffer.get(..length).unwrap_or_default().to_vec();
        let Ok(slot) = Arc::clone(&shared.slots).acquire_owned().await else { return };
        let (socket, shared) = (Arc::clone(&socket), Arc::clone(&shared));
        tasks.spawn("dns query", OnExit::Ignore, async move {
            if let Some(reply) = shared.resolve(&query, Transport::Udp).await
                && let Err(error) = socket.send_to(&reply, client).await
            {
                tracing::debug!(%client, %error, "DNS answer not sent");
            }
            drop(slot);
        });
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>, tasks: Tasks) {
    loop {
        let Ok((stream, client)) = listener.accept().await else {
            // Out of file descriptors, as a rule: others have to end first.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(slot) = Arc::clone(&shared.slots).acquire_owned().await else { return };
        let (shared, stop) = (Arc::clone(&shared), tasks.token());
        tasks.spawn("dns connection", OnExit::Ignore, async move {
            let end = tokio::select! {
                end = shared.converse(stream) => end,
                () = stop.cancelled() => Ok(()),
            };
            if let Err(error) = end {
                tracing::debug!(%client, %error, "DNS connection ended");
            }
            drop(slot);
        });
    }
}

impl Shared {
    async fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let query = tokio::time::timeout(IDLE, read_message(&mut stream)).await??;
            let Some(reply) = self.resolve(&query, Transport::Tcp).await else { return Ok(()) };
            write_message(&mut stream, &reply).await?;
        }
    }

    async fn resolve(&self, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let answer = match &*self.records.borrow() {
            Some(records) => answer(records, query, transport),
            None => answer(&Records::default(), query, transport),
        };
        match answer {
            Answer::Reply(reply) => {
                self.metrics.dns(DnsAnswer::Mesh);
                Some(reply)
            }
            Answer::Drop => {
                self.metrics.dns(DnsAnswer::Failed);
                None
            }
            Answer::Forward => Some(self.forward(query, transport).await),
        }
    }

    async fn forward(&self, query: &[u8], transport: Transport) -> Vec<u8> {
        let exchange = async {
            match transport {
                Transport::Udp => forward_udp(query, self.upstream).await,
                Transport::Tcp => forward_tcp(query, self.upstream).await,
            }
        };
        let result = tokio::time::timeout(FORWARD_TIMEOUT, exchange).await;
        match result.unwrap_or_else(|late| Err(late.into())) {
            Ok(reply) => {
                self.metrics.dns(DnsAnswer::Forwarded);
                reply
            }
            Err(error) => {
                tracing::debug!(upstream = %self.upstream, %error, "DNS query not forwarded");
                self.metrics.dns(DnsAnswer::Failed);
                match server_failure(query) {
                    Answer::Reply(reply) => reply,
                    Answer::Forward | Answer::Drop => Vec::new(),
                }
            }
        }
    }
}

/// Asks from a port of its own, so that an answer cannot be guessed by knowing the port.
async fn forward_udp(query: &[u8], upstream: SocketAddr) -> io::Result<Vec<u8>> {
    let any: IpAddr = match upstream {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(upstream).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // The id has to be the query's: anything else is late or forged.
        if buffer.get(..2) == query.get(..2) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn forward_tcp(query: &[u8], upstream: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream).await?;
    write_message(&mut stream, query).await?;
    read_message(&mut stream).await
}

/// A message over TCP has its length in front (RFC 1035, section 4.2.2).
async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::Error::other("message too long"))?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    stream.write_all(&framed).await
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Message, ResponseCode};
    use hickory_proto::rr::RecordType;

    use super::*;
    use crate::dns::tests::{query, records};

    const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    async fn server(json: &str, upstream: SocketAddr, tasks: &Tasks) -> SocketAddr {
        let (tx, rx) = watch::channel(Some(records(json)));
        let server = DnsServer::bind(LOCAL, upstream, rx, Metrics::default()).await.unwrap();
        let address = server.address();
        server.spawn(tasks);
        drop(tx);
        address
    }

    async fn ask(address: SocketAddr, name: &str) -> [Message; 2] {
        let asked = query(name, RecordType::A);
        let udp = forward_udp(&asked, address).await.unwrap();
        let tcp = forward_tcp(&asked, address).await.unwrap();
        [udp, tcp].map(|bytes| Message::from_vec(&bytes).unwrap())
    }

    #[tokio::test]
    async fn mesh_names_are_answered_and_others_forwarded_over_udp_and_tcp() {
        let tasks = Tasks::new();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        // The name server of the first is the second, which fails to forward what it does not know.
        let second = server(r#"{"records":[{"name":"b.test","ips":["10.0.0.2"]}]}"#, nowhere, &tasks).await;
        let first = server(r#"{"records":[{"name":"a.mesh","ips":["10.0.0.1"]}]}"#, second, &tasks).await;
        for (name, address) in [("a.mesh.", "10.0.0.1"), ("b.test.", "10.0.0.2")] {
            for got in ask(first, name).await {
                assert_eq!(got.answers[0].data.to_string(), address);
            }
        }
        for got in ask(first, "c.test.").await {
            assert_eq!(got.metadata.response_code, ResponseCode::ServFail);
        }
        assert!(tasks.shutdown(Duration::from_secs(10)).await.is_empty());
    }

    #[tokio::test]
    async fn forwarding_to_itself_is_refused() {
        let free = serve::bind(LOCAL).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let (_tx, rx) = watch::channel(None);
        let error = DnsServer::bind(address, address, rx, Metrics::default()).await.unwrap_err();
        assert!(matches!(error, DnsError::Loop(_)), "{error}");
    }

    #[test]
    fn the_first_name_server_counts() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "# nameserver 9.9.9.9\nsearch a\nnameserver fe80::1%eth0\nnameserver 10.0.0.53\nnameserver 1.1.1.1\n";
        std::fs::write(file.path(), text).unwrap();
        assert_eq!(first_name_server(file.path()), Some(SocketAddr::from(([10, 0, 0, 53], 53))));
        assert_eq!(first_name_server(Path::new("/nonexistent")), None);
    }
}
