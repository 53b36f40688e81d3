//! MeshHealthCheck: destinations whose endpoints are asked whether they are well.

use base64::Engine;
use base64::prelude::BASE64_STANDARD as STANDARD;
use envoy_api::envoy::config::cluster::v3::cluster::common_lb_config::{
    LocalityConfigSpecifier, ZoneAwareLbConfig,
};
use envoy_api::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_api::envoy::config::core::v3::health_check::payload::Payload as PayloadForm;
use envoy_api::envoy::config::core::v3::health_check::{
    GrpcHealthCheck as GrpcCheck, HealthChecker, HttpHealthCheck as HttpCheck, Payload,
    TcpHealthCheck as TcpCheck,
};
use envoy_api::envoy::config::core::v3::{HeaderValue, HeaderValueOption, HealthCheck};
use envoy_api::envoy::extensions::health_check::event_sinks::file::v3::HealthCheckEventFileSink;
use envoy_api::envoy::r#type::v3::{CodecClientType, Int64Range};
use model::duration::GoDuration;
use model::spec::{HealthCheckConf, HttpHealthCheck, Protocol, TcpHealthCheck};
use model::{Kind, Labels};
use prost_types::Duration;

use crate::draft::{Cluster, Draft, Role};
use crate::generate::Context;
use crate::parts::{duration, extension, tags_header};

/// Seconds and counts that hold where the policy does not say.
const INTERVAL: i64 = 60;
const TIMEOUT: i64 = 15;
const UNHEALTHY: u32 = 5;
const HEALTHY: u32 = 1;

/// Has destinations asked.
pub(crate) fn apply(context: &Context<'_>, draft: &mut Draft) {
    let selected = context.policies(Kind::MESH_HEALTH_CHECK);
    if selected.is_empty() {
        return;
    }
    let tags = context.proxy.dataplane.labels();
    for cluster in draft.clusters.values_mut() {
        let (Role::Outbound(destination) | Role::External(destination)) = &cluster.role else { continue };
        let conf = selected.to(&destination.as_target()).and_then(|conf| conf.decode().ok());
        let protocol = destination.protocol;
        if let Some(conf) = conf
            && let Some(checker) = checker(&conf, protocol, tags)
        {
            cluster.message.health_checks = vec![check(&conf, checker)];
            fail_on_panic(&conf, cluster);
        }
    }
}

/// Asks in the destination's protocol; where that is not configured or switched off, whether a connection opens.
fn checker(conf: &HealthCheckConf, protocol: Protocol, tags: &Labels) -> Option<HealthChecker> {
    let http = conf.http.as_ref().filter(|http| http.disabled != Some(true));
    let grpc = conf.grpc.as_ref().filter(|grpc| grpc.disabled != Some(true));
    let tcp = conf.tcp.as_ref().filter(|tcp| tcp.disabled != Some(true));
    match protocol {
        Protocol::Http | Protocol::Http2 if http.is_some() => {
            http.map(|http| HealthChecker::HttpHealthCheck(http_check(http, protocol, tags)))
        }
        Protocol::Grpc if grpc.is_some() => grpc.map(|grpc| {
            HealthChecker::GrpcHealthCheck(GrpcCheck {
                service_name: grpc.service_name.clone().unwrap_or_default(),
                authority: grpc.authority.clone().unwrap_or_default(),
                ..GrpcCheck::default()
            })
        }),
        _ => tcp.map(|tcp| HealthChecker::TcpHealthCheck(tcp_check(tcp))),
    }
}

fn check(conf: &HealthCheckConf, checker: HealthChecker) -> HealthCheck {
    let or =
        |said: Option<GoDuration>, seconds: i64| Some(said.map_or(Duration { seconds, nanos: 0 }, duration));
    let sink = conf.event_log_path.as_ref().map(|path| {
        let sink = HealthCheckEventFileSink { event_log_path: path.clone() };
        extension("envoy.health_check.event_sink.file", &sink)
    });
    HealthCheck {
        interval: or(conf.interval, INTERVAL),
        timeout: or(conf.timeout, TIMEOUT),
        unhealthy_threshold: Some(conf.unhealthy_threshold.unwrap_or(UNHEALTHY)),
        healthy_threshold: Some(conf.healthy_threshold.unwrap_or(HEALTHY)),
        initial_jitter: conf.initial_jitter.map(duration),
        interval_jitter: conf.interval_jitter.map(duration),
        interval_jitter_percent: conf.interval_jitter_percent.unwrap_or_default(),
        no_traffic_interval: conf.no_traffic_interval.map(duration),
        reuse_connection: conf.reuse_connection,
        always_log_health_check_failures: conf.always_log_health_check_failures.unwrap_or_default(),
        event_logger: sink.into_iter().collect(),
        health_checker: Some(checker),
        ..HealthCheck::default()
    }
}

