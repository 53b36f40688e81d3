//! Virtual addresses and hostnames of destinations: the same for the three kinds of them.

use std::sync::Arc;

use model::hostnames::{self, Hostnames};
use model::payload::Typed;
use model::spec::{MeshExternalServiceStatus, MeshMultiZoneServiceStatus, MeshServiceStatus, Vip};
use model::{Kind, Resource};

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

fn status_of<T: Destination>(resource: &Resource) -> T {
    resource.status::<T>().cloned().unwrap_or_default()
}

/// Wants a virtual address for every destination that has none of its own.
pub(crate) fn addresses(plan: &mut Plan<'_>, ranges: &VipRanges) {
    let mut taken = Taken::default();
    hold::<MeshServiceStatus>(plan, Kind::MESH_SERVICE, &mut taken);
    hold::<MeshExternalServiceStatus>(plan, Kind::MESH_EXTERNAL_SERVICE, &mut taken);
    hold::<MeshMultiZoneServiceStatus>(plan, Kind::MESH_MULTI_ZONE_SERVICE, &mut taken);
    let (service, external, multi) =
        (ranges.mesh_service, ranges.mesh_external_service, ranges.mesh_multi_zone_service);
    allocate::<MeshServiceStatus>(plan, Kind::MESH_SERVICE, service, &mut taken);
    allocate::<MeshExternalServiceStatus>(plan, Kind::MESH_EXTERNAL_SERVICE, external, &mut taken);
    allocate::<MeshMultiZoneServiceStatus>(plan, Kind::MESH_MULTI_ZONE_SERVICE, multi, &mut taken);
}

/// Notes the addresses that are in use, in every mesh: a proxy of one mesh may share a machine with another's.
fn hold<T: Destination>(plan: &Plan<'_>, kind: Kind, taken: &mut Taken) {
    for resource in plan.snapshot().kind(kind) {
        for vip in status_of::<T>(resource).vips() {
            taken.hold(&vip.ip, resource);
        }
    }
}

fn allocate<T: Destination>(plan: &mut Plan<'_>, kind: Kind, range: Range, taken: &mut Taken) {
    for resource in plan.list(kind) {
        let mut status = status_of::<T>(&resource);
        if status.vips().iter().any(|vip| taken.is_held_by(&vip.ip, &resource)) {
            continue;
        }
        let Some(ip) = taken.allocate(range, &resource) else {
            tracing::warn!(destination = %resource.key(), %range, "no virtual address is left");
            continue;
        };
        status.set_vip(Vip { ip: ip.to_string() });
        plan.put_status(&resource, &status);
    }
}

/// Wants the hostnames that the generators give.
pub(crate) fn hostnames(plan: &mut Plan<'_>) {
    let generators: Vec<Arc<Resource>> = plan.snapshot().kind(Kind::HOSTNAME_GENERATOR).cloned().collect();
    let kinds = [Kind::MESH_SERVICE, Kind::MESH_EXTERNAL_SERVICE, Kind::MESH_MULTI_ZONE_SERVICE];
    let destinations: Vec<_> = kinds.into_iter().flat_map(|kind| plan.list(kind)).collect();
    let mut assigned = hostnames::assign(&generators, &destinations);
    for resource in &destinations {
        let hostnames = assigned.remove(resource.key()).unwrap_or_default();
        if resource.kind() == Kind::MESH_SERVICE {
            name::<MeshServiceStatus>(plan, resource, hostnames);
        } else if resource.kind() == Kind::MESH_EXTERNAL_SERVICE {
            name::<MeshExternalServiceStatus>(plan, resource, hostnames);
        } else {
            name::<MeshMultiZoneServiceStatus>(plan, resource, hostnames);
        }
    }
}

fn name<T: Destination>(plan: &mut Plan<'_>, resource: &Resource, hostnames: Hostnames) {
    let mut status = status_of::<T>(resource);
    status.set_hostnames(hostnames);
    plan.put_status(resource, &status);
}
