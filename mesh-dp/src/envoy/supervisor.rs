//! Keeps one Envoy running until it is told to stop.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::output::{LastWords, log_errors, log_output};
use super::restart::{Decision, RestartPolicy};
use super::{EnvoyError, exec};
use crate::metrics::Metrics;
use crate::workdir;

/// Envoy closes its listeners and ends at once on SIGTERM; one that does not within this time hangs.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// One Envoy and the rules for its restarts.
#[derive(Debug)]
pub(crate) struct Supervisor {
    /// Envoy's command line, the binary first.
    pub(crate) command: Vec<OsString>,
    /// Sockets that an Envoy which was killed leaves behind.
    pub(crate) sockets: Vec<PathBuf>,
    /// Cancelled when termination begins: an Envoy that ends from then on is not started again.
    pub(crate) terminating: CancellationToken,
    /// Cancelled when Envoy has to stop.
    pub(crate) stop: CancellationToken,
    pub(crate) metrics: Metrics,
}

/// How a run of Envoy ended.
enum End {
    Stopped,
    Died { status: ExitStatus, words: LastWords },
}

impl Supervisor {
    /// Runs Envoy until `stop`, restarting it when it dies. Fails when it dies again and again.
    pub(crate) async fn run(self) -> Result<(), EnvoyError> {
        let mut policy = RestartPolicy::default();
        loop {
            let started = Instant::now();
            let End::Died { status, words } = self.run_once().await? else { return Ok(()) };
            if self.terminating.is_cancelled() {
                tracing::info!(%status, "Envoy ended while draining");
                return Ok(());
            }
            match policy.ended(started.elapsed(), rand::random()) {
                Decision::GiveUp(failures) => {
                    let (status, words) = (status.to_string(), words.text());
                    return Err(EnvoyError::GaveUp { failures, status, words });
                }
                Decision::Restart(pause) => {
                    tracing::error!(%status, restart_in = ?pause, "Envoy ended");
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.terminating.cancelled() => return Ok(()),
                    }
                }
            }
        }
    }

    async fn run_once(&self) -> Result<End, EnvoyError> {
        for socket in &self.sockets {
            workdir::remove(socket).map_err(EnvoyError::Start)?;
        }
        let mut child = self.start()?;
        self.metrics.envoy_starts.inc();
        tracing::info!(pid = child.id(), "Envoy started");
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let logs = async move {
            let output = async {
                if let Some(stream) = output {
                    log_output(stream).await;
                }
            };
            let errors = async {
                match errors {
                    Some(stream) => log_errors(stream).await,
                    None => LastWords::default(),
                }
            };
            tokio::join!(output, errors).1
        };
        let watch = async {
            tokio::select! {
                status = child.wait() => status.map(Some),
                () = self.stop.cancelled() => stop(&mut child).await.map(|()| None),
            }
        };
        // Both pipes end with the process, so the log is complete when the two are done.
        let (status, words) = tokio::join!(watch, logs);
        Ok(match status.map_err(EnvoyError::Start)? {
            None => End::Stopped,
            Some(status) => End::Died { status, words },
        })
    }

    fn start(&self) -> Result<Child, EnvoyError> {
        let this_program = std::env::current_exe().map_err(EnvoyError::Start)?;
        Command::new(this_program)
            .args(exec::arguments(std::process::id(), &self.command))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C at a terminal goes to the whole group: Envoy is to drain first.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(EnvoyError::Start)
    }
}

/// SIGTERM, then SIGKILL.
async fn stop(child: &mut Child) -> std::io::Result<()> {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // An error means that it has ended already, which the wait below sees.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    match tokio::time::timeout(STOP_TIMEOUT, child.wait()).await {
        Ok(end) => end.map(drop),
        Err(_) => {
            tracing::warn!("Envoy does not stop, killing it");
            child.kill().await
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use tokio::io::AsyncReadExt;

    use super::*;

    async fn stopped(script: &str) -> Option<i32> {
        let mut child = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        // The script says when its trap is set.
        child.stdout.take().unwrap().read_u8().await.unwrap();
        stop(&mut child).await.unwrap();
        child.wait().await.unwrap().signal()
    }

    #[tokio::test]
    async fn sigterm_is_enough_for_most() {
        assert_eq!(stopped("echo; exec tail -f /dev/null").await, Some(15));
    }

    #[tokio::test]
    async fn a_process_that_ignores_sigterm_is_killed() {
        tokio::time::pause();
        assert_eq!(stopped("trap '' TERM; echo; while :; do :; done").await, Some(9));
    }
}
