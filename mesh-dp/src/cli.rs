//! The command line, and the environment variables that stand for its flags.

mod peer;

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use runtime::config::HumanDuration;
use runtime::tls::Fingerprint;

pub(crate) use self::peer::unread;
use crate::transparent_proxy::{InstallArgs, UninstallArgs};

/// What every environment variable of this program starts with.
const ENV_PREFIX: &str = "ISTHMUS_DP_";

/// What variables of the zone control plane's section `dpServer` start with.
const ZONE_PREFIX: &str = "ISTHMUS_DP_SERVER_";

/// Less similar names than this are not worth suggesting.
const SIMILAR: f64 = 0.75;

/// Ends the help of `run`.
const EXAMPLE: &str = "Example:

  mesh-dp run --cp-address https://cp.east.example:5678 --cp-ca-file ca.pem \\
      --dataplane-file backend.yaml --dataplane-var address=10.0.0.7 --token-file backend.token";

/// Runs Envoy for one dataplane of the mesh.
#[derive(Debug, Parser)]
#[command(name = "mesh-dp", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Fetch Envoy's bootstrap from the zone control plane and keep an Envoy running with it.
    ///
    /// A dataplane that is not in the control plane's store yet is registered from --dataplane-file;
    /// one that is, is named by --mesh and --name.
    ///
    /// SIGTERM or Ctrl-C drains: health checks fail, and Envoy stops when its connections are gone or
    /// --drain-time is over. A second signal stops at once. SIGUSR2 only lets Envoy's listeners drain;
    /// SIGTERM stops at once after it. The readiness port answers /ready and /metrics.
    ///
    /// Variables of `kuma-dp` such as KUMA_CONTROL_PLANE_URL stand for flags whose own variable is not
    /// set; its flags are understood, where ours have other names too.
    #[command(after_long_help = EXAMPLE)]
    Run(Box<RunArgs>),
    /// Set up this host.
    #[command(subcommand)]
    Install(Install),
    /// Undo what `install` did.
    #[command(subcommand)]
    Uninstall(Uninstall),
    /// Become Envoy, bound to the life of the process that started it.
    #[command(hide = true)]
    ExecEnvoy(ExecArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Install {
    /// Bring the connections of this host's applications to Envoy, by packet rules.
    ///
    /// Rules that an earlier installation made are replaced, those of others are left alone. They are
    /// gone after a restart of the host, unless --systemd-unit brings them back.
    TransparentProxy(Box<InstallArgs>),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Uninstall {
    /// Remove the packet rules that `install transparent-proxy` made.
    TransparentProxy(UninstallArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Where the zone control plane serves bootstrap and xDS.
    #[arg(long, env = "ISTHMUS_DP_CP_ADDRESS", value_name = "URL", default_value = "https://localhost:5678")]
    pub(crate) cp_address: String,

    /// PEM file of the authority that signed the control plane's certificate.
    /// Without it and the two flags below, the host's root certificates decide.
    #[arg(
        long,
        visible_alias = "ca-cert-file",
        env = "ISTHMUS_DP_CP_CA_FILE",
        value_name = "FILE",
        group = "trust"
    )]
    pub(crate) cp_ca_file: Option<PathBuf>,

    /// That authority as PEM text.
    #[arg(long, env = "ISTHMUS_DP_CP_CA_CERT", value_name = "PEM", group = "trust")]
    pub(crate) cp_ca_cert: Option<String>,

    /// SHA-256 of that authority's certificate, as the control plane prints it at its first start.
    #[arg(long, env = "ISTHMUS_DP_CP_CA_FINGERPRINT", value_name = "SHA256", group = "trust")]
    pub(crate) cp_ca_fingerprint: Option<Fingerprint>,

    /// Do not check the control plane's certificate. The token may then be sent to an impostor.
    #[arg(long, visible_alias = "skip-verify", env = "ISTHMUS_DP_CP_SKIP_VERIFY", group = "trust")]
    pub(crate) cp_skip_verify: bool,

    /// How long to go on asking for the bootstrap before giving up; 0s for ever.
    #[arg(long, env = "ISTHMUS_DP_CP_RETRY_FOR", value_name = "DURATION", default_value = "5m")]
    pub(crate) cp_retry_for: HumanDuration,

    /// The mesh of the dataplane; taken from --dataplane-file when that is given.
    #[arg(long, env = "ISTHMUS_DP_MESH")]
    pub(crate) mesh: Option<String>,

    /// The name of the dataplane; taken from --dataplane-file when that is given.
    #[arg(long, env = "ISTHMUS_DP_NAME")]
    pub(crate) name: Option<String>,

    /// YAML file of a Dataplane to register; `-` for standard input. `{{ key }}` in it stands for a
    /// --dataplane-var.
    #[arg(
        long,
        short = 'd',
        env = "ISTHMUS_DP_DATAPLANE_FILE",
        value_name = "FILE",
        conflicts_with = "dataplane"
    )]
    pub(crate) dataplane_file: Option<PathBuf>,

    /// The text of that file itself.
    #[arg(long, env = "ISTHMUS_DP_DATAPLANE", value_name = "YAML")]
    pub(crate) dataplane: Option<String>,

    /// What kind of proxy: a dataplane, whatever its listeners are.
    #[arg(long, value_name = "TYPE", value_parser = ["dataplane"], hide = true)]
    pub(crate) proxy_type: Option<String>,

    /// A value for the dataplane file; may be repeated.
    #[arg(long = "dataplane-var", visible_alias = "var", short = 'v', value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) dataplane_vars: Vec<(String, String)>,

    /// File of the dataplane token that the control plane asks for.
    #[arg(long, visible_alias = "dataplane-token-file", env = "ISTHMUS_DP_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// The token itself. Everybody on this host can read it in the list of processes: better a file.
    #[arg(
        long,
        visible_alias = "dataplane-token",
        env = "ISTHMUS_DP_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true,
        conflicts_with = "token_file"
    )]
    pub(crate) token: Option<String>,

    /// Folder for the bootstrap and the sockets; at most 78 bytes long, because of the sockets.
    /// Without it, a temporary one is made and removed at exit.
    #[arg(long, visible_alias = "work-dir", env = "ISTHMUS_DP_WORKDIR", value_name = "DIR")]
    pub(crate) workdir: Option<PathBuf>,

    /// The Envoy binary: a path, or a name that is looked up in PATH.
    #[arg(
        long,
        visible_alias = "binary-path",
        env = "ISTHMUS_DP_ENVOY",
        value_name = "PATH",
        default_value = "envoy"
    )]
    pub(crate) envoy: PathBuf,

    /// Envoy's worker threads. Without it, or for 0, as many as the CPUs that the process may use.
    #[arg(long, env = "ISTHMUS_DP_CONCURRENCY", value_name = "N")]
    pub(crate) concurrency: Option<u32>,

    /// Envoy's own log level; --log-level decides what of it is shown. At info, Envoy lists some
    /// hundred lines of extensions at each start.
    #[arg(long, env = "ISTHMUS_DP_ENVOY_LOG_LEVEL", value_name = "LEVEL", default_value = "warning")]
    pub(crate) envoy_log_level: EnvoyLogLevel,

    /// Log levels of parts of Envoy, such as `upstream:debug,connection:trace`.
    #[arg(long, env = "ISTHMUS_DP_ENVOY_COMPONENT_LOG_LEVEL", value_name = "LEVELS")]
    pub(crate) envoy_component_log_level: Option<String>,

    /// Address of the readiness port.
    #[arg(long, env = "ISTHMUS_DP_READINESS_ADDRESS", value_name = "IP", default_value = "127.0.0.1")]
    pub(crate) readiness_address: IpAddr,

    /// Port of /ready and /metrics; 0 for any free port, which the log then tells.
    #[arg(long, env = "ISTHMUS_DP_READINESS_PORT", value_name = "PORT", default_value_t = 9902)]
    pub(crate) readiness_port: u16,

    /// Address of the DNS port. With 127.0.0.1 it is served on ::1 too, where the host has that.
    #[arg(long, env = "ISTHMUS_DP_DNS_ADDRESS", value_name = "IP", default_value = "127.0.0.1")]
    pub(crate) dns_address: IpAddr,

    /// Port (UDP and TCP) that answers for names of the mesh and forwards the rest. 0 for none, or for
    /// 15053 where --dns-enabled or --transparent-proxy says that there is to be one.
    #[arg(
        long,
        visible_alias = "dns-proxy-port",
        env = "ISTHMUS_DP_DNS_PORT",
        value_name = "PORT",
        default_value_t = 0
    )]
    pub(crate) dns_port: u16,

    /// Whether DNS is served. Without it, --dns-port and --transparent-proxy say so.
    #[arg(long, env = "ISTHMUS_DP_DNS_ENABLED", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) dns_enabled: Option<bool>,

    /// Name server for the rest. Without it, the first one of /etc/resolv.conf.
    #[arg(long, env = "ISTHMUS_DP_DNS_UPSTREAM", value_name = "IP:PORT")]
    pub(crate) dns_upstream: Option<SocketAddr>,

    /// PEM file of the certificate with which Envoy serves metrics, where MeshMetric says `ProvidedTLS`.
    #[arg(long, env = "ISTHMUS_DP_METRICS_CERT_PATH", value_name = "FILE", requires = "metrics_key_path")]
    pub(crate) metrics_cert_path: Option<PathBuf>,

    /// PEM file of that certificate's key.
    #[arg(long, env = "ISTHMUS_DP_METRICS_KEY_PATH", value_name = "FILE", requires = "metrics_cert_path")]
    pub(crate) metrics_key_path: Option<PathBuf>,

    /// How long connections may take to end after SIGTERM.
    #[arg(long, env = "ISTHMUS_DP_DRAIN_TIME", value_name = "DURATION", default_value = "30s")]
    pub(crate) drain_time: HumanDuration,

    /// Let Envoy listen on the addresses of outbounds, which must then be this host's.
    #[arg(long, env = "ISTHMUS_DP_BIND_OUTBOUNDS")]
    pub(crate) bind_outbounds: bool,

    /// Packets of this host's applications are brought to Envoy, as `install transparent-proxy` does
    /// by default: Envoy listens for them.
    #[arg(long, env = "ISTHMUS_DP_TRANSPARENT_PROXY", action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", default_value_t = false, value_name = "BOOL")]
    pub(crate) transparent_proxy: bool,

    /// Files with what `install transparent-proxy` was told, where that was not the default; implies
    /// --transparent-proxy.
    #[arg(long, env = "ISTHMUS_DP_TRANSPARENT_PROXY_CONFIG", value_name = "FILE", value_delimiter = ',')]
    pub(crate) transparent_proxy_config: Vec<PathBuf>,

    /// What to log: a level, or a list such as `info,envoy=warn`.
    #[arg(long, env = "ISTHMUS_DP_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub(crate) log_level: String,

    /// Log one JSON object a line.
    #[arg(long, env = "ISTHMUS_DP_LOG_JSON")]
    pub(crate) log_json: bool,

    /// OTLP endpoint (gRPC) to export traces of mesh-dp itself to.
    #[arg(long, env = "ISTHMUS_DP_OTLP_ENDPOINT", value_name = "URL")]
    pub(crate) otlp_endpoint: Option<String>,
}

