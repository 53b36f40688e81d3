//! Questions to proxies: they travel down the streams that zones keep open, and answers come back up.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use control_api::AdminQuery;
use kds_proto::mesh::{
    AdminOutputFormat, ClustersRequest, ClustersResponse, StatsRequest, StatsResponse, XdsConfigRequest,
    XdsConfigResponse, clusters_response, stats_response, xds_config_response,
};
use tokio::sync::{mpsc, oneshot};

use super::zones::Stream;

/// How long a zone may take to ask its proxy.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The stream on which a question travels.
fn stream_of(query: AdminQuery) -> Stream {
    match query {
        AdminQuery::ConfigDump { .. } => Stream::Config,
        AdminQuery::Stats { .. } => Stream::Stats,
        AdminQuery::Clusters { .. } => Stream::Clusters,
    }
}

/// A proxy as its zone knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyName {
    /// Its mesh.
    pub mesh: String,
    /// Its name in the zone.
    pub name: String,
}

/// A question on its way.
pub(super) struct Question {
    id: String,
    proxy: ProxyName,
    query: AdminQuery,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// The zone has no stream open.
    #[error("zone {0:?} is not connected")]
    Offline(String),
    /// The zone did not answer in time.
    #[error("zone {0:?} did not answer in 10 s")]
    Timeout(String),
    /// The zone could not ask its proxy.
    #[error("zone {zone:?} answers: {reason}")]
    Refused {
        /// The zone.
        zone: String,
        /// Why.
        reason: String,
    },
}

type Answer = Result<Bytes, String>;

#[derive(Default)]
struct State {
    links: BTreeMap<(String, Stream), mpsc::Sender<Question>>,
    waiting: BTreeMap<String, oneshot::Sender<Answer>>,
}

/// Carries questions to zones and answers back.
#[derive(Default)]
pub struct Admin(Mutex<State>);

impl Admin {
    /// Asks a proxy of a zone.
    ///
    /// # Errors
    /// When the zone is not connected, does not answer in time, or could not ask the proxy.
    pub async fn ask(&self, zone: &str, proxy: ProxyName, query: AdminQuery) -> Result<Bytes, AdminError> {
        let offline = || AdminError::Offline(zone.into());
        let link =
            self.lock().links.get(&(zone.to_owned(), stream_of(query))).cloned().ok_or_else(offline)?;
        let id = uuid::Uuid::new_v4().to_string();
        let (tx, rx) = oneshot::channel();
        self.lock().waiting.insert(id.clone(), tx);
        let _forget = Forget { admin: self, id: id.clone() };
        link.send(Question { id, proxy, query }).await.map_err(|_| offline())?;
        match tokio::time::timeout(TIMEOUT, rx).await {
            Ok(Ok(answer)) => answer.map_err(|reason| AdminError::Refused { zone: zone.into(), reason }),
            Ok(Err(_)) => Err(offline()),
            Err(_) => Err(AdminError::Timeout(zone.into())),
        }
    }

    /// A zone's newest stream for one kind of question.
    pub(super) fn link(&self, zone: &str, stream: Stream) -> mpsc::Receiver<Question> {
        let (tx, rx) = mpsc::channel(16);
        self.lock().links.insert((zone.into(), stream), tx);
        rx
    }

    /// Takes an answer. One that nobody waits for any more is dropped.
    pub(super) fn answered(&self, id: &str, answer: Answer) {
        if let Some(waiting) = self.lock().waiting.remove(id) {
            // The asker may be gone.
            let _ = waiting.send(answer);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a question off the list however its asker ends.
struct Forget<'a> {
    admin: &'a Admin,
    id: String,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.admin.lock().waiting.remove(&self.id);
    }
}

/// Kind of resource that is asked.
const DATAPLANE: &str = "Dataplane";

/// A message of one of the three streams.
pub(super) trait FromQuestion {
    fn from_question(question: Question) -> Self;
}

/// An answer of one of the three streams.
pub(super) trait IntoAnswer {
    fn into_answer(self) -> (String, Answer);
}

fn format(json: bool) -> i32 {
    let format = if json { AdminOutputFormat::Json } else { AdminOutputFormat::Text };
    format.into()
}

impl FromQuestion for XdsConfigRequest {
    fn from_question(Question { id, proxy, query }: Question) -> Self {
        Self {
            request_id: id,
            resource_type: DATAPLANE.into(),
            resource_name: proxy.name,
            resource_mesh: proxy.mesh,
            include_eds: matches!(query, AdminQuery::ConfigDump { include_eds: true }),
        }
    }
}

impl FromQuestion for StatsRequest {
    fn from_question(Question { id, proxy, query }: Question) -> Self {
        Self {
            request_id: id,
            resource_type: DATAPLANE.into(),
            resource_name: proxy.name,
            resource_mesh: proxy.mesh,
            format: format(matches!(query, AdminQuery::Stats { json: true, .. })),
            used_only: matches!(query, AdminQuery::Stats { used_only: true, .. }),
        }
    }
}

impl FromQuestion for ClustersRequest {
    fn from_question(Question { id, proxy, query }: Question) -> Self {
        Self {
            request_id: id,
            resource_type: DATAPLANE.into(),
            resource_name: proxy.name,
            resource_mesh: proxy.mesh,
            format: format(matches!(query, AdminQuery::Clusters { json: true })),
        }
    }
}

impl IntoAnswer for XdsConfigResponse {
    fn into_answer(self) -> (String, Answer) {
        let answer = match self.result {
            Some(xds_config_response::Result::Error(reason)) => Err(reason),
            Some(xds_config_response::Result::Config(config)) => Ok(config.into()),
            None => Ok(Bytes::new()),
        };
        (self.request_id, answer)
    }
}

impl IntoAnswer for StatsResponse {
    fn into_answer(self) -> (String, Answer) {
        let answer = match self.result {
            Some(stats_response::Result::Error(reason)) => Err(reason),
            Some(stats_response::Result::Stats(stats)) => Ok(stats.into()),
            None => Ok(Bytes::new()),
        };
        (self.request_id, answer)
    }
}

impl IntoAnswer for ClustersResponse {
    fn into_answer(self) -> (String, Answer) {
        let answer = match self.result {
            Some(clusters_response::Result::Error(reason)) => Err(reason),
            Some(clusters_response::Result::Clusters(clusters)) => Ok(clusters.into()),
            None => Ok(Bytes::new()),
        };
        (self.request_id, answer)
    }
}
