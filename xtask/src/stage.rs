//! What the demo and the measurements stand on: binaries, Envoy, a folder of their own, and a way to end.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use e2e::launch::Launcher;
use e2e::patience::Patience;
use e2e::plane::Toolbox;

use crate::folder::OwnFolder;
use crate::signals::{self, Signals};
use crate::{shell, tools, workspace};

/// For each thing that is waited for.
const LIMIT: Duration = Duration::from_secs(60);
/// What is started.
const BINARIES: [&str; 4] = ["global-cp", "zone-cp", "mesh-dp", "meshctl"];

/// Everything that is needed before the first process starts.
pub(crate) struct Stage {
    pub(crate) toolbox: Toolbox,
    pub(crate) folder: OwnFolder,
    pub(crate) signals: Signals,
}

impl Stage {
    /// Installs and builds what is missing, and takes the folder.
    pub(crate) fn set(binaries: Option<&Path>, release: bool) -> anyhow::Result<Self> {
        let envoy = tools::envoy()?;
        let binaries = match binaries {
            Some(folder) => {
                folder.canonicalize().with_context(|| format!("no folder {}", folder.display()))?
            }
            None => build(release)?,
        };
        let folder = OwnFolder::take(&workspace::root().join(".demo"))?;
        let patience = Patience::new(LIMIT);
        // From here on nothing may start programs that need Ctrl-C themselves.
        let signals = signals::watch(&patience)?;
        let launcher = Launcher::new(std::env::current_exe()?);
        Ok(Self { toolbox: Toolbox { launcher, binaries, envoy, patience }, folder, signals })
    }
}

fn build(release: bool) -> anyhow::Result<PathBuf> {
    tools::protoc()?;
    let packages = BINARIES.iter().flat_map(|name| ["-p", name]);
    let profile = if release { Some("--release") } else { None };
    shell::run(shell::cargo().args(["build", "--locked", "--bins"]).args(profile).args(packages))?;
    let binaries = workspace::binaries();
    Ok(if release { binaries.with_file_name("release") } else { binaries })
}
