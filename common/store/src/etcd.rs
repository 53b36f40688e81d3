//! The etcd backend (v3 API, 3.4 and newer). Keys are `<prefix>/<kind>/<mesh>/<name>`, revisions are etcd's own.

mod errors;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backon::{ExponentialBuilder, Retryable};
use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, GetOptions, Identity, TlsOptions, Txn, TxnOp,
    TxnOpResponse,
};
use model::{Key, Kind};

use self::errors::{Failure, classify};
use crate::contract::{Backend, Expect, Op, Page, Revision, StoreError, Stored, WatchStream};
use crate::record;

/// How to reach etcd.
#[derive(Clone, Debug, Default)]
pub struct EtcdConfig {
    /// For example `http://127.0.0.1:2379`.
    pub endpoints: Vec<String>,
    /// In front of every key, without a slash at its end.
    pub prefix: String,
    /// User and password.
    pub auth: Option<(String, String)>,
    /// Authority of the servers, PEM; TLS with the system's roots where the endpoints say `https`.
    pub ca_pem: Option<Vec<u8>>,
    /// Certificate and key to present, PEM.
    pub identity_pem: Option<(Vec<u8>, Vec<u8>)>,
}

/// Longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Most operations etcd takes in one transaction by default; a commit is one transaction.
const MAX_OPS: usize = 128;
/// Most resources read at a time: at 1.5 MiB a value's limit and a few KiB in practice, an answer stays under the
/// client's 4 MiB only with small pages.
const MAX_PAGE: usize = 500;

/// Keeps resources in etcd.
pub struct EtcdStore {
    client: Client,
    prefix: String,
}

impl EtcdStore {
    /// Connects and makes a first call, because the client itself connects lazily.
    ///
    /// # Errors
    /// When etcd cannot be reached or refuses.
    pub async fn connect(config: &EtcdConfig) -> Result<Self, StoreError> {
        let mut options = ConnectOptions::new()
            .with_timeout(TIMEOUT)
            .with_connect_timeout(TIMEOUT)
            .with_keep_alive(Duration::from_secs(10), Duration::from_secs(5))
            .with_keep_alive_while_idle(true);
        if let Some((user, password)) = &config.auth {
            options = options.with_user(user, password).with_auto_token_refresh(true);
        }
        if config.ca_pem.is_some() || config.identity_pem.is_some() {
            let mut tls = TlsOptions::new();
            if let Some(ca) = &config.ca_pem {
                tls = tls.ca_certificate(Certificate::from_pem(ca));
            }
            if let Some((cert, key)) = &config.identity_pem {
                tls = tls.identity(Identity::from_pem(cert, key));
            }
            options = options.with_tls(tls);
        }
        let client = Client::connect(&config.endpoints, Some(options))
            .await
            .map_err(|error| classify(&error).into_store())?;
        let store = Self { client, prefix: config.prefix.trim_end_matches('/').into() };
        store
            .client
            .kv_client()
            .get(store.path_of("probe"), None)
            .await
            .map_err(|error| classify(&error).into_store())?;
        Ok(store)
    }

    fn path_of(&self, text: &str) -> String {
        format!("{}/{text}", self.prefix)
    }

    fn path(&self, key: &Key) -> String {
        self.path_of(&record::key_text(key))
    }

    fn key_at(&self, path: &[u8]) -> Option<Key> {
        let text = std::str::from_utf8(path).ok()?;
        record::parse_key(text.strip_prefix(&self.prefix)?.strip_prefix('/')?)
    }

    fn stored(&self, pair: &etcd_client::KeyValue) -> Result<Stored, StoreError> {
        let corrupt =
            |reason: String| StoreError::Corrupt { key: String::from_utf8_lossy(pair.key()).into(), reason };
        let key = self.key_at(pair.key()).ok_or_else(|| corrupt("no known kind".into()))?;
        let resource = record::decode(key, pair.value()).map_err(|error| corrupt(error.to_string()))?;
        Ok(Stored { resource: Arc::new(resource), revision: revision(pair.mod_revision()) })
    }

    fn transaction(&self, ops: &[Op], write_id: &str) -> Txn {
        let compares = ops.iter().filter_map(|op| {
            let path = self.path(op.key());
            match op.expect() {
                Expect::Any => None,
                Expect::Absent => Some(Compare::create_revision(path, CompareOp::Equal, 0)),
                Expect::At(Revision(at)) => {
                    Some(Compare::mod_revision(path, CompareOp::Equal, at.cast_signed()))
                }
            }
        });
        let writes = ops.iter().map(|op| match op {
            Op::Put(resource, _) => {
                TxnOp::put(self.path(resource.key()), record::encode(resource, write_id), None)
            }
            Op::Delete(key, _) => TxnOp::delete(self.path(key), None),
        });
        // Where the comparison fails, the answer shows what is there instead.
        let reads = ops.iter().map(|op| TxnOp::get(self.path(op.key()), None));
        Txn::new()
            .when(compares.collect::<Vec<_>>())
            .and_then(writes.collect::<Vec<_>>())
            .or_else(reads.collect::<Vec<_>>())
    }

