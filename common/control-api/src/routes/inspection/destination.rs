//! What a proxy can reach: services and their ports.

use std::sync::Arc;

use model::spec::{MeshExternalService, MeshMultiZoneService, MeshService};
use model::{Kind, Kri, Resource};
use policy::Destination;

use super::Inspected;
use crate::problem::Problem;
use crate::routes::kri;

/// Kinds that a proxy can reach, in the order of their short names.
pub(super) const SERVICES: [Kind; 3] =
    [Kind::MESH_EXTERNAL_SERVICE, Kind::MESH_SERVICE, Kind::MESH_MULTI_ZONE_SERVICE];

/// A port of a service.
#[derive(Clone, Debug)]
pub(super) struct Port {
    pub(super) resource: Arc<Resource>,
    /// Its name, or its number where it has none.
    pub(super) section: String,
    pub(super) number: u32,
    pub(super) protocol: String,
}

impl Port {
    /// As policies see it.
    pub(super) fn as_target(&self) -> Destination<'_> {
        Destination { resource: &self.resource, section: &self.section, port: self.number }
    }

    /// Whether a section of an identifier means it.
    pub(super) fn is(&self, section: &str) -> bool {
        self.section == section || self.number.to_string() == section
    }

    pub(super) fn kri(&self) -> Option<Kri> {
        Some(self.resource.kri()?.with_section(self.section.as_str()))
    }
}

/// The ports of a service; none for what is no service or cannot be read.
pub(super) fn ports(resource: &Arc<Resource>) -> Vec<Port> {
    let port = |section: String, number: u32, protocol: &str| Port {
        resource: Arc::clone(resource),
        section,
        number,
        protocol: protocol.to_owned(),
    };
    let kind = resource.kind();
    let found = if kind == Kind::MESH_SERVICE {
        resource.spec::<MeshService>().ok().map(|spec| {
            let ports = spec.ports.iter();
            ports.map(|one| port(one.section(), one.port, one.app_protocol.as_str())).collect()
        })
    } else if kind == Kind::MESH_MULTI_ZONE_SERVICE {
        resource.spec::<MeshMultiZoneService>().ok().map(|spec| {
            let ports = spec.ports.iter();
            ports.map(|one| port(one.section(), one.port, one.app_protocol.as_str())).collect()
        })
    } else if kind == Kind::MESH_EXTERNAL_SERVICE {
        resource.spec::<MeshExternalService>().ok().map(|spec| {
            let one = &spec.r#match;
            vec![port(one.port.to_string(), one.port, one.protocol.as_str())]
        })
    } else {
        None
    };
    found.unwrap_or_default()
}

/// The resource of the proxy's mesh that an identifier names.
pub(super) fn named<'a>(inspected: &'a Inspected, wanted: &Kri) -> Option<&'a Arc<Resource>> {
    let whole = wanted.with_section("");
    inspected.of_kind(wanted.kind).find(|resource| resource.kri().as_ref() == Some(&whole))
}

/// The port that the identifier in a path names.
pub(super) fn of_path(inspected: &Inspected, text: &str) -> Result<Port, Problem> {
    let wanted = kri::parse(text)?;
    let found = named(inspected, &wanted).and_then(|resource| {
        ports(resource).into_iter().find(|port| wanted.section.is_empty() || port.is(&wanted.section))
    });
    found.ok_or_else(|| Problem::not_found("Could not retrieve the outbound"))
}
