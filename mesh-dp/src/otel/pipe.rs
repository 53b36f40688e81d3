//! The socket on which Envoy hands spans and access logs over; each request goes on to the collector, and its answer
//! back to Envoy.

use std::io;
use std::path::Path;

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, async_trait};

use super::exporter::{Export, Exporter, ExporterError};
use crate::workdir::{self, SocketFile};

/// Where the signals of Envoy go; `None` for those that go nowhere.
#[derive(Clone)]
pub(super) struct Pipe {
    pub(super) traces: Option<Exporter>,
    pub(super) logs: Option<Exporter>,
}

/// Why nothing can be handed over.
#[derive(Debug, thiserror::Error)]
pub(super) enum PipeError {
    #[error("cannot make the socket {0}")]
    Socket(String, #[source] io::Error),
    #[error("the socket ended")]
    Server(#[from] tonic::transport::Error),
}

impl Pipe {
    /// Whether anything goes through.
    pub(super) fn is_open(&self) -> bool {
        self.traces.is_some() || self.logs.is_some()
    }

    /// Serves until it is dropped; then the socket is removed.
    pub(super) async fn serve(self, socket: &str) -> Result<(), PipeError> {
        let path = Path::new(socket);
        let failed = |error| PipeError::Socket(socket.to_owned(), error);
        workdir::remove(path).map_err(failed)?;
        let listener = UnixListener::bind(path).map_err(failed)?;
        let _file = SocketFile::new(path);
        tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(self.clone()))
            .add_service(LogsServiceServer::new(self))
            .serve_with_incoming(UnixListenerStream::new(listener))
            .await?;
        Ok(())
    }
}

async fn pass_on<R: Export>(exporter: Option<&Exporter>, request: R) -> Result<Response<R::Answer>, Status> {
    let exporter = exporter.ok_or_else(|| Status::unimplemented("no policy sends this signal"))?;
    match exporter.export(request).await {
        Ok(answer) => Ok(Response::new(answer)),
        Err(ExporterError::Refused(status)) => Err(*status),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "a signal of Envoy is lost");
            Err(Status::unavailable(error.to_string()))
        }
    }
}

#[async_trait]
impl TraceService for Pipe {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        pass_on(self.traces.as_ref(), request.into_inner()).await
    }
}

#[async_trait]
impl LogsService for Pipe {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        pass_on(self.logs.as_ref(), request.into_inner()).await
    }
}