/// Where DNS is served when nobody names a port: where packet rules lead it.
const DNS_PORT: u16 = 15_053;

impl RunArgs {
    /// Envoy's worker threads, where they are told.
    pub(crate) fn threads(&self) -> Option<u32> {
        self.concurrency.filter(|threads| *threads > 0)
    }

    /// Whether packets are brought to Envoy.
    pub(crate) fn is_transparent(&self) -> bool {
        self.transparent_proxy || !self.transparent_proxy_config.is_empty()
    }

    /// Where DNS is served, if it is.
    pub(crate) fn served_dns_port(&self) -> Option<u16> {
        match (self.dns_enabled, self.dns_port) {
            (Some(false), _) => None,
            (None, 0) if !self.is_transparent() => None,
            (_, 0) => Some(DNS_PORT),
            (_, port) => Some(port),
        }
    }
}

/// Reads the command line, and the variables that stand for flags.
pub(crate) fn parse() -> Cli {
    let command = peer::read_variables(Cli::command(), |name| std::env::var_os(name));
    let matches = command.get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// The levels that Envoy knows.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum EnvoyLogLevel {
    Trace,
    Debug,
    Info,
    Warning,
    Error,
    Critical,
    Off,
}

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// The process whose end is also this one's.
    #[arg(long)]
    pub(crate) parent: i32,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<OsString>,
}

