//! Numbers over everything a control plane knows, read from the tally.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use model::spec::MeshInsight;
use model::spec::mesh_insight::{DataplaneStat, DataplanesByType, DpVersions, Mtls, ResourceStat};
use model::{Key, Kind, Resource, Scope};
use serde::Serialize;
use serde_json::{Value, json};
use store::Snapshot;

use super::call::{Answer, Call};
use crate::app::{App, Shared};
use crate::json;
use crate::tally::{Condition, Counter, Role, Tally};

/// How many of something are in which state.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct States {
    online: usize,
    offline: usize,
    partially_degraded: usize,
    total: usize,
}

impl States {
    fn add(&mut self, condition: Condition, count: usize) {
        self.total += count;
        match condition {
            Condition::Online => self.online += count,
            Condition::Offline => self.offline += count,
            Condition::Degraded => self.partially_degraded += count,
        }
    }

    fn stat(self) -> DataplaneStat {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        DataplaneStat {
            total: number(self.total),
            online: number(self.online),
            offline: number(self.offline),
            partially_degraded: number(self.partially_degraded),
        }
    }
}

/// Counters by what they are about.
#[derive(Default)]
struct Sums {
    roles: BTreeMap<Role, States>,
    services: States,
    agents: BTreeMap<Arc<str>, States>,
    envoys: BTreeMap<Arc<str>, States>,
    issuers: BTreeMap<Arc<str>, States>,
    trusted: BTreeMap<Arc<str>, States>,
    resources: BTreeMap<Kind, usize>,
    online_zones: usize,
}

impl Sums {
    fn of<'a>(counters: impl Iterator<Item = (&'a Counter, usize)>) -> Self {
        let mut sums = Self::default();
        for (counter, count) in counters {
            match counter {
                Counter::Resources(kind) => *sums.resources.entry(*kind).or_default() += count,
                Counter::Proxies(role, one) => sums.roles.entry(*role).or_default().add(*one, count),
                Counter::Agent(name, one) => add(&mut sums.agents, name, *one, count),
                Counter::Envoy(name, one) => add(&mut sums.envoys, name, *one, count),
                Counter::IssuedBy(name, one) => add(&mut sums.issuers, name, *one, count),
                Counter::Trusts(name, one) => add(&mut sums.trusted, name, *one, count),
                Counter::Services(one) => sums.services.add(*one, count),
                Counter::OnlineZones => sums.online_zones += count,
            }
        }
        sums
    }

    fn role(&self, role: Role) -> States {
        self.roles.get(&role).copied().unwrap_or_default()
    }

    fn count(&self, kind: Kind) -> usize {
        self.resources.get(&kind).copied().unwrap_or_default()
    }

    fn totals(&self, wanted: impl Fn(Kind) -> bool) -> BTreeMap<&'static str, Value> {
        let kinds = Kind::all().filter(|kind| kind.path.is_some() && wanted(*kind));
        kinds.map(|kind| (kind.info().name, json!({"total": self.count(kind)}))).collect()
    }
}

fn add(states: &mut BTreeMap<Arc<str>, States>, name: &Arc<str>, condition: Condition, count: usize) {
    states.entry(Arc::clone(name)).or_default().add(condition, count);
}

/// GET of the numbers over all kinds.
pub(super) async fn global(State(app): State<Shared>, _call: Call) -> Answer {
    let sums = app.tally(|tally| Sums::of(tally.all()));
    let proxies = |role: Role| {
        let states = sums.role(role);
        json!({"online": states.online, "total": states.total})
    };
    let policies: usize = Kind::all().filter(|kind| kind.policy.is_some()).map(|kind| sums.count(kind)).sum();
    Ok(json::ok(&json!({
        "createdAt": App::now(),
        "dataplanes": {"standard": sums.role(Role::Standard), "gatewayDelegated": sums.role(Role::Gateway)},
        "meshes": {"total": sums.count(Kind::MESH)},
        "policies": {"total": policies},
        "resources": sums.totals(|kind| !kind.read_only),
        "services": {
            "internal": sums.services,
            "external": {"total": sums.count(Kind::MESH_EXTERNAL_SERVICE)},
            "gatewayDelegated": States::default(),
        },
        "zones": {
            "controlPlanes": {"online": sums.online_zones, "total": sums.count(Kind::ZONE)},
            "zoneEgresses": proxies(Role::Egress),
            "zoneIngresses": proxies(Role::Ingress),
        },
    })))
}

/// GET of the older numbers: kinds of global scope only.
pub(super) async fn legacy(State(app): State<Shared>, _call: Call) -> Answer {
    let of_users = |kind: Kind| kind.scope == Scope::Global && !kind.read_only;
    let totals = app.tally(|tally| Sums::of(tally.all()).totals(of_users));
    Ok(json::ok(&json!({"type": "GlobalInsights", "creationTime": App::now(), "resources": totals})))
}

/// The insight of a mesh: as another control plane stored it, else as it is counted here.
pub(super) fn of_mesh(app: &App, snapshot: &Snapshot, name: &str) -> Option<Arc<Resource>> {
    let mesh = snapshot.resource(&Key::global(Kind::MESH, name))?;
    let key = Key::global(Kind::MESH_INSIGHT, name);
    if let Some(stored) = snapshot.resource(&key) {
        return Some(Arc::clone(stored));
    }
    let insight = app.tally(|tally| counted(tally, name));
    let mut builder = Resource::builder(key).spec(&insight);
    (builder.created, builder.modified) = (mesh.created(), mesh.modified());
    Some(Arc::new(builder.build()))
}

fn counted(tally: &Tally, mesh: &str) -> MeshInsight {
    let sums = Sums::of(tally.of_mesh(mesh));
    let stats = |states: &BTreeMap<Arc<str>, States>| {
        states.iter().map(|(name, states)| (name.to_string(), states.stat())).collect()
    };
    let (standard, gateway) = (sums.role(Role::Standard), sums.role(Role::Gateway));
    let mut all = standard;
    for (condition, count) in [
        (Condition::Online, gateway.online),
        (Condition::Offline, gateway.offline),
        (Condition::Degraded, gateway.partially_degraded),
    ] {
        all.add(condition, count);
    }
    let resources = sums.resources.iter().filter(|(kind, _)| !kind.read_only);
    MeshInsight {
        dataplanes: Some(all.stat()),
        dp_versions: Some(DpVersions { kuma_dp: stats(&sums.agents), envoy: stats(&sums.envoys) }),
        m_tls: Some(Mtls { issued_backends: stats(&sums.issuers), supported_backends: stats(&sums.trusted) }),
        dataplanes_by_type: Some(DataplanesByType {
            standard: Some(standard.stat()),
            gateway: Some(gateway.stat()),
            gateway_delegated: Some(gateway.stat()),
        }),
        resources: resources
            .map(|(kind, count)| {
                let total = u32::try_from(*count).unwrap_or(u32::MAX);
                (kind.info().name.to_owned(), ResourceStat { total })
            })
            .collect(),
    }
}
