//! Which policies apply where, and what they say: answers from the resources, without asking any proxy.

mod conf;
mod dataplanes;
mod destination;
mod layout;
mod policies;
mod route;
mod rules;

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Key, Kind, Resource};
use policy::{PolicySet, Proxy, Selected};
use store::Snapshot;

use super::PAGING;
use crate::app::App;
use crate::endpoint::Endpoint;
use crate::problem::Problem;

/// The paths of inspection.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let at = |path: &str| Endpoint::at(format!("/meshes/{{mesh}}/dataplanes/{{name}}/{path}"));
    vec![
        at("_layout").get(layout::get, "The inbounds, outbounds and listeners of a proxy"),
        at("_policies").get(policies::of_proxy, "Policies for a proxy as a whole"),
        at("_rules").get(rules::get, "Every rule that concerns a proxy"),
        at("_inbounds/{kri}/_policies").get(policies::of_inbound, "Policies for an inbound"),
        at("_outbounds/{kri}/_policies").get(policies::of_outbound, "Policies for an outbound"),
        at("_outbounds/{kri}/_routes").get(policies::routes, "The routes of an outbound"),
        at("_outbounds/{kri}/_routes/{route}/_policies")
            .get(policies::of_route, "Policies for a route of an outbound"),
        Endpoint::at("/meshes/{mesh}/meshservices/{name}/_dataplanes")
            .get(dataplanes::of_service, "The proxies that serve a MeshService")
            .query(&PAGING),
        Endpoint::at("/meshes/{mesh}/{path}/{name}/_resources/dataplanes")
            .of(|kind| kind.policy.is_some())
            .get(dataplanes::of_policy, "The proxies that a policy selects")
            .query(&PAGING),
        Endpoint::at("/meshes/{mesh}/{path}/{name}/dataplanes")
            .of(|kind| kind.policy.is_some())
            .get(dataplanes::of_policy_in_full, "The proxies that a policy selects")
            .deprecated(),
        at("policies")
            .get(dataplanes::attachments, "Policies of a proxy, of kinds that are gone")
            .deprecated(),
    ]
}

/// A proxy and what its policies are found in.
struct Inspected {
    snapshot: Arc<Snapshot>,
    dataplane: Arc<Resource>,
    zone: String,
}

impl Inspected {
    fn of(app: &App, mesh: &str, name: &str) -> Result<Self, Problem> {
        let snapshot = app.snapshot();
        App::require_mesh(&snapshot, mesh)?;
        let key = Key::new(Kind::DATAPLANE, mesh, name);
        let dataplane = snapshot.resource(&key).map(Arc::clone);
        let dataplane = dataplane.ok_or_else(|| Problem::not_found("Could not retrieve Dataplane"))?;
        Ok(Self { snapshot, dataplane, zone: app.plane().zone().unwrap_or_default().to_owned() })
    }

    fn mesh(&self) -> &str {
        self.dataplane.mesh()
    }

    fn proxy(&self) -> Proxy<'_> {
        Proxy::new(&self.dataplane, &self.zone)
    }

    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Arc<Resource>> {
        self.snapshot.in_mesh(kind, self.mesh())
    }

    /// The policies of a kind that select the proxy.
    fn selected(&self, kind: Kind) -> Selected {
        PolicySet::new(self.of_kind(kind)).select(&self.proxy())
    }

    /// The policies that select the proxy, kind by kind in the order in which kinds take effect.
    fn all_selected(&self) -> impl Iterator<Item = (Kind, Selected)> {
        let kinds: BTreeMap<_, _> =
            Kind::all().filter_map(|kind| Some(((kind.policy?.order, kind.name), kind))).collect();
        kinds
            .into_values()
            .map(|kind| (kind, self.selected(kind)))
            .filter(|(_, selected)| !selected.is_empty())
    }
}

/// Routes say where traffic goes, other policies how.
fn is_route(kind: Kind) -> bool {
    kind == Kind::MESH_HTTP_ROUTE || kind == Kind::MESH_TCP_ROUTE
}
