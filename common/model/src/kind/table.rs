//! The table of kinds: one row each, ordered by name. A row starts from its shape ([`proto_kind`],
//! [`json_kind`] or [`policy`]) and adds what is particular to it.

use schemars::JsonSchema;

use super::{Flow, KindInfo, PolicyInfo, Scope};
use crate::payload::{SpecFormat, json, proto};
use crate::spec::{self, Checked};

const SECRET: Flow = Flow::GLOBAL_TO_ZONE.and(Flow::PROVIDED_BY_ZONE);
const BOTH_WAYS: Flow = Flow::GLOBAL_TO_ZONE.and(Flow::ZONE_TO_GLOBAL);
const FROM_ZONES: Flow = Flow::ZONE_TO_GLOBAL.and(Flow::ACROSS_ZONES);
const EVERYWHERE: Flow = BOTH_WAYS.and(Flow::ACROSS_ZONES);
const EACH_ITS_OWN: Flow = Flow::PROVIDED_BY_GLOBAL.and(Flow::PROVIDED_BY_ZONE);

const fn proto_kind(name: &'static str, scope: Scope, flow: Flow, format: SpecFormat) -> KindInfo {
    KindInfo {
        name,
        scope,
        path: None,
        alternative_path: None,
        short: None,
        flow,
        format,
        empty_status: None,
        hashed: false,
        read_only: false,
        admin_only: false,
        policy: None,
        singular: name,
        plural: name,
    }
}

const fn json_kind<T: Checked + JsonSchema>(name: &'static str, scope: Scope, flow: Flow) -> KindInfo {
    KindInfo { hashed: true, ..proto_kind(name, scope, flow, json::<T>()) }
}

const fn policy<T: Checked + JsonSchema>(name: &'static str, order: u16, to: bool, rules: bool) -> KindInfo {
    KindInfo {
        policy: Some(PolicyInfo { order, to, rules }),
        ..json_kind::<T>(name, Scope::Mesh, EVERYWHERE)
    }
}

impl KindInfo {
    const fn path(self, path: &'static str) -> Self {
        Self { path: Some(path), ..self }
    }

    const fn also_at(self, path: &'static str) -> Self {
        Self { alternative_path: Some(path), ..self }
    }

    const fn short(self, short: &'static str) -> Self {
        Self { short: Some(short), ..self }
    }

    const fn shown(self, singular: &'static str, plural: &'static str) -> Self {
        Self { singular, plural, ..self }
    }

    const fn status(self, empty: &'static str) -> Self {
        Self { empty_status: Some(empty), ..self }
    }

    const fn read_only(self) -> Self {
        Self { read_only: true, ..self }
    }

    const fn admin_only(self) -> Self {
        Self { admin_only: true, ..self }
    }

    const fn hashed(self, hashed: bool) -> Self {
        Self { hashed, ..self }
    }
}

/// The array of rows, and a constant for each.
macro_rules! kinds {
    ($($constant:ident = $row:expr,)+) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        enum At { $($constant),+ }

        pub(super) static KINDS: [KindInfo; [$(At::$constant),+].len()] = [$($row),+];

        impl super::Kind {
            $(
                #[doc = concat!("The row `", stringify!($constant), "`.")]
                pub const $constant: Self = Self(&KINDS[At::$constant as usize]);
            )+
        }
    };
}

