//! A real Envoy accepts what is generated.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use auth::pki::{Authority, SpiffeId, Validity};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use kds_proto::mesh::dataplane::networking::listener::Type;
use model::spec::{ExternalTls, MeshExternalService};
use model::{Key, Kind, Resource};
use proxy_config::{AdminTls, Identity, MeshView, Proxy, ProxyConfig, ResourceType, Settings, generate};
use serde_json::{Value, json};
use store::Snapshot;

use crate::mesh::{
    MESH, ZONE, client, external, external_spec, identity, inbound, mesh_identity, metadata, multi_zone,
    policy, service, snapshot, trust, workload, zone_address, zone_proxy,
};

/// The binary that the environment names, else the one of the workspace's tools.
fn envoy() -> PathBuf {
    let named = std::env::var_os("ENVOY").map(PathBuf::from);
    let workspace =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("a crate of the workspace");
    let path = named.unwrap_or_else(|| workspace.join(".tools/envoy/envoy"));
    assert!(
        path.is_file(),
        "this test runs Envoy, and there is none at {}: put the binary there or name it in ENVOY",
        path.display()
    );
    path
}

pub(crate) struct Keys {
    pub(crate) authority: Authority,
    pub(crate) identity: Identity,
    pub(crate) admin: AdminTls,
}

pub(crate) fn keys() -> Keys {
    let now = time(SystemTime::now());
    let hour = Duration::from_secs(3600);
    let validity = Validity::starting(now, hour).expect("an hour");
    let authority =
        Authority::generate("test", Some("default.east.mesh.local"), validity).expect("generated");
    let unkeyed = identity("web");
    let id: SpiffeId = unkeyed.spiffe_id.parse().expect("valid");
    let issued = authority.issue_workload(&id, now, hour).expect("issued");
    let identity = Identity {
        certificate_pem: issued.certificate_pem,
        private_key_pem: issued.key.expose().to_owned(),
        ..unkeyed
    };
    let server = authority.issue_server("admin", &["10.0.0.1".into()], validity).expect("issued");
    let admin = AdminTls {
        certificate_pem: server.certificate_pem,
        private_key_pem: server.key.expose().to_owned(),
        ca_pem: authority.certificate_pem().to_owned(),
    };
    Keys { authority, identity, admin }
}

fn time(now: SystemTime) -> time::OffsetDateTime {
    model::Timestamp::from_system(now).inner()
}

pub(crate) fn resources(keys: &Keys) -> Vec<Resource> {
    let ca = keys.authority.certificate_pem();
    let tls = ExternalTls { enabled: true, ..ExternalTls::default() };
    let shop = MeshExternalService { tls: Some(tls), ..external_spec("shop.example.com", "http") };
    vec![
        mesh_identity(),
        trust("east", ca),
        trust("west", ca),
        workload("web", "10.0.0.1", inbound(80, 8080, "http")),
        workload("rpc", "10.0.0.6", inbound(90, 0, "grpc")),
        workload("db", "10.0.0.2", inbound(5432, 0, "tcp")),
        service("east", "web", "241.0.0.1", 80, "http"),
        service("west", "web", "fd00::2", 80, "http"),
        service("east", "rpc", "241.0.0.4", 90, "grpc"),
        service("east", "db", "241.0.0.3", 5432, "tcp"),
        multi_zone("web", "243.0.0.1", 80, "http"),
        zone_address("west", "192.0.2.1", 10001),
        zone_proxy("ingress", Type::ZoneIngress, "10.0.0.3", 10001),
        zone_proxy("egress", Type::ZoneEgress, "10.0.0.4", 10002),
        external("shop", "242.0.0.1", &shop),
        external("bytes", "242.0.0.2", &external_spec("203.0.113.1", "tcp")),
        client("caller", &[("127.0.0.1", 10080, "web", 80), ("127.0.0.1", 10081, "web", 80)]),
    ]
}

