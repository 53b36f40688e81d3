//! Envoy as a child process: how it is started, watched and stopped.

pub(crate) mod exec;
mod output;
mod restart;
mod supervisor;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::bootstrap::EnvoyVersion;
use crate::cli::{EnvoyLogLevel, RunArgs};

pub(crate) use supervisor::Supervisor;

/// Envoy prints its version without starting anything.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);
/// The release line that the configuration of the control planes is written for.
const COMPATIBLE: &str = "1.";

/// How Envoy writes a line: level, logger and text, separated by tabs.
const LOG_FORMAT: &str = "%l\t%n\t%v";

#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvoyError {
    #[error("cannot run Envoy as {}: install it, or name its binary with --envoy", path.display())]
    NotFound { path: PathBuf, source: io::Error },
    #[error("{} --version does not answer as Envoy does: {answer:?}", path.display())]
    NotEnvoy { path: PathBuf, answer: String },
    #[error("cannot start Envoy")]
    Start(#[source] io::Error),
    #[error(
        "Envoy ended {failures} times shortly after its start (last: {status}), giving up; its last words:\n{words}"
    )]
    GaveUp { failures: u32, status: String, words: String },
}

/// Asks a binary for its version.
pub(crate) async fn version(path: &Path) -> Result<EnvoyVersion, EnvoyError> {
    let not_found = |source| EnvoyError::NotFound { path: path.to_owned(), source };
    let output = Command::new(path).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(VERSION_TIMEOUT, output).await;
    let output = output.map_err(|late| not_found(late.into()))?.map_err(not_found)?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse_version(&text).ok_or_else(|| EnvoyError::NotEnvoy {
        path: path.to_owned(),
        answer: text.trim().chars().take(200).collect(),
    })
}

/// `envoy  version: <commit>/<version>/<tree>/<build type>/<TLS library>`
fn parse_version(text: &str) -> Option<EnvoyVersion> {
    let build = text.lines().find_map(|line| line.split_once("version: "))?.1.trim();
    let parts: Vec<_> = build.split('/').collect();
    let [_, version, _, _, _] = parts.as_slice() else { return None };
    let kuma_dp_compatible = version.starts_with(COMPATIBLE);
    Some(EnvoyVersion { version: (*version).to_owned(), build: build.to_owned(), kuma_dp_compatible })
}

/// Envoy's command line, the binary first.
pub(crate) fn command_line(args: &RunArgs, bootstrap: &Path) -> Vec<OsString> {
    let drain_seconds = args.drain_time.get().as_secs().to_string();
    let mut line: Vec<OsString> = vec![args.envoy.clone().into(), "--config-path".into(), bootstrap.into()];
    let fixed = ["--drain-time-s", &drain_seconds, "--drain-strategy", "immediate", "--disable-hot-restart"];
    line.extend(fixed.map(Into::into));
    line.extend(["--log-level", log_level(args.envoy_log_level), "--log-format", LOG_FORMAT].map(Into::into));
    if let Some(levels) = &args.envoy_component_log_level {
        line.extend(["--component-log-level".into(), levels.into()]);
    }
    match args.threads() {
        Some(threads) => line.extend(["--concurrency".into(), threads.to_string().into()]),
        None => line.push("--cpuset-threads".into()),
    }
    line
}

fn log_level(level: EnvoyLogLevel) -> &'static str {
    match level {
        EnvoyLogLevel::Trace => "trace",
        EnvoyLogLevel::Debug => "debug",
        EnvoyLogLevel::Info => "info",
        EnvoyLogLevel::Warning => "warning",
        EnvoyLogLevel::Error => "error",
        EnvoyLogLevel::Critical => "critical",
        EnvoyLogLevel::Off => "off",
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command as Sub};

    #[test]
    fn a_version_has_five_parts() {
        let text = "\n.tools/envoy  version: 9e55/1.40.0/Clean/RELEASE/BoringSSL\n\n";
        let version = parse_version(text).unwrap();
        assert_eq!(version.version, "1.40.0");
        assert_eq!(version.build, "9e55/1.40.0/Clean/RELEASE/BoringSSL");
        assert!(version.kuma_dp_compatible);
        assert_eq!(parse_version("nginx version: nginx/1.22"), None);
        assert_eq!(parse_version(""), None);
    }

    #[tokio::test]
    async fn a_missing_binary_says_what_to_do() {
        let error = version(Path::new("/nonexistent/envoy")).await.unwrap_err();
        assert!(error.to_string().contains("--envoy"), "{error}");
        let error = version(Path::new("true")).await.unwrap_err();
        assert!(matches!(error, EnvoyError::NotEnvoy { .. }), "{error}");
    }

    #[test]
    fn the_command_line_drains_and_never_hot_restarts() {
        let parse = |extra: &[&str]| {
            let Sub::Run(args) = Cli::parse_from(["mesh-dp", "run"].iter().chain(extra)).command else {
                panic!("not run")
            };
            let line = command_line(&args, Path::new("/w/bootstrap.yaml"));
            line.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            parse(&["--drain-time", "5s"]),
            "envoy --config-path /w/bootstrap.yaml --drain-time-s 5 --drain-strategy immediate \
             --disable-hot-restart --log-level warning --log-format %l\t%n\t%v --cpuset-threads"
        );
        assert!(parse(&["--concurrency", "2"]).ends_with("--concurrency 2"));
        let levels = parse(&["--envoy-component-log-level", "upstream:debug"]);
        assert!(levels.contains("--component-log-level upstream:debug"), "{levels}");
    }
}
