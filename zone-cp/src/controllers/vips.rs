//! Virtual addresses: which are taken, and which one a destination gets.
//!
//! A destination's first choice follows from its name, so that it gets the same address again after its status was
//! lost, and an address that became free is not handed to the next that asks.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use imbl::{OrdMap, OrdSet};
use model::{Key, Resource, Timestamp, names};
use store::Snapshot;

use super::destinations::vips;

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

/// Addresses that are in use, and by whom, in every mesh: a proxy of one mesh may share a machine with another's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Taken {
    /// Of those who say that an address is theirs the oldest has it.
    holders: OrdMap<IpAddr, OrdSet<(Timestamp, Key)>>,
    /// Destinations without an address of their own.
    wanting: OrdSet<Key>,
    /// Whether an address became free that somebody may want.
    freed: bool,
}

impl Taken {
    /// Takes over a destination that came, went or changed. Destinations that may have got or lost an address by
    /// that are added to `touched`.
    pub(crate) fn follow(
        &mut self,
        older: Option<&Resource>,
        newer: Option<&Resource>,
        touched: &mut BTreeSet<Key>,
    ) {
        let told = |resource: &Resource| (vips(resource), resource.created());
        if let (Some(older), Some(newer)) = (older, newer)
            && told(older) == told(newer)
        {
            return;
        }
        for (resource, holds) in [(older, false), (newer, true)] {
            let Some(resource) = resource else { continue };
            for ip in vips(resource) {
                self.note(ip, (resource.created(), resource.key().clone()), holds, touched);
            }
        }
    }

    fn note(&mut self, ip: IpAddr, holder: (Timestamp, Key), holds: bool, touched: &mut BTreeSet<Key>) {
        let holders = self.holders.entry(ip).or_default();
        let owner = holders.get_min().cloned();
        if holds {
            holders.insert(holder);
        } else {
            holders.remove(&holder);
        }
        let next = holders.get_min();
        if next.map(|next| &next.1) != owner.as_ref().map(|owner| &owner.1) {
            touched.extend(holders.iter().map(|holder| holder.1.clone()));
        }
        if holders.is_empty() {
            self.holders.remove(&ip);
            self.freed = true;
        }
    }

    /// Ends a series of changes: notes who wants an address, and adds them to `touched` if one became free.
    pub(crate) fn settle(&mut self, snapshot: &Snapshot, touched: &mut BTreeSet<Key>) {
        for key in &*touched {
            if snapshot.resource(key).is_some_and(|resource| !self.is_settled(resource)) {
                self.wanting.insert(key.clone());
            } else {
                self.wanting.remove(key);
            }
        }
        if std::mem::take(&mut self.freed) {
            touched.extend(self.wanting.iter().cloned());
        }
    }

    /// Whether a destination has an address to itself.
    pub(crate) fn is_settled(&self, by: &Resource) -> bool {
        let owner = |ip| self.holders.get(&ip).and_then(OrdSet::get_min);
        vips(by).into_iter().any(|ip| owner(ip).is_some_and(|(_, key)| key == by.key()))
    }

    /// Takes an address for a destination; `None` when there is none left.
    pub(crate) fn allocate(&mut self, range: Range, by: &Resource) -> Option<IpAddr> {
        let (first, count) = range.usable();
        let start = u128::from(names::fnv1a64([by.kind().name, "/", by.mesh(), "/", by.name()])) % count;
        // One more try than there are addresses taken finds a free one, if there is any.
        let tries = count.min(self.holders.len() as u128 + 1);
        let offsets = (0..tries).map(|step| first + (start + step) % count);
        let ip = offsets.map(|offset| range.at(offset)).find(|ip| !self.holders.contains_key(ip))?;
        self.holders.insert(ip, OrdSet::unit((by.created(), by.key().clone())));
        Some(ip)
    }
}

#[cfg(test)]
mod tests {
    use model::Kind;
    use model::spec::{MeshServiceStatus, Vip};

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
    fn of_two_with_one_address_the_older_has_it_and_then_the_other() {
        let at = |name: &str, seconds: i64| {
            let vips = vec![Vip { ip: "241.0.0.1".into() }];
            let status = MeshServiceStatus { vips, ..MeshServiceStatus::default() };
            service(name).to_builder().at(Timestamp::from_unix(seconds, 0)).status(&status).build()
        };
        let (old, new) = (at("z", 1), at("a", 2));
        for order in [[&old, &new], [&new, &old]] {
            let (mut taken, mut touched) = (Taken::default(), BTreeSet::new());
            order.into_iter().for_each(|service| taken.follow(None, Some(service), &mut touched));
            assert!(taken.is_settled(&old) && !taken.is_settled(&new));
            touched.clear();
            taken.follow(Some(&old), None, &mut touched);
            assert!(taken.is_settled(&new) && touched.contains(new.key()));
        }
    }
}
