//! The variables of `kuma-dp`, for those who change the program and keep its environment: each stands for a flag of
//! `run` whose own variable is not set.

use std::ffi::OsString;

use clap::Command;

/// What variables of `kuma-dp run` start with.
const PREFIXES: [&str; 4] = ["KUMA_CONTROL_PLANE_", "KUMA_DATAPLANE_", "KUMA_DNS_", "KUMA_READINESS_"];

/// The argument of `run`, and the peer's variable for it.
const VARIABLES: [(&str, &str); 25] = [
    ("bind_outbounds", "KUMA_DATAPLANE_RUNTIME_BIND_OUTBOUNDS"),
    ("concurrency", "KUMA_DATAPLANE_RUNTIME_CONCURRENCY"),
    ("cp_address", "KUMA_CONTROL_PLANE_URL"),
    ("cp_ca_cert", "KUMA_CONTROL_PLANE_CA_CERT"),
    ("cp_ca_file", "KUMA_CONTROL_PLANE_CA_CERT_FILE"),
    ("cp_retry_for", "KUMA_CONTROL_PLANE_RETRY_MAX_DURATION"),
    ("cp_skip_verify", "KUMA_CONTROL_PLANE_TLS_SKIP_VERIFY"),
    ("dataplane", "KUMA_DATAPLANE_RUNTIME_RESOURCE"),
    ("dataplane_file", "KUMA_DATAPLANE_RUNTIME_RESOURCE_PATH"),
    ("dns_enabled", "KUMA_DNS_ENABLED"),
    ("dns_port", "KUMA_DNS_PROXY_PORT"),
    ("drain_time", "KUMA_DATAPLANE_DRAIN_TIME"),
    ("envoy", "KUMA_DATAPLANE_RUNTIME_BINARY_PATH"),
    ("envoy_component_log_level", "KUMA_DATAPLANE_RUNTIME_ENVOY_COMPONENT_LOG_LEVEL"),
    ("envoy_log_level", "KUMA_DATAPLANE_RUNTIME_ENVOY_LOG_LEVEL"),
    ("mesh", "KUMA_DATAPLANE_MESH"),
    ("metrics_cert_path", "KUMA_DATAPLANE_RUNTIME_METRICS_CERT_PATH"),
    ("metrics_key_path", "KUMA_DATAPLANE_RUNTIME_METRICS_KEY_PATH"),
    ("name", "KUMA_DATAPLANE_NAME"),
    ("proxy_type", "KUMA_DATAPLANE_PROXY_TYPE"),
    ("readiness_port", "KUMA_READINESS_PORT"),
    ("token", "KUMA_DATAPLANE_RUNTIME_TOKEN"),
    ("token_file", "KUMA_DATAPLANE_RUNTIME_TOKEN_PATH"),
    ("transparent_proxy", "KUMA_DATAPLANE_RUNTIME_TRANSPARENT_PROXY"),
    ("workdir", "KUMA_DATAPLANE_RUNTIME_WORK_DIR"),
];

/// Lets the peer's variables stand for flags whose own are not set. `value` looks a variable up; empty ones count as
/// not set, as with the peer.
pub(super) fn read_variables(command: Command, value: impl Fn(&str) -> Option<OsString>) -> Command {
    let is_set = |name: &str| value(name).is_some_and(|value| !value.is_empty());
    command.mut_subcommand("run", |run| {
        VARIABLES.into_iter().filter(|(_, variable)| is_set(variable)).fold(run, |run, (id, variable)| {
            run.mut_arg(id, |argument| match argument.get_env().and_then(|own| own.to_str()) {
                Some(own) if is_set(own) => argument,
                _ => argument.env(variable),
            })
        })
    })
}

/// Variables that look as if they were meant for this program and that it does not read.
pub(crate) fn unread(names: impl Iterator<Item = String>) -> Vec<String> {
    let is_read = |name: &str| VARIABLES.iter().any(|(_, variable)| *variable == name);
    let looks_so = |name: &str| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    let mut unread: Vec<_> = names.filter(|name| looks_so(name) && !is_read(name)).collect();
    unread.sort();
    unread
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clap::{CommandFactory, FromArgMatches};

    use super::super::{Cli, Command as Sub, RunArgs};
    use super::*;

    /// The argument that a variable changes, and what it then says.
    fn argument(variable: &str) -> Option<String> {
        let command = read_variables(Cli::command(), |name| (name == variable).then(|| "x".into()));
        let run = command.find_subcommand("run")?;
        let found = run.get_arguments().find(|one| one.get_env().is_some_and(|env| env == variable))?;
        Some(found.get_id().to_string())
    }

    #[test]
    fn each_variable_is_that_of_one_flag() {
        for (id, variable) in VARIABLES {
            assert_eq!(argument(variable).as_deref(), Some(id));
        }
        let distinct: BTreeMap<_, _> = VARIABLES.into_iter().collect();
        assert_eq!(distinct.len(), VARIABLES.len());
    }

    #[test]
    fn our_own_variable_wins_and_empty_ones_do_not_count() {
        let with = |own: &'static str, peer: &'static str| {
            let command = read_variables(Cli::command(), move |name| match name {
                "ISTHMUS_DP_MESH" => Some(own.into()),
                "KUMA_DATAPLANE_MESH" => Some(peer.into()),
                _ => None,
            });
            let run = command.find_subcommand("run").unwrap();
            let mesh = run.get_arguments().find(|one| one.get_id() == "mesh").unwrap();
            mesh.get_env().unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(with("a", "b"), "ISTHMUS_DP_MESH");
        assert_eq!(with("", "b"), "KUMA_DATAPLANE_MESH");
        assert_eq!(with("", ""), "ISTHMUS_DP_MESH");
    }

    #[test]
    fn a_command_line_of_kuma_dp_is_understood() {
        let line = "mesh-dp run --cp-address=https://localhost:5678 --ca-cert-file=ca --proxy-type=dataplane \
            --dataplane-token=t --dataplane=text --dataplane-var name=web --envoy-log-level=info \
            --envoy-component-log-level=upstream:debug --concurrency=0 --dns-enabled --transparent-proxy \
            --transparent-proxy-config=a,b --transparent-proxy-config c";
        let matches = Cli::command().try_get_matches_from(line.split_whitespace()).unwrap();
        let Sub::Run(args) = Cli::from_arg_matches(&matches).unwrap().command else { panic!("not run") };
        let RunArgs { token, dataplane, dns_enabled, transparent_proxy_config, .. } = &*args;
        assert_eq!((token.as_deref(), dataplane.as_deref()), (Some("t"), Some("text")));
        assert_eq!(*dns_enabled, Some(true));
        assert_eq!(transparent_proxy_config.len(), 3);
        assert_eq!(args.threads(), None);
        for bad in [
            "mesh-dp run --proxy-type=ingress",
            "mesh-dp run --dataplane-token=t --dataplane-token-file=f",
            "mesh-dp run --dataplane=t --dataplane-file=f",
        ] {
            assert!(Cli::command().try_get_matches_from(bad.split_whitespace()).is_err(), "{bad}");
        }
    }

    #[test]
    fn variables_that_are_not_read_are_told() {
        let names = [
            "KUMA_DATAPLANE_RUNTIME_SPIRE_SUPPORTED",
            "KUMA_DNS_ENABLED",
            "KUMA_TRANSPARENT_PROXY_X",
            "PATH",
        ];
        let unread = unread(names.iter().map(|name| (*name).to_owned()));
        assert_eq!(unread, ["KUMA_DATAPLANE_RUNTIME_SPIRE_SUPPORTED"]);
    }
}
