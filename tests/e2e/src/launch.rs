//! How processes are started so that none survives whoever started it.
//!
//! The kernel can end a child with the thread that forked it, but the child has to ask for it after the fork;
//! in safe Rust that takes a program in between, which asks and then becomes the real one.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::{CommandExt, parent_id};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};

/// First argument of the program in between: become another program.
pub const LAUNCH: &str = "launch";
/// First argument of the program in between: be the small service.
pub const SERVE: &str = "serve";

/// Starts programs through the program in between.
#[derive(Clone, Debug)]
pub struct Launcher {
    between: PathBuf,
}

impl Launcher {
    /// `between` is a program that hands its arguments to [`main`].
    pub fn new(between: impl Into<PathBuf>) -> Self {
        Self { between: between.into() }
    }

    /// The program in between.
    pub fn path(&self) -> &Path {
        &self.between
    }

    /// A command that becomes `program` and ends with the thread that starts it.
    pub fn command(&self, program: &OsStr) -> Command {
        let mut command = Command::new(&self.between);
        command.arg(LAUNCH).arg(std::process::id().to_string()).arg(program);
        // A group of its own: Ctrl-C reaches us only, and we stop it in order.
        command.process_group(0);
        command
    }
}

/// Does what `launch PARENT PROGRAM [ARGUMENT...]` or `serve NAME PORT` asks for.
pub fn main(arguments: &[OsString]) -> ExitCode {
    let text = |argument: &OsString| argument.to_string_lossy().into_owned();
    let reason = match arguments {
        [what, parent, program, rest @ ..] if what == LAUNCH => become_program(parent, program, rest),
        [what, name, port] if what == SERVE => serve(&text(name), &text(port)),
        _ => format!("usage: {LAUNCH} PARENT PROGRAM [ARGUMENT...] | {SERVE} NAME PORT"),
    };
    report(&reason);
    ExitCode::FAILURE
}

#[expect(clippy::print_stderr, reason = "its log is what it writes there")]
fn report(reason: &str) {
    eprintln!("{reason}");
}

fn serve(name: &str, port: &str) -> String {
    let Ok(port) = port.parse() else { return format!("{port:?} is no port") };
    match crate::service::serve(name, port) {
        Ok(()) => "the listener ended".to_owned(),
        Err(error) => format!("cannot serve on port {port}: {error}"),
    }
}

fn become_program(parent: &OsStr, program: &OsStr, arguments: &[OsString]) -> String {
    if let Err(error) = prctl::set_pdeathsig(Signal::SIGKILL) {
        return format!("cannot bind its life to its parent's: {error}");
    }
    // A parent that died before the line above sends nothing any more.
    if parent.to_str().and_then(|parent| parent.parse().ok()) != Some(parent_id()) {
        return "its parent ended before it began".to_owned();
    }
    // Whoever waits for signals has them blocked; children must not inherit that.
    if let Err(error) = SigSet::all().thread_unblock() {
        return format!("cannot unblock signals: {error}");
    }
    let error = Command::new(program).args(arguments).exec();
    format!("cannot run {}: {error}", program.display())
}
