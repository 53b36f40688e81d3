//! Virtual addresses: which are taken, and which one a destination gets.
//!
//! A destination's first choice follows from its name, so that it gets the same address again after its status was
//! lost, and an address that became free is not handed to the next that asks.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::{Key, Resource, Timestamp, names};

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    first: u128,
    /// How many addresses; at least 1.
    size: u128,
    v4: bool,
    prefix: u8,
}

/// Bits of an IPv6 range that are used: more addresses than any zone has destinations.
const MAX_HOST_BITS: u8 = 64;

impl Range {
    /// Reads `address/length`; bits of the address beyond the length are cleared.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let prefix: u8 = prefix.parse().ok()?;
        let (bits, length) = match address.parse().ok()? {
            IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32_u8),
            IpAddr::V6(v6) => (u128::from(v6), 128),
        };
        let host_bits = length.checked_sub(prefix)?;
        let first =
            bits.checked_shr(host_bits.into()).unwrap_or(0).checked_shl(host_bits.into()).unwrap_or(0);
        Some(Self { first, size: 1 << host_bits.min(MAX_HOST_BITS), v4: length == 32, prefix })
    }

    /// Offsets that may be handed out: the first and the last address name the network and everybody in it.
    fn usable(self) -> (u128, u128) {
        if self.size > 2 { (1, self.size - 2) } else { (0, self.size) }
    }

    fn at(self, offset: u128) -> IpAddr {
        let bits = self.first + offset;
        match u32::try_from(bits) {
            Ok(bits) if self.v4 => Ipv4Addr::from(bits).into(),
            _ => Ipv6Addr::from(bits).into(),
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.at(0), self.prefix)
    }
}

/// Where virtual addresses come from.
#[derive(Clone, Copy, Debug)]
pub struct VipRanges {
    /// Of MeshServices.
    pub mesh_service: Range,
    /// Of MeshExternalServices.
    pub mesh_external_service: Range,
    /// Of MeshMultiZoneServices.
    pub mesh_multi_zone_service: Range,
}

impl Default for VipRanges {
    fn default() -> Self {
        // Reserved addresses (RFC 1112), one /8 a kind as the peer has it.
        let range = |first: u8| Range { first: u128::from(first) << 24, size: 1 << 24, v4: true, prefix: 8 };
        Self {
            mesh_service: range(241),
            mesh_external_service: range(242),
            mesh_multi_zone_service: range(243),
        }
    }
}

/// Addresses that are in use, and by whom.
#[derive(Debug, Default)]
pub(crate) struct Taken(BTreeMap<IpAddr, (Timestamp, Key)>);

impl Taken {
    /// Notes that a destination has an address; of two that say so, the older one has it.
    pub(crate) fn hold(&mut self, ip: &str, by: &Resource) {
        let Ok(ip) = ip.parse() else { return };
        let by = (by.created(), by.key().clone());
        match self.0.get(&ip) {
            Some(held) if *held <= by => {}
            _ => {
                self.0.insert(ip, by);
            }
        }
    }

    /// Whether a destination has an address to itself.
    pub(crate) fn is_held_by(&self, ip: &str, by: &Resource) -> bool {
        ip.parse().is_ok_and(|ip: IpAddr| self.0.get(&ip).is_some_and(|(_, key)| key == by.key()))
    }

    /// Takes an address for a destination; `None` when there is none left.
    pub(crate) fn allocate(&mut self, range: Range, by: &Resource) -> Option<IpAddr> {
        let (first, count) = range.usable();
        let start = u128::from(names::fnv1a64([by.kind().name, "/", by.mesh(), "/", by.name()])) % count;
        // One more try than there are addresses taken finds a free one, if there is any.
        let tries = count.min(self.0.len() as u128 + 1);
        let offsets = (0..tries).map(|step| first + (start + step) % count);
        let ip = offsets.map(|offset| range.at(offset)).find(|ip| !self.0.contains_key(ip))?;
        self.0.insert(ip, (by.created(), by.key().clone()));
        Some(ip)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use model::Kind;

    use super::*;

    fn service(name: &str) -> Resource {
        Resource::builder(Key::new(Kind::MESH_SERVICE, "default", name)).build()
    }

    #[test]
    fn ranges_are_read() {
        for (text, want) in [
            ("241.1.2.3/8", Some("241.0.0.0/8")),
            ("10.0.0.4/30", Some("10.0.0.4/30")),
            ("fd00:1::5/64", Some("fd00:1::/64")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("::/0", Some("::/0")),
            ("10.0.0.0/33", None),
            ("10.0.0.0", None),
        ] {
            assert_eq!(Range::parse(text).map(|range| range.to_string()).as_deref(), want, "{text}");
        }
        assert_eq!(VipRanges::default().mesh_external_service, Range::parse("242.0.0.0/8").unwrap());
    }

    #[test]
    fn a_full_range_is_handed_out_once_and_then_no_more() {
        let range = Range::parse("10.0.0.0/29").unwrap();
        let mut taken = Taken::default();
        let given: BTreeSet<_> =
            (0..6).map(|n| taken.allocate(range, &service(&n.to_string())).unwrap()).collect();
        assert_eq!(given.len(), 6);
        assert!(!given.contains(&range.at(0)) && !given.contains(&range.at(7)));
        assert_eq!(taken.allocate(range, &service("late")), None);
    }

    #[test]
    fn the_same_name_gets_the_same_address_again() {
        let range = VipRanges::default().mesh_service;
        let first = Taken::default().allocate(range, &service("web"));
        assert_eq!(Taken::default().allocate(range, &service("web")), first);
        assert_ne!(Taken::default().allocate(range, &service("db")), first);
    }

    #[test]
    fn of_two_with_one_address_the_older_has_it() {
        let at = |name: &str, seconds: i64| {
            service(name).to_builder().at(Timestamp::from_unix(seconds, 0)).build()
        };
        let (old, new) = (at("z", 1), at("a", 2));
        for order in [[&old, &new], [&new, &old]] {
            let mut taken = Taken::default();
            order.into_iter().for_each(|service| taken.hold("241.0.0.1", service));
            assert!(taken.is_held_by("241.0.0.1", &old) && !taken.is_held_by("241.0.0.1", &new));
        }
    }
}
