//! Where routes send traffic.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::{SERVICES, check_target};
use super::common::TargetRef;
use crate::Violations;

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
    #[schemars(range(max = 4_294_967_295_u32))]
    pub weight: u32,
    /// Port of the service; an external service has only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
}

fn one() -> u32 {
    1
}

impl BackendRef {
    /// Checks the service and its port. An external service has only one port.
    pub(super) fn check(&self, path: &str, violations: &mut Violations) {
        let target = TargetRef {
            kind: self.kind.clone(),
            labels: self.labels.clone(),
            section_name: self.section_name.clone(),
        };
        check_target(path, &target, &SERVICES, violations);
        let needs_port = matches!(self.kind.as_str(), "MeshService" | "MeshMultiZoneService");
        match self.port {
            Some(port) if !(1..=u32::from(u16::MAX)).contains(&port) => {
                violations.add(format!("{path}.port"), "port must be a valid (1-65535)");
            }
            None if needs_port && self.section_name.is_none() => {
                violations.add(format!("{path}.port"), "must be defined");
            }
            _ => {}
        }
    }
}
