//! What a configuration was made from: as long as that stands, so does the configuration, and nothing has to be made
//! to know it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use model::{Kind, Resource};
use policy::{Policy, PolicySet};

use super::Context;
use crate::outbounds::Outbound;
use crate::proxy::Proxy;
use crate::settings::Settings;
use crate::view::{MeshView, Services, Trust};

/// What the configuration of a proxy was made from, its identity and what it says of itself aside.
#[derive(Debug)]
pub struct Inputs {
    dataplane: Arc<Resource>,
    outbounds: Vec<Outbound>,
    /// All destinations, for proxies that look at more than their outbounds.
    all: Option<Arc<Services>>,
    shape: Arc<()>,
    policies: BTreeMap<Kind, (PolicySet, Vec<Arc<Policy>>)>,
    tags_in_header: bool,
    shared: Shared,
}

/// What all proxies of a mesh look at.
#[derive(Debug)]
struct Shared {
    identities: Arc<[Arc<Resource>]>,
    trust: Arc<Trust>,
    secrets: Arc<BTreeMap<Arc<str>, Arc<Resource>>>,
    collectors: Arc<[Arc<Resource>]>,
    resolved: Arc<BTreeMap<String, IpAddr>>,
}

impl Shared {
    fn of(view: &MeshView) -> Self {
        Self {
            identities: Arc::clone(&view.identities),
            trust: Arc::clone(&view.trust),
            secrets: Arc::clone(&view.secrets),
            collectors: Arc::clone(&view.collectors),
            resolved: Arc::clone(&view.resolved),
        }
    }

    fn is_of(&self, view: &MeshView) -> bool {
        Arc::ptr_eq(&self.identities, &view.identities)
            && Arc::ptr_eq(&self.trust, &view.trust)
            && Arc::ptr_eq(&self.secrets, &view.secrets)
            && Arc::ptr_eq(&self.collectors, &view.collectors)
            && Arc::ptr_eq(&self.resolved, &view.resolved)
    }
}

/// Policies whose backends can be any destinations.
const ROUTES: [Kind; 2] = [Kind::MESH_HTTP_ROUTE, Kind::MESH_TCP_ROUTE];

impl Inputs {
    /// What [`generate`](super::generate) would look at. `None` for a Dataplane that cannot be read, and for proxies
    /// that look at the others of the mesh one by one: theirs are made anew with each view.
    pub fn of(view: &MeshView, proxy: &Proxy, settings: &Settings) -> Option<Self> {
        let context = Context::new(view, proxy, None, settings)?;
        let calls_directly = |it: &kds_proto::mesh::dataplane::networking::TransparentProxying| {
            !it.direct_access_services.is_empty()
        };
        if context.networking.transparent_proxying.as_ref().is_some_and(calls_directly) {
            return None;
        }
        let policies: BTreeMap<_, _> = view
            .policies
            .iter()
            .map(|(kind, set)| (*kind, (set.clone(), selected(set, view, proxy, settings))))
            .collect();
        let is_routed =
            ROUTES.iter().any(|kind| policies.get(kind).is_some_and(|(_, selected)| !selected.is_empty()));
        let looks_at_all = is_routed || !context.networking.listeners.is_empty();
        Some(Self {
            dataplane: Arc::clone(&proxy.dataplane),
            outbounds: context.outbounds,
            all: looks_at_all.then(|| Arc::clone(&view.services)),
            shape: Arc::clone(view.services.shape()),
            policies,
            tags_in_header: view.tags_in_header(),
            shared: Shared::of(view),
        })
    }

    /// Whether a configuration that was made from these would be made again from a newer view. What is found out is
    /// remembered for the next view.
    pub fn stand(&mut self, view: &MeshView, proxy: &Proxy, settings: &Settings) -> bool {
        Arc::ptr_eq(&self.dataplane, &proxy.dataplane)
            && self.shared.is_of(view)
            && self.all.as_ref().is_none_or(|all| Arc::ptr_eq(all, &view.services))
            && self.tags_in_header == view.tags_in_header()
            && self.have_same_policies(view, proxy, settings)
            && self.have_same_outbounds(view, proxy, settings)
    }

    fn have_same_policies(&mut self, view: &MeshView, proxy: &Proxy, settings: &Settings) -> bool {
        self.policies.iter_mut().all(|(kind, (set, held))| {
            let Some(newer) = view.policies.get(kind) else { return false };
            if set.is(newer) {
                return true;
            }
            let found = selected(newer, view, proxy, settings);
            let is_same =
                found.len() == held.len() && found.iter().zip(&*held).all(|(a, b)| Arc::ptr_eq(a, b));
            if is_same {
                *set = newer.clone();
            }
            is_same
        })
    }

    fn have_same_outbounds(&mut self, view: &MeshView, proxy: &Proxy, settings: &Settings) -> bool {
        let services = &view.services;
        if Arc::ptr_eq(&self.shape, services.shape()) {
            return self.outbounds.iter().all(|held| {
                let found = services.get(&held.destination.name);
                found.is_some_and(|found| Arc::ptr_eq(found, &held.destination))
            });
        }
        let Some(context) = Context::new(view, proxy, None, settings) else { return false };
        let is_same = context.outbounds.len() == self.outbounds.len()
            && context
                .outbounds
                .iter()
                .zip(&self.outbounds)
                .all(|(a, b)| Arc::ptr_eq(&a.destination, &b.destination) && a.addresses == b.addresses);
        if is_same {
            self.shape = Arc::clone(services.shape());
        }
        is_same
    }

    /// The Dataplane that it is about.
    pub fn dataplane(&self) -> &Arc<Resource> {
        &self.dataplane
    }
}

fn selected(set: &PolicySet, view: &MeshView, proxy: &Proxy, settings: &Settings) -> Vec<Arc<Policy>> {
    let proxy = policy::Proxy::new(&proxy.dataplane, view.zone()).with_shadow(settings.shadow_policies);
    set.selecting(&proxy).cloned().collect()
}
