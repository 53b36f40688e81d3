//! A child process with its log.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::launch::Launcher;
use crate::patience::Hopeless;

/// How much of a log an error shows.
const TAIL_LINES: usize = 12;
/// How long a process may take to stop when asked.
const GRACE: Duration = Duration::from_secs(10);

/// What to run.
#[derive(Clone, Debug)]
pub struct Program {
    /// Name for people.
    pub name: String,
    /// The program.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Where its output goes; appended to.
    pub log: PathBuf,
}

impl Program {
    /// A program without arguments.
    pub fn new(name: &str, path: &Path, log: &Path) -> Self {
        Self { name: name.to_owned(), path: path.to_owned(), args: Vec::new(), log: log.to_owned() }
    }

    /// Adds a flag with its value.
    pub fn flag(mut self, flag: &str, value: impl AsRef<OsStr>) -> Self {
        self.args.extend([flag.into(), value.as_ref().to_owned()]);
        self
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: &str) -> Self {
        self.args.push(argument.into());
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started or its log cannot be written.
    pub fn start(&self, launcher: &Launcher) -> anyhow::Result<Process> {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("cannot write {}", self.log.display()))?;
        let mut command = launcher.command(self.path.as_os_str());
        command.args(&self.args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {}", self.name))?;
        Ok(Process { name: self.name.clone(), log: self.log.clone(), child, status: None })
    }
}

/// A running child; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    status: Option<ExitStatus>,
}

impl Process {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its status, if it has ended.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status)
    }

    /// # Errors
    /// [`Hopeless`] with the end of its log when it has ended.
    pub fn ensure_running(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.ended()? else { return Ok(()) };
        let (name, tail) = (&self.name, self.log_tail());
        Err(Hopeless(format!("{name} ended ({status}); {} ends with:\n{tail}", self.log.display())).into())
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = i32::try_from(self.id())?;
        kill(Pid::from_raw(id), signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Asks it to stop; does not wait.
    pub fn ask_to_stop(&mut self) {
        if matches!(self.ended(), Ok(None)) {
            let _ = self.signal(Signal::SIGTERM);
        }
    }

    /// Stops it in order; kills it when it takes too long. Tells whether it stopped by itself.
    pub fn stop(&mut self) -> bool {
        self.ask_to_stop();
        let started = Instant::now();
        while started.elapsed() < GRACE {
            if !matches!(self.ended(), Ok(None)) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
        false
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        if matches!(self.ended(), Ok(None)) {
            let _ = self.child.kill();
            self.status = self.child.wait().ok();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
