//! The REST API of a control plane, as a client on the same host sees it.

use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use crate::http::{self, Request, Response};

/// A control plane's REST API.
#[derive(Clone, Copy, Debug)]
pub struct Api {
    /// Its loopback port.
    pub port: u16,
}

impl Api {
    /// Reads a path.
    ///
    /// # Errors
    /// When it does not answer or not with success.
    pub fn get(self, path: &str) -> anyhow::Result<Value> {
        let response = http::send(self.port, &Request::get(path))?;
        response.json().with_context(|| format!("GET {path}"))
    }

    /// The items of a list.
    ///
    /// # Errors
    /// As [`Self::get`]; when it is no list.
    pub fn list(self, path: &str) -> anyhow::Result<Vec<Value>> {
        let mut list = self.get(&format!("{path}?size=1000"))?;
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            _ => anyhow::bail!("GET {path} answers no list"),
        }
    }

    /// Sends a request with a JSON body; whatever the answer is.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn send(self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Response> {
        let body = body.map(|body| body.to_string().into_bytes());
        let body = body.as_deref().map(|body| ("application/json", body));
        http::send(self.port, &Request { method, body, ..Request::get(path) })
    }

    /// Creates or replaces a resource; tells where it is.
    ///
    /// # Errors
    /// When it is refused.
    pub fn apply(self, resource: &Value) -> anyhow::Result<String> {
        let path = self.path_of(resource)?;
        self.send("PUT", &path, Some(resource))?.json().with_context(|| format!("PUT {path}"))?;
        Ok(path)
    }

    /// Deletes a resource.
    ///
    /// # Errors
    /// When it is refused.
    pub fn delete(self, path: &str) -> anyhow::Result<()> {
        self.send("DELETE", path, None)?.json().with_context(|| format!("DELETE {path}"))?;
        Ok(())
    }

    /// A token of a kind: `user`, `zone` or `dataplane`.
    ///
    /// # Errors
    /// When it is refused.
    pub fn token(self, kind: &str, claims: &Value) -> anyhow::Result<String> {
        let response = self.send("POST", &format!("/tokens/{kind}"), Some(claims))?;
        anyhow::ensure!(response.status == 200, "no {kind} token: {}", response.text());
        Ok(response.text().trim().to_owned())
    }

    /// A token with which a zone joins.
    ///
    /// # Errors
    /// As [`Self::token`].
    pub fn zone_token(self, zone: &str, valid_for: Duration) -> anyhow::Result<String> {
        let valid_for = format!("{}s", valid_for.as_secs());
        self.token("zone", &json!({"zone": zone, "scope": ["cp"], "validFor": valid_for}))
    }

    fn path_of(self, resource: &Value) -> anyhow::Result<String> {
        let text = |key: &str| resource[key].as_str().with_context(|| format!("a resource without {key}"));
        let (kind, name) = (text("type")?, text("name")?);
        let kinds = self.get("/_resources")?;
        let kinds = kinds["resources"].as_array().context("GET /_resources lists no kinds")?;
        let found = kinds.iter().find(|entry| entry["name"] == kind);
        let found = found.with_context(|| format!("the control plane knows no kind {kind}"))?;
        let collection = found["path"].as_str().with_context(|| format!("kind {kind} has no path"))?;
        Ok(match found["scope"].as_str() {
            Some("Global") => format!("/{collection}/{name}"),
            _ => format!("/meshes/{}/{collection}/{name}", resource["mesh"].as_str().unwrap_or("default")),
        })
    }
}
