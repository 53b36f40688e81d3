//! Who answers: destinations and their shares.

use std::sync::Arc;

use model::spec::{BackendRef, labels_select};
use model::{Kind, labels};
use policy::Section;

use crate::view::{Destination, MeshView};

/// Destinations and their shares of calls.
#[derive(Clone, Debug)]
pub(crate) struct Split {
    /// Backends with weights above zero, whose sum is a number of Envoy. Each destination is there once.
    pub(crate) backends: Vec<(Arc<Destination>, u32)>,
    /// Weight of backends that are not there.
    pub(crate) missing: u32,
}

impl Split {
    /// All to one.
    pub(crate) fn whole(destination: &Arc<Destination>) -> Self {
        Self { backends: vec![(Arc::clone(destination), 1)], missing: 0 }
    }

    /// To the backends of a rule of `destination`; all to itself where the rule names none.
    pub(crate) fn of(view: &MeshView, refs: &[BackendRef], destination: &Arc<Destination>) -> Self {
        if refs.is_empty() {
            return Self::whole(destination);
        }
        let mut weights: Vec<(Arc<Destination>, u64)> = Vec::new();
        let mut missing = 0;
        for backend in refs.iter().filter(|backend| backend.weight > 0) {
            let weight = u64::from(backend.weight);
            match resolve(view, backend, destination) {
                None => missing += weight,
                Some(found) => match weights.iter_mut().find(|(held, _)| held.name == found.name) {
                    Some((_, held)) => *held += weight,
                    None => weights.push((Arc::clone(found), weight)),
                },
            }
        }
        // Envoy adds weights up in 32 bits.
        let total = missing + weights.iter().map(|(_, weight)| weight).sum::<u64>();
        let most = u64::from(u32::MAX);
        let divisor = if total > most { total.div_ceil(most / 2) } else { 1 };
        let scaled = |weight: u64| u32::try_from(weight.div_ceil(divisor)).unwrap_or(u32::MAX);
        Self {
            backends: weights.into_iter().map(|(found, weight)| (found, scaled(weight))).collect(),
            missing: scaled(missing),
        }
    }

    pub(crate) fn destinations(&self) -> impl Iterator<Item = &Arc<Destination>> {
        self.backends.iter().map(|(destination, _)| destination)
    }

    /// Share of calls that nobody can answer, from 0 to 1.
    pub(crate) fn lost(&self) -> f64 {
        let held: f64 = self.backends.iter().map(|(_, weight)| f64::from(*weight)).sum();
        if held > 0.0 { f64::from(self.missing) / (held + f64::from(self.missing)) } else { 1.0 }
    }
}

/// The destination that a backend of a rule of `of` means. Of several services, one of the own zone comes first,
/// unless the labels name a zone, then the oldest. Without a port it is the one that `of` has, else the lowest.
pub(super) fn resolve<'a>(
    view: &'a MeshView,
    backend: &BackendRef,
    of: &Destination,
) -> Option<&'a Arc<Destination>> {
    let kind = Kind::by_name(&backend.kind)?;
    let wanted = backend.labels.as_ref().filter(|labels| !labels.is_empty())?;
    let display_name = wanted.get(labels::DISPLAY_NAME).map(String::as_str);
    let port = backend.port.map(|port| port.to_string());
    let section =
        backend.section_name.as_deref().or(port.as_deref()).filter(|_| kind != Kind::MESH_EXTERNAL_SERVICE);
    let fits = |found: &&Arc<Destination>| {
        let port = Section { name: found.section.clone(), port: found.port };
        labels_select(wanted, &found.resource) && section.is_none_or(|section| port.is(section))
    };
    view.destinations_of(kind, display_name).filter(fits).min_by_key(|found| {
        let found: &'a Arc<Destination> = found;
        let resource = &found.resource;
        let elsewhere = resource.zone().is_some_and(|zone| zone != view.zone());
        (elsewhere, resource.created(), resource.name(), found.port != of.port, found.port)
    })
}
