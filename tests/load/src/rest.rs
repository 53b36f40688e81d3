//! The control plane's REST API, used by many at once.

use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::api::Api;
use serde_json::{Value, json};
use tokio::task::{JoinSet, spawn_blocking};

/// Requests at the same time when many are sent.
const AT_ONCE: usize = 8;
const TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);

/// A client.
#[derive(Clone, Copy)]
pub(crate) struct Rest {
    api: Api,
}

impl Rest {
    pub(crate) fn new(api: Api) -> Self {
        Self { api }
    }

    /// Writes a resource to its path.
    pub(crate) async fn put(self, path: String, resource: Value) -> anyhow::Result<()> {
        let sent = spawn_blocking(move || self.api.send("PUT", &path, Some(&resource)));
        let response = sent.await??;
        ensure!((200..300).contains(&response.status), "PUT: {} {}", response.status, response.text());
        Ok(())
    }

    /// Deletes a resource.
    pub(crate) async fn delete(self, path: String) -> anyhow::Result<()> {
        spawn_blocking(move || self.api.delete(&path)).await?
    }

    /// Reads a path.
    pub(crate) async fn get(self, path: String) -> anyhow::Result<Value> {
        spawn_blocking(move || self.api.get(&path)).await?
    }

    /// Writes many resources, some at the same time.
    pub(crate) async fn put_all(
        self,
        resources: impl Iterator<Item = (String, Value)>,
    ) -> anyhow::Result<()> {
        let mut running = JoinSet::new();
        for (path, resource) in resources {
            if running.len() >= AT_ONCE
                && let Some(done) = running.join_next().await
            {
                done??;
            }
            running.spawn(self.put(path, resource));
        }
        while let Some(done) = running.join_next().await {
            done??;
        }
        Ok(())
    }

    /// Tokens with which zones join.
    pub(crate) async fn zone_tokens(self, zones: Vec<String>) -> anyhow::Result<Vec<String>> {
        let all = spawn_blocking(move || {
            zones.iter().map(|zone| self.api.zone_token(zone, TOKEN_LIFE)).collect::<anyhow::Result<Vec<_>>>()
        });
        all.await?
    }

    /// Tokens with which proxies of workloads connect.
    pub(crate) async fn workload_tokens(self, workloads: Vec<String>) -> anyhow::Result<Vec<String>> {
        let token = move |workload: &String| {
            let claims = json!({"mesh": "default", "workload": workload, "validFor": "24h"});
            self.api.token("dataplane", &claims)
        };
        spawn_blocking(move || workloads.iter().map(token).collect::<anyhow::Result<Vec<_>>>()).await?
    }

    /// How many resources a collection has.
    pub(crate) async fn total(self, collection: &str) -> anyhow::Result<u64> {
        let list = self.get(format!("{collection}?size=1")).await?;
        list["total"].as_u64().with_context(|| format!("{collection} tells no total"))
    }
}

/// A MeshTimeout as a policy that zones are sent; the marker tells one version from another.
pub(crate) fn policy(name: &str, marker: u64) -> (String, Value) {
    let resource = json!({
        "type": "MeshTimeout", "mesh": "default", "name": name, "labels": {crate::zone::MARKER: marker.to_string()},
        "spec": {
            "targetRef": {"kind": "Dataplane", "labels": {"app": name}},
            "to": [{"targetRef": {"kind": "Mesh"}, "default": {"connectionTimeout": "10s"}}],
        },
    });
    (format!("/meshes/default/meshtimeouts/{name}"), resource)
}
