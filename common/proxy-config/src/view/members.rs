//! The proxies of a mesh as destinations see them: ready inbounds and zone listeners, found by label or name.

use std::net::IpAddr;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
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
    /// Host names that stand where it needs addresses.
    hosts: Vec<String>,
}

/// A proxy that is another one, came or went: before and after.
pub(crate) type Change = (Option<Arc<Member>>, Option<Arc<Member>>);

/// The proxies of a mesh. Copies share what is equal: a change costs what it touches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members {
    by_name: OrdMap<Arc<str>, Arc<Member>>,
    /// Names by label and value; the display name counts as its label.
    by_label: OrdMap<String, OrdMap<String, OrdSet<Arc<str>>>>,
    /// Those that take connections to what is outside the mesh.
    egresses: OrdSet<Arc<str>>,
    /// Those with host names.
    named: OrdSet<Arc<str>>,
}

impl Members {
    /// Puts a proxy in its place.
    pub(crate) fn put(&mut self, dataplane: &Arc<Resource>, names: &Names<'_>) -> Change {
        let before = self.remove(dataplane.name()).0;
        let Some(member) = Member::of(dataplane, names).map(Arc::new) else { return (before, None) };
        let name = Arc::clone(&dataplane.key().name);
        for (label, value) in labels_of(&member) {
            let values = self.by_label.entry(label.to_owned()).or_default();
            values.entry(value.to_owned()).or_default().insert(Arc::clone(&name));
        }
        if !member.egress.is_empty() {
            self.egresses.insert(Arc::clone(&name));
        }
        if !member.hosts.is_empty() {
            self.named.insert(Arc::clone(&name));
        }
        self.by_name.insert(name, Arc::clone(&member));
        (before, Some(member))
    }

    /// Takes a proxy out.
    pub(crate) fn remove(&mut self, name: &str) -> Change {
        let Some(member) = self.by_name.remove(name) else { return (None, None) };
        for (label, value) in labels_of(&member) {
            let Some(values) = self.by_label.get_mut(label) else { continue };
            let Some(held) = values.get_mut(value) else { continue };
            held.remove(name);
            if held.is_empty() {
                values.remove(value);
            }
        }
        self.egresses.remove(name);
        self.named.remove(name);
        (Some(member), None)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.by_name.values()
    }

    /// Those that take connections to what is outside the mesh.
    pub(crate) fn egresses(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.egresses.iter().filter_map(|name| self.by_name.get(name))
    }

    /// Host names that stand where addresses are needed.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &String> {
        self.named.iter().filter_map(|name| self.by_name.get(name)).flat_map(|member| &member.hosts)
    }

    /// The proxy of a name.
    pub(crate) fn named(&self, name: &str) -> Option<&Arc<Member>> {
        self.by_name.get(name)
    }

    /// The proxies that have all labels: looks only at those with the rarest one.
    pub(crate) fn select<'a>(
        &'a self,
        selector: &'a LabelSelector,
    ) -> Box<dyn Iterator<Item = &'a Arc<Member>> + 'a> {
        let held = |label: &str, value: &str| self.by_label.get(label).and_then(|values| values.get(value));
        let wanted: Option<Vec<_>> =
            selector.match_labels.iter().map(|(label, value)| held(label, value)).collect();
        let Some(wanted) = wanted else { return Box::new(std::iter::empty()) };
        match wanted.into_iter().min_by_key(|names| names.len()) {
            None => Box::new(self.iter()),
            Some(names) => {
                let members = names.iter().filter_map(|name| self.by_name.get(name));
                Box::new(members.filter(|member| selector.selects(&member.dataplane)))
            }
        }
    }
}

/// Labels under which a proxy is found.
fn labels_of(member: &Member) -> impl Iterator<Item = (&str, &str)> {
    let dataplane = &member.dataplane;
    let own = dataplane.labels().iter().filter(|(label, _)| *label != labels::DISPLAY_NAME);
    own.map(|(label, value)| (label.as_str(), value.as_str()))
        .chain([(labels::DISPLAY_NAME, dataplane.display_name())])
}

impl Member {
    /// `None` for what cannot be read.
    fn of(dataplane: &Arc<Resource>, names: &Names<'_>) -> Option<Self> {
        let networking = dataplane.spec::<Dataplane>().ok()?.networking.as_ref()?;
        let mut hosts = Vec::new();
        let plain = Arc::new(dataplane.labels().clone());
        let ports = networking.inbound.iter().filter(|inbound| is_ready(inbound)).filter_map(|inbound| {
            let address = names.address(inbound_address(networking, inbound), &mut hosts)?;
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
            Some((names.address(own, &mut hosts)?, listener.port)).filter(|(_, port)| is_port(*port))
        });
        let egress = egress.collect();
        Some(Self { dataplane: Arc::clone(dataplane), ports, egress, hosts })
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