/// An environment variable with our prefix that stands for no flag.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown environment variable {name}{}", nearest.as_ref().map(|near| format!(", did you mean {near}?")).unwrap_or_default())]
pub(crate) struct UnknownVariable {
    name: String,
    nearest: Option<String>,
}

/// Refuses misspelt variables, which would otherwise be ignored silently.
pub(crate) fn check_environment(names: impl Iterator<Item = String>) -> Result<(), UnknownVariable> {
    let command = Cli::command();
    let arguments = command.get_subcommands().flat_map(clap::Command::get_arguments);
    let known: Vec<_> = arguments.filter_map(|a| a.get_env()?.to_str().map(str::to_owned)).collect();
    let ours = |name: &String| name.starts_with(ENV_PREFIX) && !name.starts_with(ZONE_PREFIX);
    let mut names: Vec<_> = names.filter(|name| ours(name) && !known.contains(name)).collect();
    names.sort();
    let Some(name) = names.into_iter().next() else { return Ok(()) };
    let score = |near: &String| strsim::jaro_winkler(&name[ENV_PREFIX.len()..], &near[ENV_PREFIX.len()..]);
    let best = known.iter().max_by(|a, b| score(a).total_cmp(&score(b)));
    let nearest = best.filter(|near| score(near) >= SIMILAR).cloned();
    Err(UnknownVariable { name, nearest })
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&str]) -> Result<(), UnknownVariable> {
        check_environment(names.iter().map(|name| (*name).to_owned()))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn misspelt_variables_are_refused() {
        check(&["PATH", "ISTHMUS_ENVOY", "ISTHMUS_DP_MESH"]).unwrap();
        let error = check(&["ISTHMUS_DP_TOKENFILE"]).unwrap_err();
        assert!(error.to_string().ends_with("did you mean ISTHMUS_DP_TOKEN_FILE?"), "{error}");
        assert_eq!(check(&["ISTHMUS_DP_QQQ"]).unwrap_err().nearest, None);
    }

    #[test]
    fn one_kind_of_trust_and_variables_with_values() {
        let parse = |extra: &[&str]| Cli::try_parse_from(["mesh-dp", "run"].iter().chain(extra));
        assert!(parse(&["--cp-ca-file", "a", "--cp-skip-verify"]).is_err());
        assert!(parse(&["-v", "novalue"]).is_err());
        let Command::Run(args) = parse(&["-v", "a=b=c", "--drain-time", "1m"]).unwrap().command else {
            panic!("not run")
        };
        assert_eq!(args.dataplane_vars, [("a".to_owned(), "b=c".to_owned())]);
        assert_eq!(args.drain_time, HumanDuration::from_secs(60));
        assert!(parse(&["--var", "a=b"]).is_ok());
        assert!(parse(&["--metrics-cert-path", "a"]).is_err());
        assert!(parse(&["--metrics-cert-path", "a", "--metrics-key-path", "b"]).is_ok());
    }

    #[test]
    fn dns_is_served_where_something_says_so() {
        let port = |line: &str| {
            let words = ["mesh-dp", "run"].into_iter().chain(line.split_whitespace());
            let Command::Run(args) = Cli::try_parse_from(words).unwrap().command else { panic!("not run") };
            args.served_dns_port()
        };
        assert_eq!(port(""), None);
        assert_eq!(port("--dns-enabled"), Some(DNS_PORT));
        assert_eq!(port("--transparent-proxy"), Some(DNS_PORT));
        assert_eq!(port("--transparent-proxy --dns-enabled=false"), None);
        assert_eq!(port("--transparent-proxy-config a --dns-port 53"), Some(53));
        assert_eq!(port("--dns-port 53 --dns-enabled=false"), None);
    }

    #[test]
    fn flags_have_the_names_that_users_of_kuma_know() {
        let line = "mesh-dp run --ca-cert-file c --dataplane-token-file t --work-dir w --binary-path e \
                    --dns-proxy-port 15053";
        let Command::Run(args) = Cli::try_parse_from(line.split_whitespace()).unwrap().command else {
            panic!("not run")
        };
        assert_eq!(args.cp_ca_file, Some("c".into()));
        assert_eq!(args.token_file, Some("t".into()));
        assert_eq!(args.workdir, Some("w".into()));
        assert_eq!(args.envoy, PathBuf::from("e"));
        assert_eq!(args.served_dns_port(), Some(15053));
        assert!(Cli::try_parse_from(["mesh-dp", "run", "--skip-verify"]).is_ok());
    }
}
