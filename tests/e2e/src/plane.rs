//! A control plane as a process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::api::Api;
use crate::launch::Launcher;
use crate::patience::Patience;
use crate::process::{Process, Program};

/// What everything is started with.
#[derive(Clone, Debug)]
pub struct Toolbox {
    /// Starts processes.
    pub launcher: Launcher,
    /// Folder of our binaries.
    pub binaries: PathBuf,
    /// The Envoy to run.
    pub envoy: PathBuf,
    /// How long things may take.
    pub patience: Patience,
}

/// A port of a control plane: its flag and its key in the file of ports.
const PORTS: [(&str, &str); 4] = [
    ("--api-port", "api"),
    ("--kds-port", "kds"),
    ("--dp-server-port", "dpServer"),
    ("--diagnostics-port", "diagnostics"),
];

/// A control plane that runs, or did.
#[derive(Debug)]
pub struct ControlPlane {
    toolbox: Toolbox,
    program: Program,
    folder: PathBuf,
    process: Process,
    ports: BTreeMap<String, u16>,
}

impl ControlPlane {
    /// Starts a control plane on any free ports, with its data in `folder`, and waits until it is ready.
    ///
    /// # Errors
    /// When it ends or takes too long.
    pub fn start(toolbox: &Toolbox, program: Program, folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let program = program.flag("--data-dir", folder);
        let is_global = program.path.ends_with("global-cp");
        let other = if is_global { "--dp-server-port" } else { "--kds-port" };
        let any = PORTS.iter().filter(|(flag, _)| *flag != other);
        let with_ports = any.fold(program.clone(), |program, (flag, _)| program.flag(flag, "0"));
        let (process, ports) = run(toolbox, &with_ports, folder)?;
        Ok(Self { toolbox: toolbox.clone(), program, folder: folder.to_owned(), process, ports })
    }

    /// Starts it again on the same ports; it must have been killed or stopped, else it is killed.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        self.process.kill();
        let with_ports =
            PORTS.iter().fold(self.program.clone(), |program, (flag, key)| match self.ports.get(*key) {
                Some(port) => program.flag(flag, port.to_string()),
                None => program,
            });
        let (process, ports) = run(&self.toolbox, &with_ports, &self.folder)?;
        self.process = process;
        anyhow::ensure!(ports == self.ports, "{} moved to other ports", self.program.name);
        Ok(())
    }

    /// Its REST API.
    pub fn api(&self) -> Api {
        Api { port: self.port("api") }
    }

    /// A port it listens on; 0 when it has none of that name.
    pub fn port(&self, name: &str) -> u16 {
        self.ports.get(name).copied().unwrap_or_default()
    }

    /// The authority of its certificates.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("tls/ca.pem")
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn run(
    toolbox: &Toolbox,
    program: &Program,
    folder: &Path,
) -> anyhow::Result<(Process, BTreeMap<String, u16>)> {
    let file = folder.join("ports.json");
    match std::fs::remove_file(&file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut process = program.start(&toolbox.launcher)?;
    let what = format!("{} to be ready", program.name);
    let ports = toolbox.patience.until(&what, || {
        process.ensure_running()?;
        let text = std::fs::read_to_string(&file).with_context(|| format!("no {}", file.display()))?;
        let ports: BTreeMap<String, u16> = serde_json::from_str(&text)?;
        Api { port: ports.get("api").copied().context("no API port")? }.get("/")?;
        Ok(ports)
    })?;
    Ok((process, ports))
}
