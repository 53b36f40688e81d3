//! Questions that the global asks about proxies of this zone.

use std::time::Duration;

use bytes::Bytes;
use control_api::{AdminQuery, ProxyInspector};
use kds_proto::mesh::{
    AdminOutputFormat, ClustersRequest, ClustersResponse, StatsRequest, StatsResponse, XdsConfigRequest,
    XdsConfigResponse, clusters_response, stats_response, xds_config_response,
};
use model::{Key, Kind};

/// How long a proxy may take; the global waits a little longer.
const TIMEOUT: Duration = Duration::from_secs(9);

/// A request of one of the three streams, with its answer.
pub(super) trait Request {
    type Response: Send;

    fn question(&self) -> (Key, AdminQuery);
    fn respond(self, answer: Result<Bytes, String>) -> Self::Response;
}

/// Answers one request, exactly once and in time.
pub(super) async fn answer<R: Request>(proxies: &dyn ProxyInspector, request: R) -> R::Response {
    let (dataplane, question) = request.question();
    let asked = tokio::time::timeout(TIMEOUT, proxies.admin(&dataplane, question)).await;
    let late = |_| Err(format!("the proxy of {dataplane} did not answer in {} s", TIMEOUT.as_secs()));
    request.respond(asked.map_or_else(late, |answer| answer.map_err(|error| error.to_string())))
}

fn dataplane(mesh: &str, name: &str) -> Key {
    Key::new(Kind::DATAPLANE, mesh, name)
}

impl Request for XdsConfigRequest {
    type Response = XdsConfigResponse;

    fn question(&self) -> (Key, AdminQuery) {
        let question = AdminQuery::ConfigDump { include_eds: self.include_eds };
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

    fn question(&self) -> (Key, AdminQuery) {
        let question =
            AdminQuery::Stats { json: self.format() == AdminOutputFormat::Json, used_only: self.used_only };
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

    fn question(&self) -> (Key, AdminQuery) {
        let question = AdminQuery::Clusters { json: self.format() == AdminOutputFormat::Json };
        (dataplane(&self.resource_mesh, &self.resource_name), question)
    }

    fn respond(self, answer: Result<Bytes, String>) -> ClustersResponse {
        use clusters_response::Result::{Clusters, Error};
        let result = Some(answer.map_or_else(Error, |clusters| Clusters(clusters.into())));
        ClustersResponse { request_id: self.request_id, result }
    }
}
