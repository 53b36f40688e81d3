//! The layout of a proxy: what comes in, what goes out, what it listens on for zones.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use model::spec::{Dataplane, labels_select};
use model::{Kind, Kri, Labels, Resource};
use proxy_config::spiffe;
use serde_json::{Value, json};

use super::Inspected;
use super::destination::{Port, SERVICES, ports};
use crate::app::Shared;
use crate::json;
use crate::problem::Problem;
use crate::routes::call::Answer;

/// GET of a proxy's layout.
pub(super) async fn get(State(app): State<Shared>, Path((mesh, name)): Path<(String, String)>) -> Answer {
    let inspected = Inspected::of(&app, &mesh, &name)?;
    let dataplane = &inspected.dataplane;
    let spec = dataplane.spec::<Dataplane>().map_err(|error| Problem::undecodable(&error))?;
    let kri = dataplane.kri();
    let section = |name: &str, port: u32| if name.is_empty() { port.to_string() } else { name.to_owned() };
    let of = |section: &str| kri.as_ref().map(|kri| kri.with_section(section));
    let networking = spec.networking.clone().unwrap_or_default();
    let inbounds: Vec<Value> = networking
        .inbound
        .iter()
        .map(|inbound| {
            let section = section(&inbound.name, inbound.port);
            json!({
                "kri": of(&section),
                "port": inbound.port,
                "protocol": inbound.protocol,
                "proxyResourceName": format!("self_inbound_dp_{section}"),
            })
        })
        .collect();
    let listeners: Vec<Value> = networking
        .listeners
        .iter()
        .map(|listener| {
            let section = section(&listener.name, listener.port);
            let r#type = listener.r#type().as_str_name();
            json!({
                "kri": of(&section),
                "port": listener.port,
                "type": r#type,
                "proxyResourceName": format!("self_{}_dp_{section}", r#type.to_lowercase()),
            })
        })
        .collect();
    let mut layout = json!({
        "kri": kri,
        "labels": if dataplane.labels().is_empty() { Value::Null } else { json!(dataplane.labels()) },
        "inbounds": inbounds,
        "outbounds": outbounds(&inspected, spec).iter().filter_map(|port| port.kri().map(|kri| (port, kri))).map(outbound).collect::<Vec<_>>(),
        "listeners": listeners,
    });
    if let (Some(id), Some(fields)) = (spiffe_id(&inspected), layout.as_object_mut()) {
        fields.insert("spiffeId".into(), json!(id));
    }
    Ok(json::ok(&layout))
}

fn outbound((port, kri): (&Port, Kri)) -> Value {
    json!({"kri": kri, "port": port.number, "protocol": port.protocol, "proxyResourceName": kri})
}

fn spiffe_id(inspected: &Inspected) -> Option<String> {
    let dataplane = &inspected.dataplane;
    let identity = spiffe::select(inspected.of_kind(Kind::MESH_IDENTITY), dataplane)?;
    spiffe::id(identity, dataplane, dataplane.zone().unwrap_or(&inspected.zone))
}

/// The ports that a proxy reaches: those it declares, else those of its reachable backends, else all.
fn outbounds(inspected: &Inspected, spec: &Dataplane) -> Vec<Port> {
    let networking = spec.networking.clone().unwrap_or_default();
    let transparent = networking.transparent_proxying.unwrap_or_default();
    let wanted: Option<Vec<Wanted>> = if !networking.outbound.is_empty() {
        let backends = networking.outbound.into_iter().filter_map(|outbound| outbound.backend_ref);
        Some(
            backends
                .map(|backend| Wanted {
                    kind: backend.kind,
                    name: backend.name,
                    namespace: String::new(),
                    labels: backend.labels,
                    port: Some(backend.port).filter(|port| *port > 0),
                })
                .collect(),
        )
    } else {
        transparent.reachable_backends.map(|backends| {
            let refs = backends.refs.into_iter();
            refs.map(|backend| Wanted {
                kind: backend.kind,
                name: backend.name,
                namespace: backend.namespace,
                labels: backend.labels,
                port: backend.port,
            })
            .collect()
        })
    };
    let mut found = BTreeMap::new();
    for port in SERVICES.iter().flat_map(|kind| inspected.of_kind(*kind)).flat_map(ports) {
        if wanted.as_ref().is_none_or(|wanted| wanted.iter().any(|one| one.is(&port.resource, port.number)))
            && let Some(kri) = port.kri()
        {
            found.entry(kri.to_string()).or_insert(port);
        }
    }
    found.into_values().collect()
}

/// A reference to a destination.
struct Wanted {
    kind: String,
    name: String,
    namespace: String,
    labels: Labels,
    port: Option<u32>,
}

impl Wanted {
    fn is(&self, resource: &Arc<Resource>, port: u32) -> bool {
        let named =
            self.name.is_empty() || resource.display_name() == self.name || resource.name() == self.name;
        resource.kind().name == self.kind
            && named
            && (self.namespace.is_empty() || resource.namespace() == Some(&self.namespace))
            && labels_select(&self.labels, resource)
            && self.port.is_none_or(|wanted| wanted == port)
    }
}
