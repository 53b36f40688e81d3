//! Names filed under labels, so that what selects and what is selected find each other without looking at all.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use model::spec::{MeshService, labels_select};
use model::{Labels, Resource, labels};

/// Labels that nearly all proxies of a zone share: nothing is filed under them.
const SHARED: [&str; 4] = [labels::ENV, labels::MESH, labels::ORIGIN, labels::ZONE];

/// Where something is filed within its mesh.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// Under nothing in particular.
    All,
    /// Under the name of a proxy.
    Proxy(Arc<str>),
    /// Under a label and its value.
    Label(String, String),
}

/// Places of a mesh with the names that are filed there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filed(OrdMap<(Arc<str>, Place), OrdSet<Arc<str>>>);

impl Filed {
    /// Takes a resource from the places where it was to those where it is.
    pub(crate) fn refile(&mut self, resource: &Resource, from: Vec<Place>, to: Vec<Place>) {
        if from == to {
            return;
        }
        let (mesh, name) = (&resource.key().mesh, &resource.key().name);
        for place in from {
            let place = (Arc::clone(mesh), place);
            let names = self.0.entry(place.clone()).or_default();
            names.remove(name);
            if names.is_empty() {
                self.0.remove(&place);
            }
        }
        for place in to {
            self.0.entry((Arc::clone(mesh), place)).or_default().insert(Arc::clone(name));
        }
    }

    /// The names at a place; `None` where nothing is filed.
    pub(crate) fn at(&self, mesh: &str, place: Place) -> Option<&OrdSet<Arc<str>>> {
        self.0.get(&(Arc::from(mesh), place))
    }
}

/// Where a proxy can be looked for; services that may select it are filed at one of these.
pub(crate) fn places_of_proxy(dataplane: &Resource) -> Vec<Place> {
    let display_name = (labels::DISPLAY_NAME, dataplane.display_name());
    let own = dataplane.labels().iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let own = own.filter(|(key, _)| !SHARED.contains(key) && *key != labels::DISPLAY_NAME);
    let labelled = own.chain([display_name]).map(|(key, value)| Place::Label(key.into(), value.into()));
    [Place::All, Place::Proxy(Arc::clone(&dataplane.key().name))].into_iter().chain(labelled).collect()
}

/// Where a service is filed: at one place of every proxy that it selects.
pub(crate) fn place_of_service(service: &MeshService) -> Option<Place> {
    if let Some(one) = &service.selector.dataplane_ref {
        return Some(Place::Proxy(one.name.as_str().into()));
    }
    let wanted = &service.selector.dataplane_labels.as_ref()?.match_labels;
    Some(label_places(wanted).next().unwrap_or(Place::All))
}

/// Places that have every proxy with these labels.
pub(crate) fn label_places(wanted: &Labels) -> impl Iterator<Item = Place> {
    let telling = wanted.iter().filter(|(key, _)| !SHARED.contains(&key.as_str()));
    telling.map(|(key, value)| Place::Label(key.clone(), value.clone()))
}

/// Whether a service selects a proxy; a selector that says nothing selects nothing.
pub(crate) fn selects(service: &MeshService, dataplane: &Resource) -> bool {
    if let Some(one) = &service.selector.dataplane_ref {
        return one.name == dataplane.name();
    }
    let wanted = service.selector.dataplane_labels.as_ref();
    wanted.is_some_and(|wanted| labels_select(&wanted.match_labels, dataplane))
}
