//! MeshZoneAddress: where other zones reach a zone's ingress.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Checked;
use super::checks::{check_port_number, is_host};
use crate::Violations;

/// Where other zones reach this zone's ingress.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MeshZoneAddress {
    /// IP or DNS name.
    pub address: String,
    /// Port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u32,
}

impl Checked for MeshZoneAddress {
    fn check(&self, violations: &mut Violations) {
        if self.address.is_empty() {
            violations.add("spec.address", "must not be empty");
        } else if self.address.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
            violations.add("spec.address", "must not be 0.0.0.0 or ::");
        } else if !is_host(&self.address) {
            violations.add("spec.address", "address has to be a valid IP address or a DNS name");
        }
        check_port_number("spec.port", self.port, violations);
    }
}
