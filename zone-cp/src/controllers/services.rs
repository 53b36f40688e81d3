//! What this zone observes of its MeshServices and of what MeshMultiZoneServices are made of.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::payload::Payload;
use model::resource::Builder;
use model::spec::{
    Condition, MatchedMeshService, MeshMultiZoneService, MeshMultiZoneServiceStatus, MeshService,
    MeshServiceStatus, MeshTrust, ServiceIdentity, ServiceState, TlsStatus,
};
use model::{Kind, Resource};
use proxy_config::spiffe;
use serde_json::{Value, json};

use super::index::multi_zone_of;
use super::plan::Plan;
use super::proxies::{self, Proxies};

/// Condition of a MeshMultiZoneService: something is selected.
const MATCHED: &str = "MeshServicesMatched";

/// State, identities, TLS and counts of those of the MeshServices that are the zone's own. Those of other zones are observed there.
pub(crate) fn mesh_services(plan: &mut Plan<'_>, proxies: &Proxies<'_>, services: &BTreeSet<Arc<str>>) {
    if services.is_empty() {
        return;
    }
    let identities = plan.list(Kind::MESH_IDENTITY);
    let trusted = trust_domains(plan);
    for name in services {
        let Some(held) = plan.find(Kind::MESH_SERVICE, name) else { continue };
        let Ok(spec) = held.spec::<MeshService>() else { continue };
        if !plan.is_own(&held) {
            continue;
        }
        let dataplanes = proxies.of_service(spec);
        let available = dataplanes.iter().any(|dataplane| proxies::serves(dataplane, spec));
        let state = if available { ServiceState::Available } else { ServiceState::Unavailable };
        let mut ids = BTreeSet::new();
        let mut all_trusted = !dataplanes.is_empty();
        for dataplane in &dataplanes {
            let identity = spiffe::select(&identities, dataplane);
            let id = identity.and_then(|identity| spiffe::id(identity, dataplane, plan.zone()));
            let domain = identity.and_then(|identity| spiffe::trust_domain(identity, plan.zone()));
            all_trusted &= id.is_some() && domain.is_some_and(|domain| trusted.contains(&domain));
            ids.extend(id.map(|value| ServiceIdentity { r#type: ServiceIdentity::SPIFFE.into(), value }));
        }
        let mut status = held.status::<MeshServiceStatus>().cloned().unwrap_or_default();
        // One way only: a service that went back would be sent plain text by those who have no identity yet.
        if all_trusted {
            status.tls.status = Some(TlsStatus::Ready);
        } else {
            status.tls.status.get_or_insert(TlsStatus::NotReady);
        }
        status.dataplane_proxies =
            proxies::count(plan.snapshot(), &dataplanes, |dataplane| proxies::serves(dataplane, spec));
        match observed_spec(&held, spec, state, ids) {
            None => plan.put_status(&held, &status),
            Some(spec) => plan.put(Builder { spec, ..held.to_builder().status(&status) }),
        }
    }
}

/// The spec with what is observed, and everything else as its author wrote it; `None` if it says so already.
fn observed_spec(
    held: &Resource,
    spec: &MeshService,
    state: ServiceState,
    ids: BTreeSet<ServiceIdentity>,
) -> Option<Payload> {
    let ids: Vec<_> = ids.into_iter().collect();
    if spec.state == state && spec.identities == ids {
        return None;
    }
    let Ok(Value::Object(mut document)) = serde_json::from_slice(held.raw_spec().bytes()) else {
        return None;
    };
    document.insert("state".into(), json!(state));
    if ids.is_empty() {
        document.remove("identities");
    } else {
        document.insert("identities".into(), json!(ids));
    }
    Some(Payload::from_bytes(Value::Object(document).to_string()))
}

fn trust_domains(plan: &Plan<'_>) -> BTreeSet<String> {
    let trusts = plan.list(Kind::MESH_TRUST);
    let domain = |trust: &Arc<Resource>| trust.spec::<MeshTrust>().ok().map(|spec| spec.trust_domain.clone());
    trusts.iter().filter_map(domain).collect()
}

/// Which MeshServices, of whatever zone, make up each MeshMultiZoneService.
pub(crate) fn multi_zone_services(plan: &mut Plan<'_>, names: &BTreeSet<Arc<str>>) {
    let mut names = names.clone();
    let (base, next) = (plan.base(), plan.snapshot());
    for key in next.changed_keys(base, Kind::MESH_SERVICE) {
        let [before, after] = [base, next].map(|snapshot| snapshot.resource(&key).map(|held| &**held));
        names.extend(multi_zone_of(next, &key, before, after));
    }
    for name in names {
        let Some(held) = plan.find(Kind::MESH_MULTI_ZONE_SERVICE, &name) else { continue };
        let Ok(spec) = held.spec::<MeshMultiZoneService>() else { continue };
        let selector = &spec.selector.mesh_service;
        let matched: BTreeSet<MatchedMeshService> = plan
            .snapshot()
            .in_mesh(Kind::MESH_SERVICE, plan.mesh)
            .filter(|service| selector.selects(service))
            .map(|service| MatchedMeshService {
                name: service.display_name().into(),
                namespace: service.namespace().unwrap_or_default().into(),
                zone: service.zone().unwrap_or_default().into(),
                mesh: service.mesh().into(),
            })
            .collect();
        let reason = if matched.is_empty() { "NoMatchesFound" } else { "MatchesFound" };
        let condition = Condition::new(MATCHED, !matched.is_empty(), reason, "");
        let mut status = held.status::<MeshMultiZoneServiceStatus>().cloned().unwrap_or_default();
        status.mesh_services = matched.into_iter().collect();
        status.conditions = vec![condition];
        plan.put_status(&held, &status);
    }
}
