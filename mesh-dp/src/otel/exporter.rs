//! Sends what OTLP calls export requests, over gRPC or HTTP.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HOST};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use runtime::tls::{TlsError, Trust, client_config};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::metadata::{MetadataKey, MetadataValue};
use tonic::transport::{Channel, Endpoint};

use super::destination::Destination;
use crate::admin::{self, AdminError, Answer};

/// One request with its answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a request is not exported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExporterError {
    #[error("{0}")]
    Address(String),
    #[error("cannot set up TLS to the collector")]
    Tls(#[from] TlsError),
    #[error("the address of the collector cannot be used")]
    Transport(#[from] tonic::transport::Error),
    #[error("the collector refuses: {} ({})", .0.message(), .0.code())]
    Refused(#[source] Box<tonic::Status>),
    #[error("cannot connect to the collector")]
    Connect(#[from] std::io::Error),
    #[error("the request cannot be made")]
    Request(#[from] http::Error),
    #[error(transparent)]
    Http(#[from] AdminError),
    #[error("the collector answers with {0}")]
    Status(StatusCode),
    #[error("the collector does not answer in time")]
    Timeout,
}

/// A request of a service of OTLP.
pub(crate) trait Export: Message + Default + 'static {
    /// What is answered.
    type Answer: Message + Default + 'static;
    /// Path of the call of gRPC.
    const CALL: &'static str;
}

impl Export for ExportTraceServiceRequest {
    type Answer = ExportTraceServiceResponse;
    const CALL: &'static str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
}

impl Export for ExportLogsServiceRequest {
    type Answer = ExportLogsServiceResponse;
    const CALL: &'static str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
}

impl Export for ExportMetricsServiceRequest {
    type Answer = ExportMetricsServiceResponse;
    const CALL: &'static str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
}

/// The way to one collector for one signal.
#[derive(Clone)]
pub(crate) struct Exporter {
    way: Way,
    headers: Vec<(String, String)>,
}

#[derive(Clone)]
enum Way {
    Grpc(Channel),
    Http { destination: Destination, path: String, tls: Option<TlsConnector> },
}

impl Exporter {
    /// Connects when there is something to send.
    pub(crate) fn new(destination: &Destination) -> Result<Self, ExporterError> {
        let tls = if destination.tls { Some(client_config(&Trust::System, None)?) } else { None };
        let way = match &destination.path {
            Some(path) => {
                let tls = tls.map(|config| TlsConnector::from(Arc::new(config)));
                Way::Http { destination: destination.clone(), path: path.clone(), tls }
            }
            None => Way::Grpc(channel(destination, tls)?),
        };
        Ok(Self { way, headers: destination.headers.clone() })
    }

    /// Sends one request.
    pub(crate) async fn export<R: Export>(&self, request: R) -> Result<R::Answer, ExporterError> {
        let sent = async {
            match &self.way {
                Way::Grpc(channel) => self.call(channel.clone(), request).await,
                Way::Http { destination, path, tls } => {
                    let answer = self.post(destination, path, tls.as_ref(), &request).await?;
                    if !answer.status.is_success() {
                        return Err(ExporterError::Status(answer.status));
                    }
                    Ok(R::Answer::decode(answer.body).unwrap_or_default())
                }
            }
        };
        tokio::time::timeout(TIMEOUT, sent).await.unwrap_or(Err(ExporterError::Timeout))
    }

    async fn call<R: Export>(&self, channel: Channel, request: R) -> Result<R::Answer, ExporterError> {
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await?;
        let mut request = tonic::Request::new(request);
        for (name, value) in &self.headers {
            let name = MetadataKey::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, MetadataValue::try_from(value)) {
                request.metadata_mut().insert(name, value);
            }
        }
        let codec = tonic_prost::ProstCodec::<R, R::Answer>::default();
        let path = PathAndQuery::from_static(R::CALL);
        let answer = client.unary(request, path, codec).await;
        answer.map(tonic::Response::into_inner).map_err(|status| ExporterError::Refused(Box::new(status)))
    }

    async fn post(
        &self,
        destination: &Destination,
        path: &str,
        tls: Option<&TlsConnector>,
        message: &impl Message,
    ) -> Result<Answer, ExporterError> {
        let mut request = Request::post(path)
            .header(HOST, destination.authority.as_str())
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(Full::new(Bytes::from(message.encode_to_vec())))?;
        for (name, value) in &self.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                request.headers_mut().insert(name, value);
            }
        }
        let tcp = TcpStream::connect(destination.host_and_port()).await?;
        match tls {
            None => Ok(admin::converse(tcp, request).await?),
            Some(tls) => {
                let (host, _) = destination.host_and_port();
                let name = ServerName::try_from(host.to_owned())
                    .map_err(|_| ExporterError::Address(format!("{host:?} is no name of a server")))?;
                Ok(admin::converse(tls.connect(name, tcp).await?, request).await?)
            }
        }
    }
}

/// A channel that connects when it is used, and again after a loss.
fn channel(destination: &Destination, tls: Option<rustls::ClientConfig>) -> Result<Channel, ExporterError> {
    let endpoint =
        Endpoint::from_shared(format!("http://{}", destination.authority))?.connect_timeout(TIMEOUT);
    let Some(mut config) = tls else { return Ok(endpoint.connect_lazy()) };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let destination = destination.clone();
    let connect = tower::service_fn(move |_: http::Uri| {
        let (connector, destination) = (connector.clone(), destination.clone());
        async move {
            let (host, port) = destination.host_and_port();
            let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
            let tcp = TcpStream::connect((host, port)).await?;
            let stream = connector.connect(name, tcp).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    });
    Ok(endpoint.connect_with_connector_lazy(connect))
}
