//! The configuration an Envoy starts with: who it is, and how it reaches this control plane.

use std::net::IpAddr;

use kds_proto::mesh::dataplane::Networking;
use model::{Resource, labels};
use serde_json::{Map, Value, json};

use super::request::Request;
use crate::dp_server::DpServerConfig;

/// Name of Envoy's admin socket in the agent's folder.
const ADMIN_SOCKET: &str = "kuma-envoy-admin.sock";
/// Paths of sockets are cut to this before `.sock`, by the agent too.
const MAX_SOCKET_STEM: usize = 98;
/// Only the owner may use the admin socket: 0600.
const ADMIN_SOCKET_MODE: u32 = 0o600;
/// Name of the cluster that is this control plane.
const ADS_CLUSTER: &str = "system_ads";
/// Name of the secret with which it is verified.
const VALIDATION: &str = "cp_validation_ctx";

/// How this control plane is reached.
pub(super) struct Xds<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) ca: &'a str,
    pub(super) token: Option<&'a str>,
}

/// For whom a bootstrap is made.
pub(super) struct Bootstrap<'a> {
    pub(super) request: &'a Request,
    pub(super) dataplane: &'a Resource,
    pub(super) networking: &'a Networking,
}

impl Bootstrap<'_> {
    pub(super) fn document(&self, config: &DpServerConfig, xds: &Xds<'_>) -> Value {
        let ads = |kind: &str| {
            json!({
                "api_type": kind,
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [grpc_service(xds)],
            })
        };
        let from_ads = json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"});
        let mut document = json!({
            "node": {
                "id": format!("{}.{}", self.request.mesh, self.request.name),
                "cluster": self.dataplane.label(labels::WORKLOAD).unwrap_or("unknown"),
                "metadata": self.metadata(config),
            },
            "layered_runtime": {"layers": [{"name": "kuma", "static_layer": {
                "re2.max_program_size.error_level": u32::MAX,
                "re2.max_program_size.warn_level": 1000,
            }}]},
            "stats_config": {"stats_tags": [
                {"tag_name": "name", "regex": r"^grpc\.((.+)\.)"},
                {"tag_name": "status", "regex": r"^grpc.*streams_closed(_([0-9]+))"},
                {"tag_name": "worker", "regex": r"(worker_([0-9]+)\.)"},
                {"tag_name": "listener", "regex": r"((.+?)\.)rbac\."},
            ]},
            "default_regex_engine": {"name": "envoy.regex_engines.google_re2", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.regex_engines.v3.GoogleRE2",
            }},
            "dynamic_resources": {
                "lds_config": from_ads,
                "cds_config": from_ads,
                "ads_config": ads("DELTA_GRPC"),
            },
            "static_resources": {
                "secrets": [validation(xds)],
                "clusters": [ads_cluster(config, xds), self.access_log_cluster()],
            },
            "admin": self.admin(config),
        });
        if let (true, Some(document)) = (config.health.enabled, document.as_object_mut()) {
            document.insert("hds_config".into(), ads("GRPC"));
        }
        document
    }

    /// What the proxy tells of itself on every stream; the keys are those of the peers.
    fn metadata(&self, config: &DpServerConfig) -> Value {
        let request = self.request;
        let mut metadata = Map::new();
        let mut text = |key: &str, value: &str| {
            if !value.is_empty() {
                metadata.insert(key.to_owned(), json!(value));
            }
        };
        text("dataplane.proxyType", "dataplane");
        text("dataplane.resource", request.dataplane_resource.as_deref().unwrap_or_default());
        text("dataplane.admin.port", &self.admin_port(config).to_string());
        text("dataplane.admin.address", &config.admin_address.to_string());
        if let Some(path) = self.admin_socket(config) {
            text("dataplane.admin.socketPath", &path);
        }
        for (key, port) in [
            ("dataplane.dns.port", request.dns_port),
            ("dataplane.readinessReporter.port", request.readiness_port),
        ] {
            if let Some(port) = port.filter(|port| *port > 0) {
                text(key, &port.to_string());
            }
        }
        text("dataplane.appProbeProxy.enabled", if request.app_probe_proxy { "true" } else { "" });
        text("workdir", &request.workdir);
        text("systemCaPath", &request.system_ca_path);
        let metrics = request.metrics_resources.as_ref();
        text("metricsCertPath", metrics.map_or("", |metrics| &metrics.cert_path));
        text("metricsKeyPath", metrics.map_or("", |metrics| &metrics.key_path));
        metadata.insert("ipv6Enabled".into(), json!(request.ipv6_enabled));
        metadata.insert("features".into(), json!(request.features.as_deref().unwrap_or_default()));
        let spire = request.spire_resources.as_ref().filter(|spire| !spire.socket_path.is_empty());
        let documents = [
            ("version", Some(&request.version).filter(|version| version.is_object()).cloned()),
            ("dynamicMetadata", request.dynamic_metadata.as_ref().map(|map| json!(map))),
            ("transparentProxy", request.transparent_proxy.clone()),
            ("otelEnvInventory", request.otel_env.clone()),
            ("spireAgent", spire.map(|spire| json!({"socketPath": spire.socket_path}))),
        ];
        for (key, value) in documents {
            if let Some(value) = value {
                metadata.insert(key.into(), value);
            }
        }
        Value::Object(metadata)
    }

    fn admin_port(&self, config: &DpServerConfig) -> u32 {
        let own = self.networking.admin.as_ref().map_or(0, |admin| admin.port);
        if own > 0 { own } else { config.admin_port.into() }
    }

    /// The admin socket; `None` where admin is served over TCP.
    fn admin_socket(&self, config: &DpServerConfig) -> Option<String> {
        let in_folder = config.admin_socket && !self.request.workdir.is_empty();
        in_folder.then(|| format!("{}/{ADMIN_SOCKET}", self.request.workdir))
    }

    fn admin(&self, config: &DpServerConfig) -> Value {
        let address = match self.admin_socket(config) {
            Some(path) => json!({"pipe": {"path": path, "mode": ADMIN_SOCKET_MODE}}),
            None => socket_address(&config.admin_address.to_string(), self.admin_port(config)),
        };
        json!({
            "address": address,
            "access_log": [{"name": "envoy.access_loggers.file", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                "path": "/dev/null",
            }}],
        })
    }

    fn access_log_cluster(&self) -> Value {
        let stem = format!("{}/kuma-al-{}-{}", self.request.workdir, self.request.name, self.request.mesh);
        let cut: String = stem
            .chars()
            .scan(0, |length, c| {
                *length += c.len_utf8();
                (*length <= MAX_SOCKET_STEM).then_some(c)
            })
            .collect();
        json!({
            "name": "system_access_log_sink",
            "type": "STATIC",
            "connect_timeout": "5s",
            "typed_extension_protocol_options": http2(),
            "load_assignment": {"cluster_name": "system_access_log_sink", "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": {"pipe": {"path": format!("{cut}.sock")}}}},
            ]}]},
        })
    }
}

