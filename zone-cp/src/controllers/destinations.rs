//! Virtual addresses and hostnames of destinations: the same for the three kinds of them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use model::hostnames::Hostnames;
use model::payload::Typed;
use model::spec::{MeshExternalServiceStatus, MeshMultiZoneServiceStatus, MeshServiceStatus, Vip};
use model::{Key, Kind, Resource};

use super::DESTINATIONS;
use super::names::Names;
use super::plan::Plan;
use super::vips::{Range, Taken, VipRanges};

/// A status with addresses.
trait Destination: Typed + Clone + Default + PartialEq {
    fn vips(&self) -> &[Vip];
    fn set_vip(&mut self, vip: Vip);
    fn set_hostnames(&mut self, hostnames: Hostnames);
}

macro_rules! destination_with_vips {
    ($($status:ty),+) => {$(
        impl Destination for $status {
            fn vips(&self) -> &[Vip] {
                &self.vips
            }

            fn set_vip(&mut self, vip: Vip) {
                self.vips = vec![vip];
            }

            fn set_hostnames(&mut self, hostnames: Hostnames) {
                self.addresses = hostnames.addresses;
                self.hostname_generators = hostnames.generators;
            }
        }
    )+};
}

destination_with_vips!(MeshServiceStatus, MeshMultiZoneServiceStatus);

impl Destination for MeshExternalServiceStatus {
    fn vips(&self) -> &[Vip] {
        self.vip.as_slice()
    }

    fn set_vip(&mut self, vip: Vip) {
        self.vip = Some(vip);
    }

    fn set_hostnames(&mut self, hostnames: Hostnames) {
        self.addresses = hostnames.addresses;
        self.hostname_generators = hostnames.generators;
    }
}

/// Calls a function with the type of status that destinations of a kind have.
macro_rules! of_kind {
    ($kind:expr, $function:ident($($argument:expr),*)) => {
        if $kind == Kind::MESH_SERVICE {
            $function::<MeshServiceStatus>($($argument),*)
        } else if $kind == Kind::MESH_EXTERNAL_SERVICE {
            $function::<MeshExternalServiceStatus>($($argument),*)
        } else {
            $function::<MeshMultiZoneServiceStatus>($($argument),*)
        }
    };
}

fn status_of<T: Destination>(resource: &Resource) -> T {
    resource.status::<T>().cloned().unwrap_or_default()
}

/// The virtual addresses that a destination says it has.
pub(crate) fn vips(destination: &Resource) -> Vec<IpAddr> {
    fn of<T: Destination>(destination: &Resource) -> Vec<IpAddr> {
        let status = destination.status::<T>().ok();
        status.map(T::vips).unwrap_or_default().iter().filter_map(|vip| vip.ip.parse().ok()).collect()
    }
    of_kind!(destination.kind(), of(destination))
}

/// The destinations of the plan's mesh that either set names and that are there, in the order in which they get
/// addresses.
pub(crate) fn in_order(plan: &Plan<'_>, some: &BTreeSet<Key>, others: &BTreeSet<Key>) -> Vec<Key> {
    let keys = some.union(others).filter(|key| *key.mesh == *plan.mesh && plan.snapshot().get(key).is_some());
    let mut keys: Vec<_> = keys.cloned().collect();
    keys.sort_by_key(|key| DESTINATIONS.iter().position(|kind| *kind == key.kind));
    keys
}

/// Wants a virtual address for every one of the destinations that has none of its own.
pub(crate) fn addresses(plan: &mut Plan<'_>, keys: &[Key], ranges: &VipRanges, taken: &mut Taken) {
    for key in keys {
        let range = if key.kind == Kind::MESH_SERVICE {
            ranges.mesh_service
        } else if key.kind == Kind::MESH_EXTERNAL_SERVICE {
            ranges.mesh_external_service
        } else {
            ranges.mesh_multi_zone_service
        };
        of_kind!(key.kind, allocate(plan, key, range, taken));
    }
}

fn allocate<T: Destination>(plan: &mut Plan<'_>, key: &Key, range: Range, taken: &mut Taken) {
    let Some(resource) = plan.snapshot().resource(key).cloned() else { return };
    if taken.is_settled(&resource) {
        return;
    }
    let Some(ip) = taken.allocate(range, &resource) else {
        tracing::warn!(destination = %resource.key(), %range, "no virtual address is left");
        return;
    };
    let mut status = status_of::<T>(&resource);
    status.set_vip(Vip { ip: ip.to_string() });
    plan.put_status(&resource, &status);
}

/// Wants the hostnames that the generators give the destinations.
pub(crate) fn hostnames(plan: &mut Plan<'_>, keys: &[Key], names: &Names) {
    for key in keys {
        let Some(resource) = plan.snapshot().resource(key).cloned() else { continue };
        let hostnames = names.of(&resource);
        of_kind!(key.kind, name(plan, &resource, hostnames));
    }
}

fn name<T: Destination>(plan: &mut Plan<'_>, resource: &Resource, hostnames: Hostnames) {
    let mut status = status_of::<T>(resource);
    status.set_hostnames(hostnames);
    plan.put_status(resource, &status);
}
