//! The table of kinds: one row each, ordered by name. A row starts from its shape ([`proto_kind`],
//! [`json_kind`] or [`policy`]) and adds what is particular to it.

use super::{Flow, KindInfo, PolicyInfo, Scope};
use crate::payload::{SpecFormat, proto};

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

const fn json_kind(name: &'static str, scope: Scope, flow: Flow) -> KindInfo {
    KindInfo { hashed: true, ..proto_kind(name, scope, flow, SpecFormat::Json) }
}

const fn policy(name: &'static str, order: u16, to: bool, rules: bool) -> KindInfo {
    KindInfo { policy: Some(PolicyInfo { order, to, rules }), ..json_kind(name, Scope::Mesh, EVERYWHERE) }
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

pub(super) static KINDS: [KindInfo; 35] = [
    proto_kind("Config", Scope::Global, SECRET, proto::<kds_proto::system::Config>())
        .shown("Config", "Configs"),
    proto_kind("Dataplane", Scope::Mesh, Flow::ZONE_TO_GLOBAL, proto::<kds_proto::mesh::Dataplane>())
        .path("dataplanes")
        .short("dp")
        .shown("Dataplane", "Dataplanes"),
    proto_kind(
        "DataplaneInsight",
        Scope::Mesh,
        Flow::ZONE_TO_GLOBAL,
        proto::<kds_proto::mesh::DataplaneInsight>(),
    )
    .path("dataplane-insights")
    .read_only()
    .shown("Dataplane Insight", "Dataplane Insights"),
    proto_kind("GlobalSecret", Scope::Global, SECRET, proto::<kds_proto::system::Secret>())
        .path("globalsecrets")
        .also_at("global-secrets")
        .admin_only()
        .shown("Global Secret", "Global Secrets"),
    json_kind("HostnameGenerator", Scope::Global, BOTH_WAYS)
        .path("hostnamegenerators")
        .short("hg")
        .shown("Hostname Generator", "Hostname Generators"),
    proto_kind("Mesh", Scope::Global, Flow::GLOBAL_TO_ZONE, proto::<kds_proto::mesh::Mesh>())
        .path("meshes")
        .short("m")
        .shown("Mesh", "Meshes"),
    policy("MeshAccessLog", 600, true, true)
        .path("meshaccesslogs")
        .short("mal")
        .status("{}")
        .shown("Mesh Access Log", "Mesh Access Logs"),
    policy("MeshCircuitBreaker", 1300, true, true)
        .path("meshcircuitbreakers")
        .short("mcb")
        .shown("Mesh Circuit Breaker", "Mesh Circuit Breakers"),
    json_kind("MeshExternalService", Scope::Mesh, BOTH_WAYS)
        .path("meshexternalservices")
        .short("extsvc")
        .status(r#"{"vip":{}}"#)
        .shown("Mesh External Service", "Mesh External Services"),
    policy("MeshFaultInjection", 800, true, true)
        .path("meshfaultinjections")
        .short("mfi")
        .shown("Mesh Fault Injection", "Mesh Fault Injections"),
    policy("MeshHTTPRoute", 100, true, false)
        .path("meshhttproutes")
        .short("mhttpr")
        .shown("Mesh HTTP Route", "Mesh HTTP Routes"),
    policy("MeshHealthCheck", 1200, true, false)
        .path("meshhealthchecks")
        .short("mhc")
        .shown("Mesh Health Check", "Mesh Health Checks"),
    json_kind("MeshIdentity", Scope::Mesh, BOTH_WAYS)
        .path("meshidentities")
        .short("mid")
        .status("{}")
        .shown("Mesh Identity", "Mesh Identities"),
    proto_kind(
        "MeshInsight",
        Scope::Global,
        Flow::PROVIDED_BY_GLOBAL,
        proto::<kds_proto::mesh::MeshInsight>(),
    )
    .path("mesh-insights")
    .read_only()
    .shown("Mesh Insight", "Mesh Insights"),
    policy("MeshLoadBalancingStrategy", 400, true, false)
        .path("meshloadbalancingstrategies")
        .short("mlbs")
        .shown("Mesh Load Balancing Strategy", "Mesh Load Balancing Strategies"),
    policy("MeshMetric", 1500, false, false)
        .path("meshmetrics")
        .short("mm")
        .status("{}")
        .shown("Mesh Metric", "Mesh Metrics"),
    json_kind("MeshMultiZoneService", Scope::Mesh, Flow::GLOBAL_TO_ZONE)
        .path("meshmultizoneservices")
        .short("mzsvc")
        .status("{}")
        .shown("Mesh Multi Zone Service", "Mesh Multi Zone Services"),
    json_kind("MeshOpenTelemetryBackend", Scope::Mesh, BOTH_WAYS)
        .path("meshopentelemetrybackends")
        .short("motb")
        .status("{}")
        .shown("Mesh OpenTelemetry Backend", "Mesh OpenTelemetry Backends"),
    policy("MeshPassthrough", 500, false, false)
        .path("meshpassthroughs")
        .short("mp")
        .shown("Mesh Passthrough", "Mesh Passthroughs"),
    policy("MeshProxyPatch", 9999, false, false)
        .path("meshproxypatches")
        .short("mpp")
        .shown("Mesh Proxy Patch", "Mesh Proxy Patches"),
    policy("MeshRateLimit", 900, true, true)
        .path("meshratelimits")
        .short("mrl")
        .shown("Mesh Rate Limit", "Mesh Rate Limits"),
    policy("MeshRetry", 1400, true, false)
        .path("meshretries")
        .short("mr")
        .shown("Mesh Retry", "Mesh Retries"),
    json_kind("MeshService", Scope::Mesh, FROM_ZONES)
        .path("meshservices")
        .short("msvc")
        .status(r#"{"dataplaneProxies":{},"tls":{}}"#)
        .shown("Mesh Service", "Mesh Services"),
    policy("MeshTCPRoute", 200, true, false)
        .path("meshtcproutes")
        .short("mtcpr")
        .shown("Mesh TCP Route", "Mesh TCP Routes"),
    policy("MeshTLS", 300, false, true).path("meshtlses").short("mtls").shown("Mesh TLS", "Mesh TLSes"),
    policy("MeshTimeout", 1000, true, true)
        .path("meshtimeouts")
        .short("mt")
        .shown("Mesh Timeout", "Mesh Timeouts"),
    policy("MeshTrace", 700, false, false)
        .path("meshtraces")
        .short("mtr")
        .status("{}")
        .shown("Mesh Trace", "Mesh Traces"),
    policy("MeshTrafficPermission", 1100, false, true)
        .path("meshtrafficpermissions")
        .short("mtp")
        .shown("Mesh Traffic Permission", "Mesh Traffic Permissions"),
    json_kind("MeshTrust", Scope::Mesh, BOTH_WAYS)
        .path("meshtrusts")
        .short("mtrust")
        .status("{}")
        .shown("Mesh Trust", "Mesh Trusts"),
    json_kind("MeshZoneAddress", Scope::Mesh, FROM_ZONES)
        .path("meshzoneaddresses")
        .short("mza")
        .shown("Mesh Zone Address", "Mesh Zone Addresses"),
    proto_kind("Secret", Scope::Mesh, SECRET, proto::<kds_proto::system::Secret>())
        .path("secrets")
        .admin_only()
        .shown("Secret", "Secrets"),
    proto_kind(
        "ServiceInsight",
        Scope::Mesh,
        Flow::GLOBAL_TO_ZONE,
        proto::<kds_proto::mesh::ServiceInsight>(),
    )
    .path("service-insights")
    .hashed(true)
    .read_only()
    .shown("Service Insight", "Service Insights"),
    json_kind("Workload", Scope::Mesh, Flow::ZONE_TO_GLOBAL)
        .path("workloads")
        .short("wl")
        .status(r#"{"dataplaneProxies":{"connected":0,"healthy":0,"total":0}}"#)
        .hashed(false)
        .shown("Workload", "Workloads"),
    proto_kind("Zone", Scope::Global, EACH_ITS_OWN, proto::<kds_proto::system::Zone>())
        .path("zones")
        .short("z")
        .shown("Zone", "Zones"),
    proto_kind("ZoneInsight", Scope::Global, EACH_ITS_OWN, proto::<kds_proto::system::ZoneInsight>())
        .path("zone-insights")
        .read_only()
        .shown("Zone Insight", "Zone Insights"),
];

/// Kinds that code names.
impl super::Kind {
    /// Config.
    pub const CONFIG: Self = Self(&KINDS[0]);
    /// Dataplane.
    pub const DATAPLANE: Self = Self(&KINDS[1]);
    /// DataplaneInsight.
    pub const DATAPLANE_INSIGHT: Self = Self(&KINDS[2]);
    /// GlobalSecret.
    pub const GLOBAL_SECRET: Self = Self(&KINDS[3]);
    /// HostnameGenerator.
    pub const HOSTNAME_GENERATOR: Self = Self(&KINDS[4]);
    /// Mesh.
    pub const MESH: Self = Self(&KINDS[5]);
    /// MeshAccessLog.
    pub const MESH_ACCESS_LOG: Self = Self(&KINDS[6]);
    /// MeshCircuitBreaker.
    pub const MESH_CIRCUIT_BREAKER: Self = Self(&KINDS[7]);
    /// MeshExternalService.
    pub const MESH_EXTERNAL_SERVICE: Self = Self(&KINDS[8]);
    /// MeshFaultInjection.
    pub const MESH_FAULT_INJECTION: Self = Self(&KINDS[9]);
    /// MeshHTTPRoute.
    pub const MESH_HTTP_ROUTE: Self = Self(&KINDS[10]);
    /// MeshHealthCheck.
    pub const MESH_HEALTH_CHECK: Self = Self(&KINDS[11]);
    /// MeshIdentity.
    pub const MESH_IDENTITY: Self = Self(&KINDS[12]);
    /// MeshInsight.
    pub const MESH_INSIGHT: Self = Self(&KINDS[13]);
    /// MeshLoadBalancingStrategy.
    pub const MESH_LOAD_BALANCING_STRATEGY: Self = Self(&KINDS[14]);
    /// MeshMetric.
    pub const MESH_METRIC: Self = Self(&KINDS[15]);
    /// MeshMultiZoneService.
    pub const MESH_MULTI_ZONE_SERVICE: Self = Self(&KINDS[16]);
    /// MeshOpenTelemetryBackend.
    pub const MESH_OPEN_TELEMETRY_BACKEND: Self = Self(&KINDS[17]);
    /// MeshPassthrough.
    pub const MESH_PASSTHROUGH: Self = Self(&KINDS[18]);
    /// MeshProxyPatch.
    pub const MESH_PROXY_PATCH: Self = Self(&KINDS[19]);
    /// MeshRateLimit.
    pub const MESH_RATE_LIMIT: Self = Self(&KINDS[20]);
    /// MeshRetry.
    pub const MESH_RETRY: Self = Self(&KINDS[21]);
    /// MeshService.
    pub const MESH_SERVICE: Self = Self(&KINDS[22]);
    /// MeshTCPRoute.
    pub const MESH_TCP_ROUTE: Self = Self(&KINDS[23]);
    /// MeshTLS.
    pub const MESH_TLS: Self = Self(&KINDS[24]);
    /// MeshTimeout.
    pub const MESH_TIMEOUT: Self = Self(&KINDS[25]);
    /// MeshTrace.
    pub const MESH_TRACE: Self = Self(&KINDS[26]);
    /// MeshTrafficPermission.
    pub const MESH_TRAFFIC_PERMISSION: Self = Self(&KINDS[27]);
    /// MeshTrust.
    pub const MESH_TRUST: Self = Self(&KINDS[28]);
    /// MeshZoneAddress.
    pub const MESH_ZONE_ADDRESS: Self = Self(&KINDS[29]);
    /// Secret.
    pub const SECRET: Self = Self(&KINDS[30]);
    /// ServiceInsight.
    pub const SERVICE_INSIGHT: Self = Self(&KINDS[31]);
    /// Workload.
    pub const WORKLOAD: Self = Self(&KINDS[32]);
    /// Zone.
    pub const ZONE: Self = Self(&KINDS[33]);
    /// ZoneInsight.
    pub const ZONE_INSIGHT: Self = Self(&KINDS[34]);
}
