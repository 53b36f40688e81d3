//! Questions that the global asks about proxies of this zone.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kds_proto::mesh::{
    AdminOutputFormat, ClustersRequest, ClustersResponse, StatsRequest, StatsResponse, XdsConfigRequest,
    XdsConfigResponse, clusters_response, stats_response, xds_config_response,
};
use model::{Key, Kind};

/// How long a proxy may take; the global waits a little longer.
const TIMEOUT: Duration = Duration::from_secs(9);

/// What is asked of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Its configuration.
    Config {
        /// With endpoints.
        include_eds: bool,
    },
    /// Its statistics.
    Stats {
        /// As JSON.
        json: bool,
        /// Only those that were touched.
        used_only: bool,
    },
    /// Its upstream clusters.
    Clusters {
        /// As JSON.
        json: bool,
    },
}

/// Who asks proxies.
#[async_trait]
pub trait AskProxy: Send + Sync {
    /// Asks a proxy of this zone.
    async fn ask(&self, dataplane: &Key, question: Question) -> Result<Bytes, String>;
}

/// A request of one of the three streams, with its answer.
pub(super) trait Request {
    type Response: Send;

    fn question(&self) -> (Key, Question);
    fn respond(self, answer: Result<Bytes, String>) -> Self::Response;
}

/// Answers one request, exactly once and in time.
pub(super) async fn answer<R: Request>(proxies: &dyn AskProxy, request: R) -> R::Response {
    let (dataplane, question) = request.question();
    let asked = tokio::time::timeout(TIMEOUT, proxies.ask(&dataplane, question)).await;
    let late = || Err(format!("the proxy of {dataplane} did not answer in {} s", TIMEOUT.as_secs()));
    request.respond(asked.unwrap_or_else(|_| late()))
}

fn dataplane(mesh: &str, name: &str) -> Key {
    Key::new(Kind::DATAPLANE, mesh, name)
}

impl Request for XdsConfigRequest {
    type Response = XdsConfigResponse;

    fn question(&self) -> (Key, Question) {
        let question = Question::Config { include_eds: self.include_eds };
        (dataplane(&self.resource_mesh, &self.resource_name), question)
    }

    fn respond(self, answer: Result<Bytes, String>) -> XdsConfigResponse {
        use xds_config_response::Result::{Config, Error};
        let result = Some(answer.map_or_else(Error, |config| Config(config.into())));
        XdsConfigResponse { request_id: self.request_id, result }
    }
}

impl Request for StatsRequest {
    type Response = StatsResponse;

    fn question(&self) -> (Key, Question) {
        let question =
            Question::Stats { json: self.format() == AdminOutputFormat::Json, used_only: self.used_only };
        (dataplane(&self.resource_mesh, &self.resource_name), question)
    }

    fn respond(self, answer: Result<Bytes, String>) -> StatsResponse {
        use stats_response::Result::{Error, Stats};
        let result = Some(answer.map_or_else(Error, |stats| Stats(stats.into())));
        StatsResponse { request_id: self.request_id, result }
    }
}

impl Request for ClustersRequest {
    type Response = ClustersResponse;

    fn question(&self) -> (Key, Question) {
        let question = Question::Clusters { json: self.format() == AdminOutputFormat::Json };
        (dataplane(&self.resource_mesh, &self.resource_name), question)
    }

    fn respond(self, answer: Result<Bytes, String>) -> ClustersResponse {
        use clusters_response::Result::{Clusters, Error};
        let result = Some(answer.map_or_else(Error, |clusters| Clusters(clusters.into())));
        ClustersResponse { request_id: self.request_id, result }
    }
}