    /// Writes once more after an answer that was lost: if the comparison now fails because our own write is
    /// there, it had succeeded.
    async fn attempt(&self, ops: &[Op], write_id: &str, lost_before: bool) -> Result<Revision, Failure> {
        let answer =
            self.client.kv_client().txn(self.transaction(ops, write_id)).await.map_err(|e| classify(&e))?;
        let at = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
        if answer.succeeded() {
            return Ok(revision(at));
        }
        let mut found = Vec::new();
        for response in answer.op_responses() {
            if let TxnOpResponse::Get(get) = response {
                found.push(
                    get.kvs().first().map(|pair| (pair.mod_revision(), record::write_id(pair.value()))),
                );
            }
        }
        if lost_before && is_ours(ops, &found, write_id) {
            let newest = found.iter().flatten().map(|(at, _)| *at).max().unwrap_or(at);
            return Ok(revision(newest));
        }
        let wrong =
            ops.iter().zip(&found).find(|(op, found)| !holds(op.expect(), found.as_ref().map(|(at, _)| *at)));
        let key =
            wrong.map_or_else(|| ops.first().map(|op| op.key().clone()), |(op, _)| Some(op.key().clone()));
        Err(match key {
            Some(key) => Failure::Known(StoreError::Conflict { key }),
            None => Failure::Known(StoreError::Refused { reason: "an empty commit failed".into() }),
        })
    }
}

fn holds(expect: Expect, found: Option<i64>) -> bool {
    match expect {
        Expect::Any => true,
        Expect::Absent => found.is_none(),
        Expect::At(at) => found.map(revision) == Some(at),
    }
}

/// Whether every key is as our write would have left it.
fn is_ours(ops: &[Op], found: &[Option<(i64, Option<String>)>], write_id: &str) -> bool {
    ops.len() == found.len()
        && ops.iter().zip(found).all(|(op, found)| match (op, found) {
            (Op::Put(..), Some((_, Some(id)))) => id == write_id,
            (Op::Delete(..), None) => true,
            _ => false,
        })
}

fn revision(number: i64) -> Revision {
    Revision(number.unsigned_abs())
}

#[async_trait]
impl Backend for EtcdStore {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, StoreError> {
        let read = || async { self.client.kv_client().get(self.path(key), None).await };
        let answer = read.retry(backoff()).when(|error| classify(error).is_passing()).await;
        let answer = answer.map_err(|error| classify(&error).into_store())?;
        answer.kvs().first().map(|pair| self.stored(pair)).transpose()
    }

    async fn list(
        &self,
        kind: Kind,
        mesh: Option<&str>,
        start: Option<&Key>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let scope = mesh.map_or_else(
            || self.path_of(&format!("{kind}/")),
            |mesh| self.path_of(&format!("{kind}/{mesh}/")),
        );
        let from = start.map_or_else(|| scope.clone(), |key| self.path(key));
        let limit = limit.min(MAX_PAGE);
        let read = || async {
            let options = GetOptions::new().with_range(end_of(&scope)).with_limit(limit as i64 + 1);
            self.client.kv_client().get(from.clone(), Some(options)).await
        };
        let answer = read.retry(backoff()).when(|error| classify(error).is_passing()).await;
        let answer = answer.map_err(|error| classify(&error).into_store())?;
        let mut items = Vec::new();
        for pair in answer.kvs().iter().take(limit) {
            match self.stored(pair) {
                Ok(stored) => items.push(stored),
                // One bad record stops nothing.
                Err(error) => tracing::error!(%error, "a record is left out"),
            }
        }
        let next = answer.kvs().get(limit).and_then(|pair| self.key_at(pair.key()));
        let at = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
        Ok(Page { items, revision: revision(at), next })
    }

    async fn commit(&self, ops: Vec<Op>) -> Result<Revision, StoreError> {
        if ops.len() > MAX_OPS {
            return Err(StoreError::Refused {
                reason: format!("{} writes in one commit, at most {MAX_OPS}", ops.len()),
            });
        }
        let write_id = uuid::Uuid::new_v4().to_string();
        let lost = std::sync::atomic::AtomicBool::new(false);
        let write = || async {
            let before = lost.load(std::sync::atomic::Ordering::Relaxed);
            let result = self.attempt(&ops, &write_id, before).await;
            if matches!(result, Err(Failure::Passing(_))) {
                lost.store(true, std::sync::atomic::Ordering::Relaxed);
            }
            result
        };
        write.retry(backoff()).when(Failure::is_passing).await.map_err(Failure::into_store)
    }

    async fn watch(&self, after: Revision) -> Result<WatchStream, StoreError> {
        watch::start(self.client.watch_client(), self.prefix.clone(), after).await
    }

    fn name(&self) -> &'static str {
        "etcd"
    }
}

/// A few quick tries: longer absences are answered to the caller, who knows whether to wait.
fn backoff() -> ExponentialBuilder {
    ExponentialBuilder::default().with_min_delay(Duration::from_millis(50)).with_max_times(4).with_jitter()
}

/// The first key after all keys with a prefix.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}
