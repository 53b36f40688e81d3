//! A small mesh: resources as the store holds them after the zone's controllers ran.

use std::collections::BTreeMap;
use std::sync::Arc;

use kds_proto::mesh::dataplane::Networking;
use kds_proto::mesh::dataplane::networking::listener::Type;
use kds_proto::mesh::dataplane::networking::outbound::BackendRef;
use kds_proto::mesh::dataplane::networking::{Inbound, Listener, Outbound, TransparentProxying};
use model::resource::Builder;
use model::spec::{
    Address, CaBundle, Condition, Dataplane, DataplaneRef, ExternalEndpoint, ExternalMatch, IdentitySelector,
    LabelSelector, MeshExternalService, MeshExternalServiceStatus, MeshIdentity, MeshIdentityStatus,
    MeshMultiZoneService, MeshMultiZoneServiceStatus, MeshService, MeshServiceStatus, MeshTrust,
    MeshZoneAddress, MultiZonePort, MultiZoneSelector, ServiceIdentity, ServicePort, ServiceSelector,
    ServiceState, ServiceTls, TlsStatus, Vip,
};
use model::{Key, Kind, Kri, Payload, Resource};
use prost_types::value::Kind as ValueKind;
use prost_types::{ListValue, Struct, Value};
use proxy_config::{AdminTls, Identity, MeshView, Metadata, Proxy, Settings, generate};
use serde_json::Value as Json;
use store::Snapshot;

pub(crate) const MESH: &str = "default";
pub(crate) const ZONE: &str = "east";

/// What stands for certificates where none is looked at: it decodes.
pub(crate) const PEM: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

fn builder(kind: Kind, name: &str, zone: &str) -> Builder {
    Resource::builder(Key::new(kind, MESH, name))
        .label("kuma.io/display-name", name)
        .label("kuma.io/zone", zone)
}

pub(crate) fn inbound(port: u32, service_port: u32, protocol: &str) -> Inbound {
    Inbound { port, service_port, protocol: protocol.into(), ..Inbound::default() }
}

pub(crate) fn redirected() -> Option<TransparentProxying> {
    Some(TransparentProxying {
        redirect_port_inbound: 15006,
        redirect_port_outbound: 15001,
        ..TransparentProxying::default()
    })
}

pub(crate) fn dataplane(name: &str, networking: Networking) -> Builder {
    builder(Kind::DATAPLANE, name, ZONE)
        .label("kuma.io/workload", name)
        .spec(&Dataplane { networking: Some(networking) })
}

/// A proxy with one inbound, reached by redirection.
pub(crate) fn workload(name: &str, address: &str, inbound: Inbound) -> Resource {
    let networking = Networking {
        address: address.into(),
        inbound: vec![inbound],
        transparent_proxying: redirected(),
        ..Networking::default()
    };
    dataplane(name, networking).build()
}

/// A proxy that declares its outbounds: address, port and the display name of a MeshService.
pub(crate) fn client(name: &str, outbounds: &[(&str, u32, &str, u32)]) -> Resource {
    let outbound = |(address, port, service, service_port): &(&str, u32, &str, u32)| Outbound {
        address: (*address).into(),
        port: *port,
        backend_ref: Some(BackendRef {
            kind: "MeshService".into(),
            port: *service_port,
            labels: BTreeMap::from([("kuma.io/display-name".into(), (*service).into())]),
            ..BackendRef::default()
        }),
    };
    let networking = Networking {
        address: "10.0.0.9".into(),
        outbound: outbounds.iter().map(outbound).collect(),
        ..Networking::default()
    };
    dataplane(name, networking).build()
}