kinds! {
    CONFIG = proto_kind("Config", Scope::Global, SECRET, proto::<spec::Config>())
        .shown("Config", "Configs"),
    DATAPLANE = proto_kind("Dataplane", Scope::Mesh, Flow::ZONE_TO_GLOBAL, proto::<spec::Dataplane>())
        .path("dataplanes")
        .short("dp")
        .shown("Dataplane", "Dataplanes"),
    DATAPLANE_INSIGHT = proto_kind(
        "DataplaneInsight",
        Scope::Mesh,
        Flow::ZONE_TO_GLOBAL,
        proto::<spec::DataplaneInsight>(),
    )
    .path("dataplane-insights")
    .read_only()
    .shown("Dataplane Insight", "Dataplane Insights"),
    GLOBAL_SECRET = proto_kind("GlobalSecret", Scope::Global, SECRET, proto::<spec::Secret>())
        .path("globalsecrets")
        .also_at("global-secrets")
        .admin_only()
        .shown("Global Secret", "Global Secrets"),
    HOSTNAME_GENERATOR = json_kind::<spec::HostnameGenerator>("HostnameGenerator", Scope::Global, BOTH_WAYS)
        .path("hostnamegenerators")
        .short("hg")
        .shown("Hostname Generator", "Hostname Generators"),
    MESH = proto_kind("Mesh", Scope::Global, Flow::GLOBAL_TO_ZONE, proto::<spec::Mesh>())
        .path("meshes")
        .short("m")
        .shown("Mesh", "Meshes"),
    MESH_ACCESS_LOG = policy::<spec::MeshAccessLog>("MeshAccessLog", 600, true, true)
        .path("meshaccesslogs")
        .short("mal")
        .status("{}")
        .shown("Mesh Access Log", "Mesh Access Logs"),
    MESH_CIRCUIT_BREAKER = policy::<spec::MeshCircuitBreaker>("MeshCircuitBreaker", 1300, true, true)
        .path("meshcircuitbreakers")
        .short("mcb")
        .shown("Mesh Circuit Breaker", "Mesh Circuit Breakers"),
    MESH_EXTERNAL_SERVICE = json_kind::<spec::MeshExternalService>("MeshExternalService", Scope::Mesh, BOTH_WAYS)
        .path("meshexternalservices")
        .short("extsvc")
        .status(r#"{"vip":{}}"#)
        .shown("Mesh External Service", "Mesh External Services"),
    MESH_FAULT_INJECTION = policy::<spec::MeshFaultInjection>("MeshFaultInjection", 800, true, true)
        .path("meshfaultinjections")
        .short("mfi")
        .shown("Mesh Fault Injection", "Mesh Fault Injections"),
    MESH_HTTP_ROUTE = policy::<spec::MeshHTTPRoute>("MeshHTTPRoute", 100, true, false)
        .path("meshhttproutes")
        .short("mhttpr")
        .shown("Mesh HTTP Route", "Mesh HTTP Routes"),
    MESH_HEALTH_CHECK = policy::<spec::MeshHealthCheck>("MeshHealthCheck", 1200, true, false)
        .path("meshhealthchecks")
        .short("mhc")
        .shown("Mesh Health Check", "Mesh Health Checks"),
    MESH_IDENTITY = json_kind::<spec::MeshIdentity>("MeshIdentity", Scope::Mesh, BOTH_WAYS)
        .path("meshidentities")
        .short("mid")
        .status("{}")
        .shown("Mesh Identity", "Mesh Identities"),
    MESH_INSIGHT = proto_kind(
        "MeshInsight",
        Scope::Global,
        Flow::PROVIDED_BY_GLOBAL,
        proto::<spec::MeshInsight>(),
    )
    .path("mesh-insights")
    .read_only()
    .shown("Mesh Insight", "Mesh Insights"),
    MESH_LOAD_BALANCING_STRATEGY = policy::<spec::MeshLoadBalancingStrategy>("MeshLoadBalancingStrategy", 400, true, false)
        .path("meshloadbalancingstrategies")
        .short("mlbs")
        .shown("Mesh Load Balancing Strategy", "Mesh Load Balancing Strategies"),
    MESH_METRIC = policy::<spec::MeshMetric>("MeshMetric", 1500, false, false)
        .path("meshmetrics")
        .short("mm")
        .status("{}")
        .shown("Mesh Metric", "Mesh Metrics"),
    MESH_MULTI_ZONE_SERVICE = json_kind::<spec::MeshMultiZoneService>("MeshMultiZoneService", Scope::Mesh, Flow::GLOBAL_TO_ZONE)
        .path("meshmultizoneservices")
        .short("mzsvc")
        .status("{}")
        .shown("Mesh Multi Zone Service", "Mesh Multi Zone Services"),
    MESH_OPEN_TELEMETRY_BACKEND = json_kind::<spec::MeshOpenTelemetryBackend>("MeshOpenTelemetryBackend", Scope::Mesh, BOTH_WAYS)
        .path("meshopentelemetrybackends")
        .short("motb")
        .status("{}")
        .shown("Mesh OpenTelemetry Backend", "Mesh OpenTelemetry Backends"),
    MESH_PASSTHROUGH = policy::<spec::MeshPassthrough>("MeshPassthrough", 500, false, false)
        .path("meshpassthroughs")
        .short("mp")
        .shown("Mesh Passthrough", "Mesh Passthroughs"),
    MESH_PROXY_PATCH = policy::<spec::MeshProxyPatch>("MeshProxyPatch", 9999, false, false)
        .path("meshproxypatches")
        .short("mpp")
        .shown("Mesh Proxy Patch", "Mesh Proxy Patches"),
    MESH_RATE_LIMIT = policy::<spec::MeshRateLimit>("MeshRateLimit", 900, true, true)
        .path("meshratelimits")
        .short("mrl")
        .shown("Mesh Rate Limit", "Mesh Rate Limits"),
    MESH_RETRY = policy::<spec::MeshRetry>("MeshRetry", 1400, true, false)
        .path("meshretries")
        .short("mr")
        .shown("Mesh Retry", "Mesh Retries"),
    MESH_SERVICE = json_kind::<spec::MeshService>("MeshService", Scope::Mesh, FROM_ZONES)
        .path("meshservices")
        .short("msvc")
        .status(r#"{"dataplaneProxies":{},"tls":{}}"#)
        .shown("Mesh Service", "Mesh Services"),
    MESH_TCP_ROUTE = policy::<spec::MeshTCPRoute>("MeshTCPRoute", 200, true, false)
        .path("meshtcproutes")
        .short("mtcpr")
        .shown("Mesh TCP Route", "Mesh TCP Routes"),
    MESH_TLS = policy::<spec::MeshTLS>("MeshTLS", 300, false, true).path("meshtlses").short("mtls").shown("Mesh TLS", "Mesh TLSes"),
    MESH_TIMEOUT = policy::<spec::MeshTimeout>("MeshTimeout", 1000, true, true)
        .path("meshtimeouts")
        .short("mt")
        .shown("Mesh Timeout", "Mesh Timeouts"),
    MESH_TRACE = policy::<spec::MeshTrace>("MeshTrace", 700, false, false)
        .path("meshtraces")
        .short("mtr")
        .status("{}")
        .shown("Mesh Trace", "Mesh Traces"),
    MESH_TRAFFIC_PERMISSION = policy::<spec::MeshTrafficPermission>("MeshTrafficPermission", 1100, false, true)
        .path("meshtrafficpermissions")
        .short("mtp")
        .shown("Mesh Traffic Permission", "Mesh Traffic Permissions"),
    MESH_TRUST = json_kind::<spec::MeshTrust>("MeshTrust", Scope::Mesh, BOTH_WAYS)
        .path("meshtrusts")
        .short("mtrust")
        .status("{}")
        .shown("Mesh Trust", "Mesh Trusts"),
    MESH_ZONE_ADDRESS = json_kind::<spec::MeshZoneAddress>("MeshZoneAddress", Scope::Mesh, FROM_ZONES)
        .path("meshzoneaddresses")
        .short("mza")
        .shown("Mesh Zone Address", "Mesh Zone Addresses"),
    SECRET = proto_kind("Secret", Scope::Mesh, SECRET, proto::<spec::Secret>())
        .path("secrets")
        .admin_only()
        .shown("Secret", "Secrets"),
    SERVICE_INSIGHT = proto_kind(
        "ServiceInsight",
        Scope::Mesh,
        Flow::GLOBAL_TO_ZONE,
        proto::<spec::ServiceInsight>(),
    )
    .path("service-insights")
    .hashed(true)
    .read_only()
    .shown("Service Insight", "Service Insights"),
    WORKLOAD = json_kind::<spec::Workload>("Workload", Scope::Mesh, Flow::ZONE_TO_GLOBAL)
        .path("workloads")
        .short("wl")
        .status(r#"{"dataplaneProxies":{"connected":0,"healthy":0,"total":0}}"#)
        .hashed(false)
        .shown("Workload", "Workloads"),
    ZONE = proto_kind("Zone", Scope::Global, EACH_ITS_OWN, proto::<spec::Zone>())
        .path("zones")
        .short("z")
        .shown("Zone", "Zones"),
    ZONE_INSIGHT = proto_kind("ZoneInsight", Scope::Global, EACH_ITS_OWN, proto::<spec::ZoneInsight>())
        .path("zone-insights")
        .read_only()
        .shown("Zone Insight", "Zone Insights"),
}
