//! Workload: the proxies that share a workload label.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Checked;
use super::common::DataplaneProxies;
use crate::Violations;

/// The proxies that share a workload label; its name is the label's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Workload {}

/// Observed state of a Workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadStatus {
    /// Its proxies.
    pub dataplane_proxies: DataplaneProxies,
}

impl Checked for Workload {
    fn check(&self, _: &mut Violations) {}
}
