//! Host names where addresses are needed: resolving is for the caller, who is told which there are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Known addresses of host names, and the names that were asked for.
pub(crate) struct Names<'a> {
    known: &'a BTreeMap<String, IpAddr>,
    seen: BTreeSet<String>,
}

impl<'a> Names<'a> {
    pub(crate) fn new(known: &'a BTreeMap<String, IpAddr>) -> Self {
        Self { known, seen: BTreeSet::new() }
    }

    /// The address itself, or the one that a name stands for.
    pub(crate) fn address(&mut self, host: &str) -> Option<IpAddr> {
        if let Ok(address) = host.parse() {
            return Some(address);
        }
        if host.is_empty() {
            return None;
        }
        self.seen.insert(host.to_owned());
        self.known.get(host).copied()
    }

    pub(crate) fn seen(self) -> BTreeSet<String> {
        self.seen
    }
}