fn config(snapshot: &Snapshot, keys: &Keys, name: &str, workdir: &Path) -> ProxyConfig {
    let view = MeshView::new(snapshot, MESH, ZONE);
    let dataplane = snapshot.resource(&Key::new(Kind::DATAPLANE, MESH, name)).expect("the proxy is there");
    let mut metadata = metadata(&workdir.to_string_lossy());
    // Envoy reads the bundle when it starts, and not every machine keeps one in the same place.
    let bundle = workdir.join("system.pem");
    std::fs::write(&bundle, keys.authority.certificate_pem()).expect("written");
    metadata.system_ca_path = Some(bundle.to_string_lossy().into_owned());
    let proxy = Proxy::new(Arc::clone(dataplane), metadata).with_admin_tls(Arc::new(keys.admin.clone()));
    generate(&view, &proxy, Some(&keys.identity), &Settings::default())
}

/// A bootstrap that holds the resources itself; endpoints stay with the stream, which nobody serves here.
pub(crate) fn bootstrap(config: &ProxyConfig) -> Value {
    let of = |kind: ResourceType| -> Vec<Value> {
        let resources = config.of(kind).values();
        resources
            .map(|resource| envoy_api::json::print(kind.type_url(), &resource.value).expect("its own type"))
            .collect()
    };
    let mut clusters = of(ResourceType::Cluster);
    clusters.push(json!({"name": "ads", "type": "STATIC", "typedExtensionProtocolOptions": {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicitHttpConfig": {"http2ProtocolOptions": {}}}}}));
    let ads = json!({"apiType": "DELTA_GRPC", "transportApiVersion": "V3",
        "grpcServices": [{"envoyGrpc": {"clusterName": "ads"}}]});
    json!({
        "node": {"id": "default.web", "cluster": "web"},
        "dynamicResources": {"adsConfig": ads},
        "staticResources": {
            "clusters": clusters,
            "listeners": of(ResourceType::Listener),
            "secrets": of(ResourceType::Secret),
        },
    })
}

pub(crate) fn validate(bootstrap: &Value, directory: &Path) -> Result<(), String> {
    let file = directory.join("bootstrap.json");
    std::fs::write(&file, bootstrap.to_string()).expect("written");
    let ran = Command::new(envoy())
        .args(["--mode", "validate", "--log-level", "error", "-c"])
        .arg(&file)
        .current_dir(directory)
        .output()
        .expect("Envoy runs");
    if ran.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&ran.stderr).into_owned()) }
}

fn accepts(config: &ProxyConfig, directory: &Path, case: &str) {
    assert!(!config.of(ResourceType::Listener).is_empty(), "{case} listens");
    assert_eq!(validate(&bootstrap(config), directory), Ok(()), "{case}");
}

#[test]
fn envoy_refuses_what_is_broken() {
    let keys = keys();
    let snapshot = snapshot(resources(&keys));
    let directory = tempfile::tempdir().expect("a directory");
    let mut bootstrap = bootstrap(&config(&snapshot, &keys, "web", directory.path()));
    bootstrap["staticResources"]["listeners"][0]["address"]["socketAddress"]["address"] = json!("nowhere");
    let refusal = validate(&bootstrap, directory.path()).expect_err("no address");
    assert!(refusal.contains("nowhere"), "{refusal}");
}

#[test]
fn envoy_accepts_the_configuration_of_every_kind_of_proxy() {
    let keys = keys();
    let snapshot = snapshot(resources(&keys));
    let directory = tempfile::tempdir().expect("a directory");
    for name in ["web", "rpc", "db", "ingress", "egress", "caller"] {
        accepts(&config(&snapshot, &keys, name, directory.path()), directory.path(), name);
    }
}

#[test]
fn envoy_accepts_what_policies_make_of_it() {
    let keys = keys();
    let tls = json!({"rules": [{"default": {"mode": "Permissive", "tlsVersion": {"min": "TLS12", "max": "TLS13"}}}]});
    let allow = json!({"rules": [{"default": {
        "deny": [{"sni": {"type": "Exact", "value": "s"}}],
        "allow": [{"spiffeID": {"type": "Prefix", "value": "spiffe://d/"}, "sni": {"type": "Exact", "value": "s"}}],
        "allowWithShadowDeny": [{"spiffeID": {"type": "Exact", "value": "spiffe://d/a"}}],
    }}]});
    let peers = json!([
        {"spiffeID": {"type": "Prefix", "value": "spiffe://d/"}},
        {"sni": {"type": "Exact", "value": "s"}},
    ]);
    let headers = json!({"set": [{"name": "a", "value": "1"}], "add": [{"name": "b", "value": "2"}]});
    let http = json!({"requestRate": {"num": 1, "interval": "50ms"}, "onRateLimit": {"status": 423, "headers": headers}});
    let tcp = json!({"connectionRate": {"num": 1, "interval": "1s"}});
    let limit = json!({"local": {"http": http, "tcp": tcp}});
    let limits = json!({"rules": [{"default": limit}, {"matches": peers, "default": limit}]});
    let fault = json!({"http": [{
        "abort": {"httpStatus": 503, "percentage": "2.5"},
        "delay": {"value": "1s", "percentage": 100},
        "responseBandwidth": {"limit": "1kbps", "percentage": "0.001"},
    }]});
    let faults = json!({"rules": [{"default": fault}, {"matches": peers, "default": fault}]});
    let policies = [
        policy(Kind::MESH_TLS, "tls", &tls),
        policy(Kind::MESH_TRAFFIC_PERMISSION, "allow", &allow),
        policy(Kind::MESH_RATE_LIMIT, "limits", &limits),
        policy(Kind::MESH_FAULT_INJECTION, "faults", &faults),
    ];
    let snapshot = snapshot(resources(&keys).into_iter().chain(policies));
    let directory = tempfile::tempdir().expect("a directory");
    for name in ["web", "db", "egress"] {
        accepts(&config(&snapshot, &keys, name, directory.path()), directory.path(), name);
    }
}

#[test]
fn envoy_accepts_what_passes_through() {
    let keys = keys();
    let matches = json!([
        {"type": "Domain", "value": "example.com", "protocol": "tls", "port": 443},
        {"type": "Domain", "value": "*.example.com", "protocol": "tls"},
        {"type": "Domain", "value": "*.example.net", "protocol": "http"},
        {"type": "Domain", "value": "api.example.net", "protocol": "grpc", "port": 80},
        {"type": "IP", "value": "192.0.2.1", "protocol": "mysql", "port": 3306},
        {"type": "IP", "value": "2001:db8::1", "protocol": "http2", "port": 80},
        {"type": "CIDR", "value": "192.0.2.0/24"},
    ]);
    let conf = json!({"default": {"passthroughMode": "Matched", "appendMatch": matches}});
    let passthrough = [policy(Kind::MESH_PASSTHROUGH, "some", &conf)];
    let snapshot = snapshot(resources(&keys).into_iter().chain(passthrough));
    let directory = tempfile::tempdir().expect("a directory");
    let config = config(&snapshot, &keys, "web", directory.path());
    let names = bootstrap(&config).to_string();
    assert!(names.contains("meshpassthrough_tls_example.com_443"), "{names}");
    accepts(&config, directory.path(), "web");
}

#[test]
fn envoy_accepts_routes_and_retries() {
    let keys = keys();
    let backend = |name: &str, weight: u64| json!({"kind": "MeshService", "labels": {"kuma.io/display-name": name}, "port": 80, "weight": weight});
    let value = json!({"name": "a", "value": "b"});
    let rules = json!([
        {
            "matches": [
                {"path": {"type": "RegularExpression", "value": "/v[0-9]"}, "method": "GET"},
                {
                    "path": {"type": "PathPrefix", "value": "/a"},
                    "headers": [value, {"type": "Absent", "name": "c"}, {"type": "Present", "name": "d"}],
                    "queryParams": [{"type": "RegularExpression", "name": "q", "value": ".+"}],
                },
            ],
            "default": {
                "filters": [
                    {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [value], "remove": ["e"]}},
                    {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"add": [value]}},
                    {"type": "URLRewrite", "urlRewrite":
                        {"hostname": "other", "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/b"}}},
                    {"type": "RequestMirror", "requestMirror": {"percentage": 10, "backendRef": backend("web", 1)}},
                ],
                // More than Envoy adds up.
                "backendRefs": [backend("web", 4_294_967_295), backend("none", 4_294_967_295),
                    {"kind": "MeshExternalService", "labels": {"kuma.io/display-name": "shop"}, "weight": 5}],
            },
        },
        {"matches": [{"path": {"type": "Exact", "value": "/gone"}}],
            "default": {"filters": [{"type": "RequestRedirect", "requestRedirect": {"statusCode": 308,
                "path": {"type": "ReplaceFullPath", "replaceFullPath": "/here"}}}]}},
        {"matches": [{"path": {"type": "Exact", "value": "/rewritten"}}],
            "default": {"filters": [{"type": "URLRewrite", "urlRewrite":
                {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/\\1"}}}]}},
    ]);
    let to = |name: &str, rules: &Value| {
        let target = json!({"kind": "MeshService", "labels": {"kuma.io/display-name": name}});
        json!({"to": [{"targetRef": target, "rules": rules}]})
    };
    let retry = json!({"to": [{"targetRef": {"kind": "Mesh"}, "default": {
        "tcp": {"maxConnectAttempt": 3},
        "grpc": {"numRetries": 2, "retryOn": ["DeadlineExceeded"], "backOff": {"maxInterval": "1ms"}},
        "http": {
            "backOff": {"baseInterval": "0s"},
            "rateLimitedBackOff": {"resetHeaders": [{"name": "retry-after", "format": "Seconds"}], "maxInterval": "0s"},
            "retryOn": ["5xx", "503", "HttpMethodGet"],
            "hostSelection": [{"predicate": "OmitPreviousHosts"}, {"predicate": "OmitHostsWithTags", "tags": {"a": "b"}},
                {"predicate": "OmitPreviousPriorities", "updateFrequency": 0}],
        },
    }}]});
    let tcp = json!([{"default": {"backendRefs": [backend("none", 1), backend("web", 1)]}}]);
    let policies = [
        policy(Kind::MESH_HTTP_ROUTE, "route", &to("web", &rules)),
        policy(Kind::MESH_TCP_ROUTE, "tcp", &to("db", &tcp)),
        policy(Kind::MESH_RETRY, "retry", &retry),
    ];
    let snapshot = snapshot(resources(&keys).into_iter().chain(policies));
    let directory = tempfile::tempdir().expect("a directory");
    for name in ["web", "caller"] {
        accepts(&config(&snapshot, &keys, name, directory.path()), directory.path(), name);
    }
}

#[test]
fn what_people_read_has_no_key() {
    let keys = keys();
    let secret = json!({"clientCert": {"type": "InsecureInline", "insecureInline": {"value": "own-certificate"}},
        "clientKey": {"type": "InsecureInline", "insecureInline": {"value": "own-key"}}});
    let verification = serde_json::from_value(secret).expect("valid");
    let tls = ExternalTls { enabled: true, verification: Some(verification), ..ExternalTls::default() };
    let shop = MeshExternalService { tls: Some(tls), ..external_spec("shop.example.com", "http") };
    let with_key = external("shop", "242.0.0.1", &shop);
    let snapshot = snapshot(resources(&keys).into_iter().chain([with_key]));
    let directory = tempfile::tempdir().expect("a directory");
    for name in ["web", "egress"] {
        let config = config(&snapshot, &keys, name, directory.path());
        let sent: Vec<u8> = config.iter().flat_map(|(_, resource)| resource.value.to_vec()).collect();
        let shown = config.to_json().to_string();
        for secret in [keys.identity.private_key_pem.as_str(), &keys.admin.private_key_pem] {
            assert!(sent.windows(secret.len()).any(|bytes| bytes == secret.as_bytes()), "the proxy gets it");
            let encoded = BASE64_STANDARD.encode(secret);
            assert!(!shown.contains(&encoded) && !shown.contains(secret), "{name}");
        }
        assert!(!shown.contains(&BASE64_STANDARD.encode("own-key")), "{name}");
    }
}
