//! Retries of requests as Envoy's policy.

use envoy_api::envoy::config::core::v3::Metadata;
use envoy_api::envoy::config::route::v3::RetryPolicy;
use envoy_api::envoy::config::route::v3::retry_policy::{
    RateLimitedRetryBackOff, ResetHeader, ResetHeaderFormat, RetryBackOff, RetryHostPredicate, RetryPriority,
    retry_host_predicate, retry_priority,
};
use envoy_api::envoy::extensions::retry::host::omit_host_metadata::v3::OmitHostMetadataConfig;
use envoy_api::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use envoy_api::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;
use envoy_api::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use model::duration::GoDuration;
use model::spec::{
    BackOff, GrpcRetry, GrpcRetryOn, HostPredicate, HostSelection, HttpMethod, HttpRetry, RateLimitedBackOff,
    ResetFormat,
};
use std::collections::BTreeMap;

use crate::generate::{header, header_is};
use crate::parts::{document, duration};

/// What makes a request of HTTP fail where the policy does not say it.
const HTTP_RETRY_ON: &str = "gateway-error,connect-failure,refused-stream";

/// What makes a call of gRPC fail where the policy does not say it.
const GRPC_RETRY_ON: &str =
    "cancelled,connect-failure,gateway-error,refused-stream,reset,resource-exhausted,unavailable";

/// Makes Envoy look at the list of statuses.
const STATUS_CODES: &str = "retriable-status-codes";

/// Names of policies and of Envoy.
const CONDITIONS: [(&str, &str); 8] = [
    ("5XX", "5xx"),
    ("GatewayError", "gateway-error"),
    ("Reset", "reset"),
    ("Retriable4xx", "retriable-4xx"),
    ("ConnectFailure", "connect-failure"),
    ("EnvoyRatelimited", "envoy-ratelimited"),
    ("RefusedStream", "refused-stream"),
    ("Http3PostConnectFailure", "http3-post-connect-failure"),
];

const MILLISECOND: GoDuration = GoDuration::from_nanos(1_000_000);
const BASE_INTERVAL: GoDuration = GoDuration::from_nanos(25_000_000);

/// The policy for requests of HTTP; `None` when nothing is made again.
pub(super) fn of_http(retry: &HttpRetry) -> Option<RetryPolicy> {
    if retry.num_retries == Some(0) {
        return None;
    }
    let mut policy = RetryPolicy {
        num_retries: retry.num_retries,
        per_try_timeout: retry.per_try_timeout.map(duration),
        retry_back_off: retry.back_off.as_ref().map(back_off),
        rate_limited_retry_back_off: retry.rate_limited_back_off.as_ref().and_then(rate_limited),
        retriable_headers: retry.retriable_response_headers.iter().flatten().map(header).collect(),
        retriable_request_headers: retry.retriable_request_headers.iter().flatten().map(header).collect(),
        host_selection_retry_max_attempts: retry.host_selection_max_attempts.unwrap_or_default(),
        ..RetryPolicy::default()
    };
    let mut conditions: Vec<&str> = Vec::new();
    for item in retry.retry_on.iter().flatten() {
        if let Ok(status) = item.parse() {
            policy.retriable_status_codes.push(status);
        } else if let Some(method) = method(item) {
            let pattern = MatchPattern::Exact(method.as_str().into());
            policy.retriable_request_headers.push(header_is(":method", pattern));
        } else if let Some((_, condition)) =
            CONDITIONS.iter().find(|(name, _)| name.eq_ignore_ascii_case(item))
        {
            conditions.push(condition);
        }
    }
    if !policy.retriable_status_codes.is_empty() {
        conditions.push(STATUS_CODES);
    }
    // Methods alone do not make a request fail.
    policy.retry_on = if conditions.is_empty() { HTTP_RETRY_ON.into() } else { conditions.join(",") };
    for selection in retry.host_selection.iter().flatten() {
        select(selection, &mut policy);
    }
    Some(policy)
}

