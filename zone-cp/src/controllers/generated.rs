//! MeshServices and Workloads that follow from the proxies of the zone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::spec::{
    LabelSelector, MeshService, MeshServiceStatus, Protocol, ServicePort, ServiceSelector, ServiceState,
    ServiceTls, TargetPort, TlsStatus, Workload, WorkloadStatus,
};
use model::{Kind, Labels, Resource, Timestamp, labels, validation};

use super::plan::Plan;
use super::proxies::{self, Proxies};

/// Who manages generated MeshServices.
pub(crate) const SERVICE_GENERATOR: &str = "meshservice-generator";
/// Who manages generated Workloads.
pub(crate) const WORKLOAD_GENERATOR: &str = "workload-generator";

/// Wants one MeshService per workload whose proxies agree on their ports. One that has lost its last proxy is kept
/// for `grace`, marked, so that a redeployment keeps its virtual address; one that a user wrote is never touched.
pub(crate) fn mesh_services(
    plan: &mut Plan<'_>,
    proxies: &Proxies<'_>,
    workloads: &BTreeSet<Arc<str>>,
    grace: Duration,
) {
    for workload in workloads {
        let held = plan.find(Kind::MESH_SERVICE, workload);
        if may_write(plan, held.as_deref(), SERVICE_GENERATOR)
            && validation::is_dns1035_label(workload)
            && let Some(ports) = agreed_ports(&proxies.of_workload(workload))
        {
            want_service(plan, workload, ports, held.as_deref());
        }
        let wanted = plan.find(Kind::MESH_SERVICE, workload);
        if let Some(wanted) = wanted.filter(|wanted| is_managed(plan, wanted, SERVICE_GENERATOR)) {
            follow_last_proxy(plan, proxies, &wanted, grace);
        }
    }
}

/// The ports of a workload's proxies; `None` while they differ, as they do in the middle of a roll-out, or have none.
fn agreed_ports(dataplanes: &[&Arc<Resource>]) -> Option<Vec<ServicePort>> {
    let mut agreed: Option<Vec<ServicePort>> = None;
    for dataplane in dataplanes {
        let mut ports: Vec<ServicePort> = proxies::inbounds(dataplane)
            .map(|inbound| ServicePort {
                name: Some(if inbound.name.is_empty() {
                    inbound.port.to_string()
                } else {
                    inbound.name.clone()
                }),
                port: inbound.port,
                target_port: Some(TargetPort::Number(inbound.port)),
                app_protocol: Protocol::parse(&inbound.protocol).unwrap_or_default().as_str().into(),
            })
            .collect();
        ports.sort_by(|a, b| (a.port, &a.name).cmp(&(b.port, &b.name)));
        ports.dedup_by_key(|port| port.port);
        match &agreed {
            Some(agreed) if *agreed != ports => return None,
            Some(_) => {}
            None => agreed = Some(ports),
        }
    }
    agreed.filter(|ports| !ports.is_empty())
}

fn want_service(plan: &mut Plan<'_>, name: &str, ports: Vec<ServicePort>, held: Option<&Resource>) {
    let by_workload = LabelSelector { match_labels: Labels::from([(labels::WORKLOAD.into(), name.into())]) };
    let selector = ServiceSelector { dataplane_labels: Some(by_workload), dataplane_ref: None };
    let known = held.and_then(|held| held.spec::<MeshService>().ok());
    let spec = MeshService {
        state: known.map_or(ServiceState::Unavailable, |known| known.state),
        selector,
        ports,
        identities: known.map(|known| known.identities.clone()).unwrap_or_default(),
    };
    if known == Some(&spec) {
        return;
    }
    let builder = match held {
        Some(held) => held.to_builder(),
        None => {
            let tls = ServiceTls { status: Some(TlsStatus::NotReady) };
            Resource::builder(model::Key::new(Kind::MESH_SERVICE, plan.mesh, name))
                .labels(plan.labels(Kind::MESH_SERVICE, name, SERVICE_GENERATOR))
                .status(&MeshServiceStatus { tls, ..MeshServiceStatus::default() })
        }
    };
    plan.put(builder.spec(&spec));
}

fn follow_last_proxy(plan: &mut Plan<'_>, proxies: &Proxies<'_>, held: &Resource, grace: Duration) {
    if proxies.has_workload(held.name()) {
        if held.label(labels::GRACE_PERIOD_STARTED_AT).is_some() {
            let mut builder = held.to_builder();
            builder.labels.remove(labels::GRACE_PERIOD_STARTED_AT);
            plan.put(builder);
        }
        return;
    }
    retire(plan, held, grace);
}

/// Marks a resource that nothing needs any more, and removes it when it has been marked for `grace`.
pub(crate) fn retire(plan: &mut Plan<'_>, held: &Resource, grace: Duration) {
    let marked = held.label(labels::GRACE_PERIOD_STARTED_AT).and_then(Timestamp::parse);
    let end = marked.unwrap_or(plan.now).plus(grace);
    if end <= plan.now {
        plan.remove(held.key());
        return;
    }
    plan.wake_at(held.key(), end);
    if marked.is_none() {
        plan.put(held.to_builder().label(labels::GRACE_PERIOD_STARTED_AT, &plan.now.to_string()));
    }
}

/// Wants one Workload per workload label, with the counts of its proxies.
pub(crate) fn workloads(plan: &mut Plan<'_>, proxies: &Proxies<'_>, workloads: &BTreeSet<Arc<str>>) {
    for workload in workloads {
        let held = plan.find(Kind::WORKLOAD, workload);
        if held.as_deref().is_some_and(|held| !plan.is_own(held)) {
            continue;
        }
        let dataplanes = proxies.of_workload(workload);
        if dataplanes.is_empty() {
            match held {
                Some(held) if is_managed(plan, &held, WORKLOAD_GENERATOR) => plan.remove(held.key()),
                Some(held) => plan.put_status(&held, &WorkloadStatus::default()),
                None => {}
            }
        } else if validation::is_dns1035_label(workload) {
            let dataplane_proxies = proxies::count(plan.snapshot(), &dataplanes, proxies::serves_all);
            want_workload(plan, workload, held.as_deref(), &WorkloadStatus { dataplane_proxies });
        }
    }
}

fn want_workload(plan: &mut Plan<'_>, name: &str, held: Option<&Resource>, status: &WorkloadStatus) {
    match held {
        Some(held) => plan.put_status(held, status),
        None => {
            let labels = plan.labels(Kind::WORKLOAD, name, WORKLOAD_GENERATOR);
            let builder = Resource::builder(model::Key::new(Kind::WORKLOAD, plan.mesh, name));
            plan.put(builder.labels(labels).spec(&Workload {}).status(status));
        }
    }
}

fn may_write(plan: &Plan<'_>, held: Option<&Resource>, manager: &str) -> bool {
    held.is_none_or(|held| is_managed(plan, held, manager))
}

fn is_managed(plan: &Plan<'_>, held: &Resource, manager: &str) -> bool {
    plan.is_own(held) && held.label(labels::MANAGED_BY) == Some(manager)
}
