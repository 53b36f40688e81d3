//! The proxies of a mesh as destinations see them: ready inbounds and zone listeners, found by label or name.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use kds_proto::mesh::dataplane::Networking;
use kds_proto::mesh::dataplane::networking::inbound::State;
use kds_proto::mesh::dataplane::networking::listener::{State as ListenerState, Type};
use kds_proto::mesh::dataplane::networking::{Inbound, Listener};
use model::spec::{Dataplane, LabelSelector, TargetPort};
use model::{Labels, Resource, labels};

use super::names::Names;

/// The port of a ready inbound.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    pub(crate) port: u32,
    /// Labels of the proxy, and the protocol where the inbound has one.
    pub(crate) tags: Arc<Labels>,
}

impl Port {
    /// Whether a port of a service leads here.
    pub(crate) fn is(&self, target: &TargetPort) -> bool {
        match target {
            TargetPort::Number(port) => self.port == *port,
            TargetPort::Name(name) => self.name == *name,
        }
    }
}

/// A proxy of the mesh.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) dataplane: Arc<Resource>,
    pub(crate) ports: Vec<Port>,
    /// Where it takes connections to what is outside the mesh.
    pub(crate) egress: Vec<(IpAddr, u32)>,
}

/// The proxies of a mesh.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members {
    members: Vec<Member>,
    /// Positions by label and value; the display name counts as its label.
    by_label: BTreeMap<String, BTreeMap<String, Vec<usize>>>,
    by_name: BTreeMap<Arc<str>, usize>,
}

impl Members {
    pub(crate) fn new<'a>(
        dataplanes: impl Iterator<Item = &'a Arc<Resource>>,
        names: &mut Names<'_>,
    ) -> Self {
        let mut found = Self::default();
        for dataplane in dataplanes {
            let Ok(spec) = dataplane.spec::<Dataplane>() else { continue };
            let Some(networking) = &spec.networking else { continue };
            found.add(dataplane, networking, names);
        }
        found
    }

    fn add(&mut self, dataplane: &Arc<Resource>, networking: &Networking, names: &mut Names<'_>) {
        let plain = Arc::new(dataplane.labels().clone());
        let ports = networking.inbound.iter().filter(|inbound| is_ready(inbound)).filter_map(|inbound| {
            let address = names.address(inbound_address(networking, inbound))?;
            let tags = tags(&plain, &inbound.protocol);
            is_port(inbound.port).then(|| Port {
                name: inbound.name.clone(),
                address,
                port: inbound.port,
                tags,
            })
        });
        let ports = ports.collect();
        let listeners = networking.listeners.iter().filter(|listener| is_ready_egress(listener));
        let egress = listeners.filter_map(|listener| {
            let own = if listener.address.is_empty() { &networking.address } else { &listener.address };
            Some((names.address(own)?, listener.port)).filter(|(_, port)| is_port(*port))
        });
        let egress = egress.collect();
        let at = self.members.len();
        for (label, value) in dataplane.labels() {
            if label != labels::DISPLAY_NAME {
                self.index(label, value, at);
            }
        }
        self.index(labels::DISPLAY_NAME, dataplane.display_name(), at);
        self.by_name.insert(Arc::clone(&dataplane.key().name), at);
        self.members.push(Member { dataplane: Arc::clone(dataplane), ports, egress });
    }

    fn index(&mut self, label: &str, value: &str, at: usize) {
        if !self.by_label.contains_key(label) {
            self.by_label.insert(label.to_owned(), BTreeMap::new());
        }
        let Some(values) = self.by_label.get_mut(label) else { return };
        match values.get_mut(value) {
            Some(held) => held.push(at),
            None => {
                values.insert(value.to_owned(), vec![at]);
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }

    /// The proxy of a name.
    pub(crate) fn named(&self, name: &str) -> Option<&Member> {
        self.members.get(*self.by_name.get(name)?)
    }

    /// The proxies that have all labels: looks only at those with the rarest one.
    pub(crate) fn select<'a>(
        &'a self,
        selector: &'a LabelSelector,
    ) -> Box<dyn Iterator<Item = &'a Member> + 'a> {
        let held = |label: &str, value: &str| {
            let values = self.by_label.get(label).and_then(|values| values.get(value));
            values.map(Vec::as_slice).unwrap_or_default()
        };
        let wanted = selector.match_labels.iter().map(|(label, value)| held(label, value));
        match wanted.min_by_key(|places| places.len()) {
            None => Box::new(self.members.iter()),
            Some(places) => {
                let members = places.iter().filter_map(|at| self.members.get(*at));
                Box::new(members.filter(|member| selector.selects(&member.dataplane)))
            }
        }
    }
}

/// The address on which an inbound listens.
pub(crate) fn inbound_address<'a>(networking: &'a Networking, inbound: &'a Inbound) -> &'a str {
    if inbound.address.is_empty() { &networking.address } else { &inbound.address }
}

fn tags(plain: &Arc<Labels>, protocol: &str) -> Arc<Labels> {
    if protocol.is_empty() {
        return Arc::clone(plain);
    }
    let mut tags = Labels::clone(plain);
    tags.insert("kuma.io/protocol".into(), protocol.into());
    Arc::new(tags)
}

fn is_ready(inbound: &Inbound) -> bool {
    inbound.state() == State::Ready && inbound.health.as_ref().is_none_or(|health| health.ready)
}

fn is_ready_egress(listener: &Listener) -> bool {
    listener.r#type() == Type::ZoneEgress && listener.state() == ListenerState::Ready
}

/// Whether a number is a port.
pub(crate) fn is_port(port: u32) -> bool {
    (1..=u32::from(u16::MAX)).contains(&port)
}
