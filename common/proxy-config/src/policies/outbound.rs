//! What a kind says of a destination and of the routes to it.

use std::collections::BTreeMap;

use policy::{Conf, Selected};
use serde::de::DeserializeOwned;

use crate::draft::Origin;
use crate::view::Destination;

/// What a kind says of a destination, and of routes to it that policies name.
#[derive(Clone, Debug)]
pub(crate) struct OutboundConfs<T> {
    destination: Option<T>,
    /// By the names of routes in Envoy.
    routes: BTreeMap<String, T>,
}

impl<T: DeserializeOwned> OutboundConfs<T> {
    /// What is said of a destination and of the origins of the routes to it. What cannot be read says nothing.
    pub(crate) fn of(
        selected: &Selected,
        destination: &Destination,
        origins: &BTreeMap<String, Origin>,
    ) -> Self {
        let decode = |conf: Conf| conf.decode().ok();
        let of_route = |(name, origin): (&String, &Origin)| {
            Some((name.clone(), decode(selected.to_route(&origin.as_target())?)?))
        };
        Self {
            destination: selected.to(&destination.as_target()).and_then(decode),
            routes: origins.iter().filter_map(of_route).collect(),
        }
    }

    /// What is said of the destination.
    pub(crate) fn destination(&self) -> Option<&T> {
        self.destination.as_ref()
    }

    /// What is said of a route: of itself, else of the destination.
    pub(crate) fn route(&self, name: &str) -> Option<&T> {
        self.routes.get(name).or(self.destination.as_ref())
    }

    /// What is said of a route alone.
    pub(crate) fn route_alone(&self, name: &str) -> Option<&T> {
        self.routes.get(name)
    }
}
