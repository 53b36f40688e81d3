//! What holds in a MeshRetry.

use super::super::Checked;
use super::super::checks::{
    DESTINATIONS, check_header_name, check_not_negative, check_positive, check_target, check_top,
};
use super::super::http_match::HttpMethod;
use super::{
    BackOff, GrpcRetry, HostPredicate, HostSelection, HttpRetry, MeshRetry, RateLimitedBackOff, RetryConf,
};
use crate::Violations;

/// Conditions of retries of HTTP, beside statuses and methods.
const HTTP_RETRY_ON: [&str; 8] = [
    "5XX",
    "GatewayError",
    "Reset",
    "Retriable4xx",
    "ConnectFailure",
    "EnvoyRatelimited",
    "RefusedStream",
    "Http3PostConnectFailure",
];

impl Checked for MeshRetry {
    fn check(&self, violations: &mut Violations) {
        check_top(self.target_ref.as_ref(), false, violations);
        let to = self.to.as_deref().unwrap_or_default();
        if to.is_empty() {
            violations.add("spec.to", "needs at least one item");
        }
        for (at, item) in to.iter().enumerate() {
            let path = format!("spec.to[{at}]");
            check_target(&format!("{path}.targetRef"), &item.target_ref, &DESTINATIONS, violations);
            item.default.check(&format!("{path}.default"), violations);
            if item.target_ref.kind == "MeshHTTPRoute" && item.default.tcp.is_some() {
                let message = "can't be specified when targetRef is referencing MeshHTTPRoute";
                violations.add(format!("{path}.default.tcp"), message);
            }
        }
    }
}

impl RetryConf {
    fn check(&self, path: &str, violations: &mut Violations) {
        if self.tcp.is_none() && self.http.is_none() && self.grpc.is_none() {
            violations.add(path, "must have at least one defined: tcp, http, grpc");
        }
        if let Some(tcp) = &self.tcp {
            let path = format!("{path}.tcp");
            if tcp.max_connect_attempt.is_none() {
                violations.add(&*path, "must not be empty");
            }
            check_positive(&format!("{path}.maxConnectAttempt"), tcp.max_connect_attempt, violations);
        }
        if let Some(http) = &self.http {
            http.check(&format!("{path}.http"), violations);
        }
        if let Some(grpc) = &self.grpc {
            let path = format!("{path}.grpc");
            if *grpc == GrpcRetry::default() {
                violations.add(&*path, "must not be empty");
            }
            check_not_negative(&format!("{path}.perTryTimeout"), grpc.per_try_timeout, violations);
            check_waits(&path, grpc.back_off.as_ref(), grpc.rate_limited_back_off.as_ref(), violations);
        }
    }
}

impl HttpRetry {
    fn check(&self, path: &str, violations: &mut Violations) {
        if *self == Self::default() {
            violations.add(path, "must not be empty");
        }
        check_not_negative(&format!("{path}.perTryTimeout"), self.per_try_timeout, violations);
        check_waits(path, self.back_off.as_ref(), self.rate_limited_back_off.as_ref(), violations);
        for (at, item) in self.retry_on.iter().flatten().enumerate() {
            if !is_retry_on(item) {
                violations.add(format!("{path}.retryOn[{at}]"), format!("unknown item '{item}'"));
            }
        }
        let headers = [
            ("retriableResponseHeaders", &self.retriable_response_headers),
            ("retriableRequestHeaders", &self.retriable_request_headers),
        ];
        for (name, headers) in headers {
            for (at, header) in headers.iter().flatten().enumerate() {
                header.check(&format!("{path}.{name}[{at}]"), violations);
            }
        }
        let selections = self.host_selection.as_deref().unwrap_or_default();
        for (at, selection) in selections.iter().enumerate() {
            selection.check(&format!("{path}.hostSelection[{at}]"), violations);
        }
        for predicate in [HostPredicate::OmitPreviousHosts, HostPredicate::OmitPreviousPriorities] {
            if selections.iter().filter(|one| one.predicate == predicate).count() > 1 {
                let message = format!("must contain {predicate:?} only once");
                violations.add(format!("{path}.hostSelection"), message);
            }
        }
        check_positive(
            &format!("{path}.hostSelectionMaxAttempts"),
            self.host_selection_max_attempts,
            violations,
        );
    }
}

impl HostSelection {
    fn check(&self, path: &str, violations: &mut Violations) {
        let has_tags = self.tags.as_ref().is_some_and(|tags| !tags.is_empty());
        match (self.predicate, has_tags) {
            (HostPredicate::OmitHostsWithTags, false) => {
                violations.add(format!("{path}.tags"), "must be defined");
            }
            (HostPredicate::OmitPreviousHosts | HostPredicate::OmitPreviousPriorities, true) => {
                violations.add(format!("{path}.tags"), "must not be defined");
            }
            _ => {}
        }
        check_positive(&format!("{path}.updateFrequency"), Some(self.update_frequency), violations);
    }
}

