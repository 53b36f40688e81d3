//! What an operator sets for all proxies of a zone.

use std::net::IpAddr;

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// First address.
    pub address: IpAddr,
    /// Length of the prefix in bits.
    pub prefix: u8,
}

impl Cidr {
    /// Reads `address/length`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let prefix: u8 = prefix.parse().ok()?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        (prefix <= longest).then_some(Self { address, prefix })
    }

    /// One address alone.
    pub(crate) fn of_host(address: IpAddr) -> Self {
        Self { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
    }
}

/// What an operator sets for all proxies of a zone.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Addresses that count as internal for HTTP headers, in the order in which Envoy gets them. Those of IPv6 are
    /// left out for a proxy without it.
    pub internal_cidrs: Vec<Cidr>,
    /// How long names may be cached by clients, in seconds.
    pub dns_ttl: u32,
    /// Whether policies that are only computed for inspection count.
    pub shadow_policies: bool,
}

/// Private and loopback ranges (RFC 1918, RFC 4193).
const INTERNAL: [&str; 7] =
    ["10.0.0.0/8", "192.168.0.0/16", "172.16.0.0/12", "fc00::/7", "fd00::/8", "127.0.0.1/32", "::1/128"];

impl Default for Settings {
    fn default() -> Self {
        Self {
            internal_cidrs: INTERNAL.into_iter().filter_map(Cidr::parse).collect(),
            dns_ttl: 30,
            shadow_policies: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_range_is_one() {
        assert_eq!(Settings::default().internal_cidrs.len(), INTERNAL.len());
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["10.0.0.0", "10.0.0.0/33", "::/129", "x/8", "10.0.0.0/-1"] {
            assert_eq!(Cidr::parse(text), None, "{text}");
        }
    }
}
