//! An Envoy with its mesh-dp.

use std::path::{Path, PathBuf};

use crate::plane::{ControlPlane, Toolbox};
use crate::process::{Process, Program};

/// Longest folder in which mesh-dp can put sockets.
const WORKDIR_BYTES: usize = 78;

/// What to run a proxy with.
#[derive(Clone, Debug)]
pub struct ProxyPlan<'a> {
    /// Name of the process, and of its folder.
    pub name: &'a str,
    /// Template of its Dataplane.
    pub dataplane: &'a Path,
    /// Values for the template.
    pub vars: &'a [(&'a str, String)],
    /// Its token.
    pub token: &'a str,
    /// Folder for everything it writes.
    pub folder: &'a Path,
    /// How long connections may take to end.
    pub drain_time: &'a str,
}

/// A running mesh-dp with its Envoy.
#[derive(Debug)]
pub struct Proxy {
    process: Process,
}

impl Proxy {
    /// Starts a proxy of a zone.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(toolbox: &Toolbox, zone: &ControlPlane, plan: &ProxyPlan<'_>) -> anyhow::Result<Self> {
        let folder = plan.folder.join(plan.name);
        std::fs::create_dir_all(&folder)?;
        let token = folder.join("token");
        write_private(&token, plan.token)?;
        let program = Program::new(plan.name, &toolbox.binaries.join("mesh-dp"), &folder.join("log"))
            .arg("run")
            .flag("--cp-address", format!("https://127.0.0.1:{}", zone.port("dpServer")))
            .flag("--cp-ca-file", zone.ca())
            .flag("--dataplane-file", plan.dataplane)
            .flag("--token-file", &token)
            .flag("--envoy", &toolbox.envoy)
            .flag("--readiness-port", "0")
            .flag("--concurrency", "1")
            .flag("--drain-time", plan.drain_time);
        let program = match workdir(&folder) {
            Some(workdir) => program.flag("--workdir", workdir),
            None => program,
        };
        let program = plan
            .vars
            .iter()
            .fold(program, |program, (key, value)| program.flag("--dataplane-var", format!("{key}={value}")));
        Ok(Self { process: program.start(&toolbox.launcher)? })
    }

    /// Its mesh-dp.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The process ids of its Envoys: mesh-dp's children.
    pub fn envoys(&self) -> Vec<i32> {
        let id = self.process.id();
        let mut ids = Vec::new();
        // Envoy may have been forked by any of mesh-dp's threads.
        for task in std::fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            ids.extend(children.split_whitespace().filter_map(|word| word.parse::<i32>().ok()));
        }
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

/// A folder short enough for sockets; mesh-dp makes a temporary one where ours is too long.
fn workdir(folder: &Path) -> Option<PathBuf> {
    let workdir = folder.join("run");
    let is_short = workdir.as_os_str().len() <= WORKDIR_BYTES;
    (is_short && std::fs::create_dir_all(&workdir).is_ok()).then_some(workdir)
}

/// Writes a file that only its owner may read.
///
/// # Errors
/// When it cannot be written.
pub fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
