//! Workload: the proxies that share a workload label.

use schemars::JsonSchema;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use super::Checked;
use super::common::DataplaneProxies;

/// The proxies that share a workload label; its name is the label's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Workload {}

/// Observed state of a Workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadStatus {
    /// Its proxies.
    #[serde(serialize_with = "every_count")]
    pub dataplane_proxies: DataplaneProxies,
}

impl Checked for WorkloadStatus {}

impl Checked for Workload {}

/// Unlike in other statuses, a count of zero is written too.
fn every_count<S: Serializer>(proxies: &DataplaneProxies, serializer: S) -> Result<S::Ok, S::Error> {
    let mut counts = serializer.serialize_struct("DataplaneProxies", 3)?;
    counts.serialize_field("connected", &proxies.connected)?;
    counts.serialize_field("healthy", &proxies.healthy)?;
    counts.serialize_field("total", &proxies.total)?;
    counts.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Typed;

    #[test]
    fn a_new_workload_has_every_count() {
        let empty = crate::Kind::WORKLOAD.info().empty_status;
        assert_eq!(empty.map(str::as_bytes), Some(&**WorkloadStatus::default().encode().bytes()));
    }
}