fn http2() -> Value {
    json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }})
}

fn socket_address(address: &str, port: u32) -> Value {
    json!({"socket_address": {"address": address, "port_value": port}})
}

fn grpc_service(xds: &Xds<'_>) -> Value {
    let mut service = json!({"envoy_grpc": {"cluster_name": ADS_CLUSTER}});
    if let (Some(token), Some(service)) = (xds.token, service.as_object_mut()) {
        service.insert("initial_metadata".into(), json!([{"key": "authorization", "value": token}]));
    }
    service
}

fn ads_cluster(config: &DpServerConfig, xds: &Xds<'_>) -> Value {
    let is_address = xds.host.parse::<IpAddr>().is_ok();
    let mut tls = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "validation_context_sds_secret_config": {"name": VALIDATION},
        },
    });
    // An address is no server name (RFC 6066, section 3).
    if let (false, Some(tls)) = (is_address, tls.as_object_mut()) {
        tls.insert("sni".into(), json!(xds.host));
    }
    json!({
        "name": ADS_CLUSTER,
        // A name may have addresses of both families of which one answers: each connection tries all of them.
        "type": if is_address { "STATIC" } else { "LOGICAL_DNS" },
        "dns_lookup_family": "ALL",
        "connect_timeout": format!("{}s", config.xds_connect_timeout.as_secs_f64()),
        "typed_extension_protocol_options": http2(),
        "upstream_connection_options": {"tcp_keepalive": {
            "keepalive_probes": 3,
            "keepalive_time": 10,
            "keepalive_interval": 10,
        }},
        "load_assignment": {"cluster_name": ADS_CLUSTER, "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": socket_address(xds.host, xds.port.into())}},
        ]}]},
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
    })
}

fn validation(xds: &Xds<'_>) -> Value {
    let san = |kind: &str| json!({"san_type": kind, "matcher": {"exact": xds.host}});
    json!({"name": VALIDATION, "validation_context": {
        "trusted_ca": {"inline_string": xds.ca},
        "match_typed_subject_alt_names": [san("DNS"), san("IP_ADDRESS")],
    }})
}
