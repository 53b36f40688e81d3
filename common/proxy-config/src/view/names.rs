//! Host names where addresses are needed: resolving is for the caller, who is told which there are.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Known addresses of host names.
pub(crate) struct Names<'a>(pub(crate) &'a BTreeMap<String, IpAddr>);

impl Names<'_> {
    /// The address itself, or the one that a name stands for; the name is noted.
    pub(crate) fn address(&self, host: &str, seen: &mut Vec<String>) -> Option<IpAddr> {
        if let Ok(address) = host.parse() {
            return Some(address);
        }
        if host.is_empty() {
            return None;
        }
        seen.push(host.to_owned());
        self.0.get(host).copied()
    }
}
