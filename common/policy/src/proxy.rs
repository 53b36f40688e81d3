//! The proxy for which policies are selected.

use model::Resource;
use model::spec::Dataplane;

/// A part of a proxy that a policy can name: an inbound or a listener of a zone proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name; empty when it has none.
    pub name: String,
    /// Its port.
    pub port: u32,
}

impl Section {
    /// Whether a `sectionName` means this section.
    pub fn is(&self, section_name: &str) -> bool {
        (!self.name.is_empty() && self.name == section_name) || self.port.to_string() == section_name
    }
}

/// A proxy as policies see it.
#[derive(Clone, Debug)]
pub struct Proxy<'a> {
    /// Its Dataplane resource.
    pub dataplane: &'a Resource,
    /// The zone it runs in.
    pub zone: &'a str,
    /// Its inbounds and listeners.
    pub sections: Vec<Section>,
    /// Whether policies that are only computed for inspection count.
    pub with_shadow: bool,
}

impl<'a> Proxy<'a> {
    /// The proxy of a Dataplane in `zone`; the zone of the resource's label counts first.
    pub fn new(dataplane: &'a Resource, zone: &'a str) -> Self {
        let networking = dataplane.spec::<Dataplane>().ok().and_then(|spec| spec.networking.as_ref());
        let sections = networking.map(|networking| {
            let inbounds = networking.inbound.iter().map(|inbound| (&inbound.name, inbound.port));
            let listeners = networking.listeners.iter().map(|listener| (&listener.name, listener.port));
            inbounds.chain(listeners).map(|(name, port)| Section { name: name.clone(), port }).collect()
        });
        Self {
            dataplane,
            zone: dataplane.zone().unwrap_or(zone),
            sections: sections.unwrap_or_default(),
            with_shadow: false,
        }
    }

    /// The same proxy with shadow policies taken into account.
    pub fn with_shadow(self, with_shadow: bool) -> Self {
        Self { with_shadow, ..self }
    }
}
