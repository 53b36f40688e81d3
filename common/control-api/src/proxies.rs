//! What the API asks about running proxies. Each control plane answers in its own way: a zone has the
//! streams of its proxies, the global asks the zone.

use async_trait::async_trait;
use bytes::Bytes;
use model::Key;
use serde_json::Value;

/// A question to a proxy's own administration endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminQuery {
    /// Its whole configuration, as JSON.
    ConfigDump {
        /// With endpoints.
        include_eds: bool,
    },
    /// Its statistics.
    Stats {
        /// As JSON instead of text.
        json: bool,
        /// Only those that were ever written.
        used_only: bool,
    },
    /// Its upstream clusters.
    Clusters {
        /// As JSON instead of text.
        json: bool,
    },
}

impl AdminQuery {
    /// Whether the answer is JSON.
    pub fn is_json(self) -> bool {
        match self {
            Self::ConfigDump { .. } => true,
            Self::Stats { json, .. } | Self::Clusters { json } => json,
        }
    }
}

/// Why nothing is known of a proxy.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum InspectError {
    /// No such proxy is connected.
    #[error("{0} is not connected to this control plane")]
    NotConnected(String),
    /// This control plane does not answer such questions.
    #[error("not available on this control plane")]
    NotAvailable,
    /// The proxy or the zone between did not answer.
    #[error("the proxy did not answer: {0}")]
    Unreachable(String),
}

/// Looks into running proxies.
#[async_trait]
pub trait ProxyInspector: Send + Sync + 'static {
    /// The configuration of a proxy by type URL and name; `shadow` counts policies in that are marked
    /// to be only looked at.
    async fn configuration(&self, dataplane: &Key, shadow: bool) -> Result<Value, InspectError> {
        let _ = (dataplane, shadow);
        Err(InspectError::NotAvailable)
    }

    /// Asks a proxy's administration endpoint.
    async fn admin(&self, dataplane: &Key, query: AdminQuery) -> Result<Bytes, InspectError> {
        let _ = (dataplane, query);
        Err(InspectError::NotAvailable)
    }
}

/// Knows no proxies: for a control plane that serves only its API.
#[derive(Clone, Copy, Debug)]
pub struct NoProxies;

#[async_trait]
impl ProxyInspector for NoProxies {}
