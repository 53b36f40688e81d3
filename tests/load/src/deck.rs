//! What is measured: a global on etcd or on the embedded store, as processes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use e2e::etcd::Etcd;
use e2e::launch::Launcher;
use e2e::patience::Patience;
use e2e::plane::{ControlPlane, Toolbox};
use e2e::process::Program;

use crate::meter::Meter;
use crate::rest::Rest;

/// For each thing that is waited for.
const LIMIT: Duration = Duration::from_secs(120);

/// What the global keeps its resources in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum StoreKind {
    /// An etcd of one member, with fsync.
    Etcd,
    /// The embedded store.
    Embedded,
}

/// What a run is made of.
pub(crate) struct Setup<'a> {
    pub(crate) binaries: &'a Path,
    pub(crate) folder: &'a Path,
    pub(crate) store: StoreKind,
}

/// The product's processes.
pub(crate) struct Deck {
    pub(crate) global: ControlPlane,
    etcd: Option<Etcd>,
}

impl Deck {
    /// Starts the global, and etcd before it where it is asked for.
    pub(crate) fn start(setup: &Setup<'_>) -> anyhow::Result<Self> {
        let folder = emptied(setup.folder)?;
        let binaries = setup.binaries.canonicalize();
        let binaries = binaries.with_context(|| format!("no folder {}", setup.binaries.display()))?;
        let launcher = Launcher::new(std::env::current_exe()?);
        let patience = Patience::new(LIMIT);
        let etcd = match setup.store {
            StoreKind::Etcd => Some(Etcd::start(&launcher, &patience, &folder)?),
            StoreKind::Embedded => None,
        };
        let toolbox = Toolbox { launcher, binaries, envoy: PathBuf::new(), patience };
        let program =
            Program::new("global-cp", &toolbox.binaries.join("global-cp"), &folder.join("global-cp.log"))
                .arg("run")
                .flag("--kds-address", "127.0.0.1");
        let program = match &etcd {
            None => program.flag("--store", "embedded"),
            Some(etcd) => {
                let config = folder.join("global.yaml");
                let text = format!("store: {{type: etcd, etcd: {{endpoints: [{:?}]}}}}\n", etcd.endpoint());
                std::fs::write(&config, text)?;
                program.flag("--config", &config)
            }
        };
        let global = ControlPlane::start(&toolbox, program, &folder.join("global-cp"))?;
        Ok(Self { global, etcd })
    }

    /// The global's REST API.
    pub(crate) fn rest(&self) -> Rest {
        Rest::new(self.global.api())
    }

    /// The authority of the global's certificates, PEM.
    pub(crate) fn ca(&self) -> anyhow::Result<String> {
        let path = self.global.ca();
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Reads what the product's processes have used.
    pub(crate) fn meter(&mut self) -> Meter {
        let mut processes = vec![("global-cp", self.global.process().id())];
        processes.extend(self.etcd.as_mut().map(|etcd| ("etcd", etcd.process().id())));
        Meter::new(processes)
    }

    /// Stops everything in order.
    pub(crate) fn stop(&mut self) {
        self.global.process().stop();
        if let Some(etcd) = &mut self.etcd {
            etcd.process().stop();
        }
    }
}

/// A zone control plane on its own.
pub(crate) struct ZoneDeck {
    pub(crate) plane: ControlPlane,
}

impl ZoneDeck {
    /// Starts it with the embedded store.
    pub(crate) fn start(binaries: &Path, folder: &Path, zone: &str) -> anyhow::Result<Self> {
        let folder = emptied(folder)?;
        let binaries =
            binaries.canonicalize().with_context(|| format!("no folder {}", binaries.display()))?;
        let launcher = Launcher::new(std::env::current_exe()?);
        let toolbox = Toolbox { launcher, binaries, envoy: PathBuf::new(), patience: Patience::new(LIMIT) };
        let program = Program::new("zone-cp", &toolbox.binaries.join("zone-cp"), &folder.join("zone-cp.log"))
            .arg("run")
            .flag("--zone", zone)
            .flag("--store", "embedded")
            .flag("--dp-server-address", "127.0.0.1");
        Ok(Self { plane: ControlPlane::start(&toolbox, program, &folder.join("zone-cp"))? })
    }

    /// Its REST API.
    pub(crate) fn rest(&self) -> Rest {
        Rest::new(self.plane.api())
    }

    /// The authority of its certificates, PEM.
    pub(crate) fn ca(&self) -> anyhow::Result<String> {
        let path = self.plane.ca();
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Reads what it has used.
    pub(crate) fn meter(&mut self) -> Meter {
        Meter::new(vec![("zone-cp", self.plane.process().id())])
    }

    /// Stops it.
    pub(crate) fn stop(&mut self) {
        self.plane.process().stop();
    }
}

fn emptied(folder: &Path) -> anyhow::Result<PathBuf> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot empty {}", folder.display()));
        }
        _ => {}
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder.canonicalize()?)
}