/// An ingress or egress of the zone.
pub(crate) fn zone_proxy(name: &str, kind: Type, address: &str, port: u32) -> Resource {
    let listener = Listener { r#type: kind.into(), port, name: "main".into(), ..Listener::default() };
    let networking =
        Networking { address: address.into(), listeners: vec![listener], ..Networking::default() };
    dataplane(name, networking).build()
}

fn spiffe(zone: &str, workload: &str) -> String {
    format!("spiffe://{MESH}.{zone}.mesh.local/workload/{workload}")
}

pub(crate) fn service_spec(zone: &str, workload: &str, port: u32, protocol: &str) -> MeshService {
    MeshService {
        state: ServiceState::Available,
        selector: ServiceSelector {
            dataplane_ref: (zone == ZONE).then(|| DataplaneRef { name: workload.into() }),
            dataplane_labels: None,
        },
        ports: vec![ServicePort { name: None, port, target_port: None, app_protocol: protocol.into() }],
        identities: vec![ServiceIdentity {
            r#type: ServiceIdentity::SPIFFE.into(),
            value: spiffe(zone, workload),
        }],
    }
}

fn hostname(hostname: &str) -> Vec<Address> {
    vec![Address { hostname: hostname.into(), ..Address::default() }]
}

/// A service with the proxy of the same name behind it.
pub(crate) fn service(zone: &str, name: &str, vip: &str, port: u32, protocol: &str) -> Resource {
    let status = MeshServiceStatus {
        vips: vec![Vip { ip: vip.into() }],
        addresses: hostname(&format!("{name}.svc.{zone}.mesh.local")),
        tls: ServiceTls { status: Some(TlsStatus::Ready) },
        ..MeshServiceStatus::default()
    };
    let stored = if zone == ZONE { name.to_owned() } else { format!("{name}-{zone}") };
    builder(Kind::MESH_SERVICE, &stored, zone)
        .label("kuma.io/display-name", name)
        .label("service", name)
        .spec(&service_spec(zone, name, port, protocol))
        .status(&status)
        .build()
}

/// A service over all zones that have one of the same name.
pub(crate) fn multi_zone(name: &str, vip: &str, port: u32, protocol: &str) -> Resource {
    let selector = LabelSelector { match_labels: BTreeMap::from([("service".into(), name.into())]) };
    let spec = MeshMultiZoneService {
        selector: MultiZoneSelector { mesh_service: selector },
        ports: vec![MultiZonePort { name: None, port, app_protocol: protocol.into() }],
    };
    let status = MeshMultiZoneServiceStatus {
        vips: vec![Vip { ip: vip.into() }],
        ..MeshMultiZoneServiceStatus::default()
    };
    Resource::builder(Key::new(Kind::MESH_MULTI_ZONE_SERVICE, MESH, name))
        .label("kuma.io/display-name", name)
        .label("kuma.io/origin", "global")
        .spec(&spec)
        .status(&status)
        .build()
}

pub(crate) fn external_spec(address: &str, protocol: &str) -> MeshExternalService {
    let endpoint = ExternalEndpoint { address: address.into(), port: 443, priority: None };
    MeshExternalService {
        r#match: ExternalMatch { port: 443, protocol: protocol.into(), ..ExternalMatch::default() },
        endpoints: Some(vec![endpoint]),
        ..MeshExternalService::default()
    }
}

pub(crate) fn external(name: &str, vip: &str, spec: &MeshExternalService) -> Resource {
    let status = MeshExternalServiceStatus {
        vip: Some(Vip { ip: vip.into() }),
        addresses: hostname(&format!("{name}.extsvc.mesh.local")),
        ..MeshExternalServiceStatus::default()
    };
    builder(Kind::MESH_EXTERNAL_SERVICE, name, ZONE).spec(spec).status(&status).build()
}

/// The way into another zone.
pub(crate) fn zone_address(zone: &str, address: &str, port: u32) -> Resource {
    let spec = MeshZoneAddress { address: address.into(), port };
    builder(Kind::MESH_ZONE_ADDRESS, &format!("ingress-{zone}"), zone).spec(&spec).build()
}

pub(crate) fn trust(zone: &str, pem: &str) -> Resource {
    let spec =
        MeshTrust { trust_domain: format!("{MESH}.{zone}.mesh.local"), ca_bundles: vec![CaBundle::pem(pem)] };
    builder(Kind::MESH_TRUST, &format!("trust-{zone}"), zone).spec(&spec).build()
}

pub(crate) fn mesh_identity() -> Resource {
    let dataplane = Some(LabelSelector::default());
    let spec = MeshIdentity { selector: Some(IdentitySelector { dataplane }), ..MeshIdentity::default() };
    let conditions = vec![Condition::new(MeshIdentity::READY, true, "Ready", "")];
    builder(Kind::MESH_IDENTITY, "identity", ZONE)
        .spec(&spec)
        .status(&MeshIdentityStatus { conditions })
        .build()
}

pub(crate) fn policy(kind: Kind, name: &str, spec: &Json) -> Resource {
    let mut builder = builder(kind, name, ZONE);
    builder.spec = Payload::from_bytes(spec.to_string());
    builder.build()
}

pub(crate) fn snapshot(resources: impl IntoIterator<Item = Resource>) -> Snapshot {
    resources.into_iter().fold(Snapshot::default(), Snapshot::with)
}

fn string(text: &str) -> Value {
    Value { kind: Some(ValueKind::StringValue(text.into())) }
}

pub(crate) fn metadata(workdir: &str) -> Metadata {
    let features = ["feature-strict-inbound-ports", "feature-reuse-port"].map(string).to_vec();
    let features = Value { kind: Some(ValueKind::ListValue(ListValue { values: features })) };
    let fields = BTreeMap::from([
        ("dataplane.admin.port".into(), string("9901")),
        ("dataplane.readinessReporter.port".into(), string("9902")),
        ("dataplane.dns.port".into(), string("15053")),
        ("dataplane.admin.socketPath".into(), string(&format!("{workdir}/admin.sock"))),
        ("workdir".into(), string(workdir)),
        ("features".into(), features),
    ]);
    Metadata::from_struct(&Struct { fields })
}

pub(crate) fn identity(workload: &str) -> Identity {
    let kri = Kri::of(&mesh_identity()).expect("identities have one");
    Identity::without_key(kri, spiffe(ZONE, workload))
}

/// The configuration of a proxy of the mesh as people read it.
pub(crate) fn shown(snapshot: &Snapshot, name: &str, with_identity: bool) -> Json {
    let view = MeshView::new(snapshot, MESH, ZONE);
    let dataplane = snapshot.resource(&Key::new(Kind::DATAPLANE, MESH, name)).expect("the proxy is there");
    let proxy =
        Proxy::new(Arc::clone(dataplane), metadata("/tmp")).with_admin_tls(Arc::new(AdminTls::blank()));
    let identity = with_identity.then(|| identity(name));
    generate(&view, &proxy, identity.as_ref(), &Settings::default()).to_json()
}

/// One resource of a shown configuration.
pub(crate) fn resource<'a>(config: &'a Json, kind: &str, name: &str) -> &'a Json {
    let of_kind = config.as_object().expect("types").iter().find(|(url, _)| url.ends_with(kind));
    of_kind.map_or(&Json::Null, |(_, resources)| &resources[name])
}

/// Names of the resources of a type.
pub(crate) fn names<'a>(config: &'a Json, kind: &str) -> Vec<&'a str> {
    let of_kind = config.as_object().expect("types").iter().find(|(url, _)| url.ends_with(kind));
    let resources = of_kind.and_then(|(_, resources)| resources.as_object());
    resources.into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}
