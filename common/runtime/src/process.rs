//! What a process learns from its surroundings and leaves behind: termination signals, a name, an exit status.

use std::fmt::Display;
use std::future::Future;
use std::io;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

/// Installs handlers for SIGTERM and SIGINT and returns a future of the first of them.
///
/// The handlers are installed by this call, not by the first poll, so that a signal which arrives
/// in between is not lost. Each call gets its own subscription: call it again to see the next one.
pub fn shutdown_signal() -> io::Result<impl Future<Output = &'static str> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

/// The exit status of a program; an error is said in one line, whatever `RUST_BACKTRACE` is.
#[expect(clippy::print_stderr, reason = "the last words of a program, also when there is no log")]
pub fn exit_code(program: &str, ended: Result<(), impl Display>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A name for this run of the process: `<hostname>-<4 hex digits>`.
pub fn instance_id() -> String {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    format!("{}-{:04x}", host.as_deref().unwrap_or("localhost"), rand::random::<u16>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_id_ends_in_four_hex_digits() {
        let id = instance_id();
        let (host, suffix) = id.rsplit_once('-').unwrap();
        assert!(!host.is_empty());
        assert_eq!(suffix.len(), 4);
        assert!(suffix.chars().all(|c| c.is_ascii_hexdigit()));
    }

    #[tokio::test]
    async fn a_signal_between_the_call_and_the_poll_is_seen() {
        let stop = shutdown_signal().unwrap();
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).unwrap();
        assert_eq!(stop.await, "SIGTERM");
    }
}