fn http_check(conf: &HttpHealthCheck, protocol: Protocol, tags: &Labels) -> HttpCheck {
    let changes = conf.request_headers_to_add.clone().unwrap_or_default();
    let header = |name: String, value: String, action: HeaderAppendAction| HeaderValueOption {
        header: Some(HeaderValue { key: name, value, ..HeaderValue::default() }),
        append_action: action.into(),
        ..HeaderValueOption::default()
    };
    let added = changes.add.into_iter().flatten();
    let added = added.map(|one| header(one.name, one.value, HeaderAppendAction::AppendIfExistsOrAdd));
    let set = changes.set.into_iter().flatten();
    let set = set.map(|one| header(one.name, one.value, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let codec = if protocol == Protocol::Http2 { CodecClientType::Http2 } else { CodecClientType::Http1 };
    let statuses = conf.expected_statuses.iter().flatten();
    HttpCheck {
        path: conf.path.clone().unwrap_or_else(|| "/".into()),
        request_headers_to_add: std::iter::once(tags_header(tags)).chain(added).chain(set).collect(),
        expected_statuses: statuses
            .map(|status| Int64Range { start: i64::from(*status), end: i64::from(*status) + 1 })
            .collect(),
        codec_client_type: codec.into(),
        ..HttpCheck::default()
    }
}

fn tcp_check(conf: &TcpHealthCheck) -> TcpCheck {
    TcpCheck {
        send: conf.send.as_deref().map(payload),
        receive: conf.receive.iter().flatten().map(|text| payload(text)).collect(),
        ..TcpCheck::default()
    }
}

/// Bytes in base64 as Envoy takes them: in hex.
fn payload(base64: &str) -> Payload {
    let bytes = STANDARD.decode(base64).unwrap_or_default();
    let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Payload { payload: Some(PayloadForm::Text(hex)) }
}

/// Calls fail rather than go to endpoints that are not healthy. Where localities have weights, Envoy cannot do both.
fn fail_on_panic(conf: &HealthCheckConf, cluster: &mut Cluster) {
    if conf.fail_traffic_on_panic != Some(true) {
        return;
    }
    let common = cluster.message.common_lb_config.get_or_insert_default();
    let specifier = &mut common.locality_config_specifier;
    if !matches!(specifier, Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_))) {
        let zones = ZoneAwareLbConfig { fail_traffic_on_panic: true, ..ZoneAwareLbConfig::default() };
        *specifier = Some(LocalityConfigSpecifier::ZoneAwareLbConfig(zones));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(conf: Value, protocol: Protocol) -> Option<HealthChecker> {
        checker(&serde_json::from_value(conf).expect("a configuration"), protocol, &Labels::new())
    }

    #[test]
    fn the_protocol_decides_and_a_connection_is_the_last_resort() {
        let all = json!({"http": {}, "grpc": {"serviceName": "s"}, "tcp": {}});
        assert!(matches!(of(all.clone(), Protocol::Http2), Some(HealthChecker::HttpHealthCheck(_))));
        assert!(matches!(of(all.clone(), Protocol::Grpc), Some(HealthChecker::GrpcHealthCheck(_))));
        assert!(matches!(of(all, Protocol::Tcp), Some(HealthChecker::TcpHealthCheck(_))));
        let off = json!({"http": {"disabled": true}, "tcp": {"send": "Zm9v", "receive": ["YmE="]}});
        let Some(HealthChecker::TcpHealthCheck(tcp)) = of(off, Protocol::Http) else {
            panic!("no TCP check")
        };
        let hex = |text: &str| Payload { payload: Some(PayloadForm::Text(text.into())) };
        assert_eq!((tcp.send, tcp.receive), (Some(hex("666f6f")), vec![hex("6261")]));
        assert_eq!(of(json!({"http": {"disabled": true}}), Protocol::Http), None);
    }
}
