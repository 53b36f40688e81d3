//! What the host's environment says of collectors: `OTEL_EXPORTER_OTLP_*` (OpenTelemetry Protocol Exporter) and
//! `HOST_IP`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::config::{Backend, EnvMode, Precedence, Signal};
use super::destination::Destination;

/// What the variables of all signals start with.
const PREFIX: &str = "OTEL_EXPORTER_OTLP_";
/// Settings that count here.
const SETTINGS: [&str; 3] = ["ENDPOINT", "PROTOCOL", "HEADERS"];
const SIGNALS: [Signal; 3] = [Signal::Traces, Signal::Logs, Signal::Metrics];
/// Where the collector of the host is looked for when nobody knows the host's address.
const LOOPBACK: &str = "127.0.0.1";

/// What the environment says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Environment {
    /// By the rest of the variable's name, such as `ENDPOINT` or `TRACES_ENDPOINT`.
    settings: BTreeMap<String, String>,
    pub(crate) host_ip: Option<String>,
}

impl Environment {
    /// Reads variables; empty ones count as not set.
    pub(crate) fn read(variables: impl Iterator<Item = (String, String)>) -> Self {
        let mut read = Self::default();
        for (name, value) in variables.filter(|(_, value)| !value.trim().is_empty()) {
            if name == "HOST_IP" {
                read.host_ip = Some(value);
            } else if let Some(setting) = name.strip_prefix(PREFIX) {
                read.settings.insert(setting.to_owned(), value);
            }
        }
        read
    }

    /// Which settings are there, for the control plane to plan with; values stay here, they may be secret.
    pub(crate) fn inventory(&self) -> Value {
        let names = |layer: &str| -> Value {
            let said = SETTINGS.iter().filter(|name| self.settings.contains_key(&format!("{layer}{name}")));
            said.map(|name| (name.to_ascii_lowercase(), json!(true)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        let mut inventory = json!({"pipeEnabled": true, "shared": names("")});
        for signal in SIGNALS {
            inventory[signal.name()] = names(&layer(signal));
        }
        inventory
    }

    /// Where a signal goes.
    ///
    /// # Errors
    /// What cannot be understood.
    pub(crate) fn destination(&self, backend: &Backend, signal: Signal) -> Result<Destination, String> {
        let policy = &backend.env_policy;
        let counts = policy.mode != EnvMode::Disabled;
        let may_override = policy.allow_signal_overrides.unwrap_or(true);
        let own = |name: &str| {
            self.settings.get(&format!("{}{name}", layer(signal))).filter(|_| counts && may_override)
        };
        let shared = |name: &str| self.settings.get(name).filter(|_| counts);
        let headers = own("HEADERS").or_else(|| shared("HEADERS"));
        let headers = headers.map(|text| headers_of(text)).unwrap_or_default();
        let is_explicit = !backend.endpoint.starts_with(':') && !backend.endpoint.is_empty();
        let env_wins = policy.precedence == Precedence::EnvFirst || !is_explicit;
        let protocol = own("PROTOCOL").or_else(|| shared("PROTOCOL")).filter(|_| env_wins);
        let is_http = protocol.map_or(backend.use_http, |protocol| protocol.starts_with("http"));
        let suffix = format!("/v1/{}", signal.name());
        // The URL for one signal is whole, that for all gets the signal's path (OTLP Exporter, Endpoint URLs).
        let url =
            own("ENDPOINT").map(|url| (url, "")).or_else(|| shared("ENDPOINT").map(|url| (url, &*suffix)));
        if let Some((url, suffix)) = url.filter(|_| env_wins) {
            let (authority, tls, path) = Destination::of_url(url)?;
            return Ok(Destination { authority, tls, path: is_http.then(|| path + suffix), headers });
        }
        let host = self.host_ip.as_deref().unwrap_or(LOOPBACK);
        let text = if is_explicit { backend.endpoint.clone() } else { format!("{host}{}", backend.endpoint) };
        let authority = text.parse().map_err(|_| format!("{text:?} is no address of a collector"))?;
        let path = is_http.then(|| format!("{}{suffix}", backend.path));
        Ok(Destination { authority, tls: backend.use_https, path, headers })
    }
}

/// What names of variables for one signal start with.
fn layer(signal: Signal) -> String {
    format!("{}_", signal.name().to_ascii_uppercase())
}

/// Headers as `key=value,key=value`.
fn headers_of(text: &str) -> Vec<(String, String)> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::read(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    fn backend(text: &str) -> Backend {
        serde_json::from_str(text).unwrap()
    }

    fn shown(environment: &Environment, backend: &Backend, signal: Signal) -> String {
        let place = environment.destination(backend, signal).unwrap();
        format!("{} {} {:?} {:?}", place.authority, place.tls, place.path, place.headers)
    }

    #[test]
    fn without_an_environment_the_backend_decides() {
        let plain = backend(r#"{"endpoint": "otel.example:4317"}"#);
        let none = Environment::default();
        assert_eq!(shown(&none, &plain, Signal::Logs), "otel.example:4317 false None []");
        let http = backend(r#"{"endpoint": ":4318", "useHTTP": true, "path": "/base"}"#);
        assert_eq!(shown(&none, &http, Signal::Traces), r#"127.0.0.1:4318 false Some("/base/v1/traces") []"#);
        let host = environment(&[("HOST_IP", "10.0.0.1")]);
        assert_eq!(shown(&host, &http, Signal::Logs), r#"10.0.0.1:4318 false Some("/base/v1/logs") []"#);
    }

    #[test]
    fn the_environment_counts_as_the_policy_says() {
        let environment = environment(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://all.example:4318/x/"),
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://logs.example:1/y"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "Api-Key=a b, x=1"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", " "),
        ]);
        let with = |mode: &str, precedence: &str, overrides: bool| {
            backend(&format!(
                r#"{{"endpoint": "otel.example:4317", "envPolicy":
                    {{"mode": "{mode}", "precedence": "{precedence}", "allowSignalOverrides": {overrides}}}}}"#
            ))
        };
        let disabled = with("Disabled", "EnvFirst", true);
        assert_eq!(shown(&environment, &disabled, Signal::Logs), "otel.example:4317 false None []");
        let explicit = with("Optional", "ExplicitFirst", true);
        let headers = r#"[("api-key", "a b"), ("x", "1")]"#;
        assert_eq!(
            shown(&environment, &explicit, Signal::Logs),
            format!("otel.example:4317 false None {headers}")
        );
        let first = with("Required", "EnvFirst", true);
        let all = format!(r#"all.example:4318 true Some("/x/v1/traces") {headers}"#);
        assert_eq!(shown(&environment, &first, Signal::Traces), all);
        let logs = format!(r#"logs.example:1 false Some("/y") {headers}"#);
        assert_eq!(shown(&environment, &first, Signal::Logs), logs);
        let shared = with("Required", "EnvFirst", false);
        let all = format!(r#"all.example:4318 true Some("/x/v1/logs") {headers}"#);
        assert_eq!(shown(&environment, &shared, Signal::Logs), all);
        let told = json!({"pipeEnabled": true, "shared": {"endpoint": true, "headers": true, "protocol": true},
            "traces": {}, "logs": {"endpoint": true}, "metrics": {}});
        assert_eq!(environment.inventory(), told);
    }

    #[test]
    fn what_is_no_url_is_said() {
        let environment = environment(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317")]);
        let backend = backend(r#"{"endpoint": ":4317", "envPolicy": {"mode": "Optional"}}"#);
        let error = environment.destination(&backend, Signal::Logs).unwrap_err();
        assert!(error.contains("collector:4317"), "{error}");
    }
}
