//! Where routes send traffic.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A destination of traffic, and its share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendRef {
    /// `MeshService`, `MeshExternalService` or `MeshMultiZoneService`.
    pub kind: String,
    /// Labels of the service. Of several services with them, the oldest one of the own zone is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Port of the service, by name or number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// Share of the traffic beside the other backends; 1 where it is absent, 0 is none.
    #[serde(default = "one")]
    pub weight: u32,
    /// Port of the service; an external service has only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
}

fn one() -> u32 {
    1
}