/// The policy for calls of gRPC; `None` when nothing is made again.
pub(super) fn of_grpc(retry: &GrpcRetry) -> Option<RetryPolicy> {
    if retry.num_retries == Some(0) {
        return None;
    }
    let name = |status: &GrpcRetryOn| match status {
        GrpcRetryOn::Canceled => "cancelled",
        GrpcRetryOn::DeadlineExceeded => "deadline-exceeded",
        GrpcRetryOn::Internal => "internal",
        GrpcRetryOn::ResourceExhausted => "resource-exhausted",
        GrpcRetryOn::Unavailable => "unavailable",
    };
    let conditions: Vec<_> = retry.retry_on.iter().flatten().map(name).collect();
    Some(RetryPolicy {
        retry_on: if conditions.is_empty() { GRPC_RETRY_ON.into() } else { conditions.join(",") },
        num_retries: retry.num_retries,
        per_try_timeout: retry.per_try_timeout.map(duration),
        retry_back_off: retry.back_off.as_ref().map(back_off),
        rate_limited_retry_back_off: retry.rate_limited_back_off.as_ref().and_then(rate_limited),
        ..RetryPolicy::default()
    })
}

fn method(item: &str) -> Option<HttpMethod> {
    let name = item.strip_prefix("HttpMethod")?;
    HttpMethod::ALL.into_iter().find(|method| method.as_str().eq_ignore_ascii_case(name))
}

/// Envoy refuses a base that is zero or beyond the longest wait; merged policies may say so.
fn back_off(said: &BackOff) -> RetryBackOff {
    let base = said.base_interval.unwrap_or(BASE_INTERVAL).max(MILLISECOND);
    RetryBackOff {
        base_interval: Some(duration(base)),
        max_interval: said.max_interval.map(|longest| duration(longest.max(base))),
    }
}

/// `None` without headers, which Envoy refuses.
fn rate_limited(said: &RateLimitedBackOff) -> Option<RateLimitedRetryBackOff> {
    let headers = said.reset_headers.iter().flatten().map(|header| {
        let format = match header.format {
            ResetFormat::Seconds => ResetHeaderFormat::Seconds,
            ResetFormat::UnixTimestamp => ResetHeaderFormat::UnixTimestamp,
        };
        ResetHeader { name: header.name.clone(), format: format.into() }
    });
    let reset_headers: Vec<_> = headers.collect();
    let max_interval = said.max_interval.filter(|longest| *longest > GoDuration::default()).map(duration);
    (!reset_headers.is_empty()).then_some(RateLimitedRetryBackOff { reset_headers, max_interval })
}

fn select(selection: &HostSelection, policy: &mut RetryPolicy) {
    let predicate = |name: &str, config| RetryHostPredicate {
        name: format!("envoy.retry_host_predicates.{name}"),
        config_type: Some(retry_host_predicate::ConfigType::TypedConfig(config)),
    };
    match selection.predicate {
        HostPredicate::OmitPreviousHosts => {
            let config = envoy_api::pack(&PreviousHostsPredicate::default());
            policy.retry_host_predicate.push(predicate("previous_hosts", config));
        }
        HostPredicate::OmitHostsWithTags => {
            let tags = selection.tags.iter().flatten();
            let tags = document(tags.map(|(name, value)| (name.as_str(), value.as_str())));
            let filter_metadata = BTreeMap::from([("envoy.lb".to_owned(), tags)]);
            let metadata = Metadata { filter_metadata, ..Metadata::default() };
            let config = envoy_api::pack(&OmitHostMetadataConfig { metadata_match: Some(metadata) });
            policy.retry_host_predicate.push(predicate("omit_host_metadata", config));
        }
        HostPredicate::OmitPreviousPriorities => {
            let config = PreviousPrioritiesConfig { update_frequency: selection.update_frequency.max(1) };
            policy.retry_priority = Some(RetryPriority {
                name: "envoy.retry_priorities.previous_priorities".into(),
                config_type: Some(retry_priority::ConfigType::TypedConfig(envoy_api::pack(&config))),
            });
        }
    }
}