/// A condition, a status, or a method.
fn is_retry_on(item: &str) -> bool {
    let condition = HTTP_RETRY_ON.iter().any(|known| known.eq_ignore_ascii_case(item));
    let status = item.len() == 3 && item.parse().is_ok_and(|status: u16| (100..600).contains(&status));
    let method = item
        .strip_prefix("HttpMethod")
        .is_some_and(|name| HttpMethod::ALL.iter().any(|method| method.as_str().eq_ignore_ascii_case(name)));
    condition || status || method
}

fn check_waits(
    path: &str,
    back_off: Option<&BackOff>,
    rate_limited: Option<&RateLimitedBackOff>,
    violations: &mut Violations,
) {
    if let Some(back_off) = back_off {
        let path = format!("{path}.backOff");
        if *back_off == BackOff::default() {
            violations.add(&*path, "must not be empty");
        }
        check_positive(&format!("{path}.baseInterval"), back_off.base_interval, violations);
        check_positive(&format!("{path}.maxInterval"), back_off.max_interval, violations);
    }
    if let Some(rate_limited) = rate_limited {
        let path = format!("{path}.rateLimitedBackOff");
        if rate_limited.reset_headers.as_ref().is_none_or(Vec::is_empty) {
            violations.add(format!("{path}.resetHeaders"), "must not be empty");
        }
        for (at, header) in rate_limited.reset_headers.iter().flatten().enumerate() {
            check_header_name(&format!("{path}.resetHeaders[{at}].name"), &header.name, violations);
        }
        check_positive(&format!("{path}.maxInterval"), rate_limited.max_interval, violations);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn report(default: Value) -> Vec<String> {
        let mut violations = Violations::default();
        let spec = json!({"to": [{"targetRef": {"kind": "Mesh"}, "default": default}]});
        serde_json::from_value::<MeshRetry>(spec).unwrap().check(&mut violations);
        let shown = |path: &str| path.trim_start_matches("spec.to[0].default").to_owned();
        violations.iter().map(|one| format!("{}|{}", shown(&one.field), one.message)).collect()
    }

    #[test]
    fn every_part_says_something() {
        assert_eq!(report(json!({})), ["|must have at least one defined: tcp, http, grpc"]);
        let empty = json!({"tcp": {}, "http": {}, "grpc": {"backOff": {}, "rateLimitedBackOff": {}}});
        let expected = [
            ".tcp|must not be empty",
            ".http|must not be empty",
            ".grpc.backOff|must not be empty",
            ".grpc.rateLimitedBackOff.resetHeaders|must not be empty",
        ];
        assert_eq!(report(empty), expected);
    }

    #[test]
    fn conditions_and_endpoints_are_known() {
        let good = json!({"http": {
            "numRetries": 0,
            "perTryTimeout": "0s",
            "retryOn": ["5xx", "5XX", "503", "HttpMethodGet", "HttpMethodDELETE", "GatewayError"],
            "hostSelection": [{"predicate": "OmitHostsWithTags", "tags": {"a": "b"}}],
        }});
        assert_eq!(report(good), Vec::<String>::new());
        let bad = json!({"tcp": {"maxConnectAttempt": 0}, "http": {
            "perTryTimeout": "-1s",
            "backOff": {"baseInterval": "0s"},
            "retryOn": ["600", "Nothing", "HttpMethodFetch"],
            "retriableRequestHeaders": [{"name": "Upper", "type": "Present"}, {"name": "a", "type": "Prefix"}],
            "hostSelection": [
                {"predicate": "OmitPreviousHosts", "tags": {"a": "b"}},
                {"predicate": "OmitPreviousHosts"},
                {"predicate": "OmitHostsWithTags", "updateFrequency": 0},
            ],
            "hostSelectionMaxAttempts": 0,
        }});
        let expected = [
            ".tcp.maxConnectAttempt|must be greater than zero when defined",
            ".http.perTryTimeout|must not be negative when defined",
            ".http.backOff.baseInterval|must be greater than zero when defined",
            ".http.retryOn[0]|unknown item '600'",
            ".http.retryOn[1]|unknown item 'Nothing'",
            ".http.retryOn[2]|unknown item 'HttpMethodFetch'",
            r".http.retriableRequestHeaders[0].name|in body should match '^[a-z0-9!#$%&'*+\-.^_\x60|~]+$'",
            ".http.retriableRequestHeaders[1].value|must be defined",
            ".http.hostSelection[0].tags|must not be defined",
            ".http.hostSelection[2].tags|must be defined",
            ".http.hostSelection[2].updateFrequency|must be greater than zero when defined",
            ".http.hostSelection|must contain OmitPreviousHosts only once",
            ".http.hostSelectionMaxAttempts|must be greater than zero when defined",
        ];
        assert_eq!(report(bad), expected);
    }
}
