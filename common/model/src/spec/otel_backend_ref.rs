//! Collectors that telemetry policies name.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::labels_select;
use crate::{Resource, Violations};

/// A MeshOpenTelemetryBackend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OtelBackendRef {
    /// Always `MeshOpenTelemetryBackend`.
    pub kind: OtelBackendKind,
    /// Labels that it has. Of several with them the oldest is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
}

/// The only kind of collectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OtelBackendKind {
    /// A MeshOpenTelemetryBackend.
    #[default]
    MeshOpenTelemetryBackend,
}

impl OtelBackendRef {
    /// Whether a resource is meant.
    pub fn selects(&self, resource: &Resource) -> bool {
        self.labels.as_ref().is_some_and(|labels| !labels.is_empty() && labels_select(labels, resource))
    }
}

/// Checks the reference of a backend for OpenTelemetry.
pub(super) fn check_backend_ref(path: &str, said: Option<&OtelBackendRef>, violations: &mut Violations) {
    let path = format!("{path}.backendRef");
    match said {
        None => violations.add(path, "must be defined"),
        Some(said) if said.labels.as_ref().is_none_or(BTreeMap::is_empty) => {
            violations.add(format!("{path}.labels"), "must be set when kind is MeshOpenTelemetryBackend");
        }
        Some(_) => {}
    }
}
