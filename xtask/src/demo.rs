//! `cargo xtask demo`: a global, two zones and their Envoys on this machine, and requests that cross them.

mod folder;
mod report;
mod screen;
mod signals;
mod story;

use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use anyhow::Context;
use e2e::launch::Launcher;
use e2e::patience::Patience;
use e2e::plane::Toolbox;
use e2e::topology::Topology;

use crate::{shell, tools, workspace};

/// For each thing that is waited for.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks at whether everything still runs.
const WATCH: Duration = Duration::from_secs(1);
/// What the demo starts.
const BINARIES: [&str; 4] = ["global-cp", "zone-cp", "mesh-dp", "meshctl"];

/// Flags of the demo.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// End after the last step, with an exit status, instead of staying up.
    #[arg(long)]
    once: bool,
    /// Keep the folder `.demo` with its logs and data afterwards.
    #[arg(long)]
    keep: bool,
    /// Use the binaries of this folder and build none.
    #[arg(long, value_name = "FOLDER")]
    binaries: Option<std::path::PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let envoy = tools::envoy()?;
    let binaries = match &args.binaries {
        Some(folder) => folder.canonicalize().with_context(|| format!("no folder {}", folder.display()))?,
        None => build()?,
    };
    let folder = folder::DemoFolder::take(&workspace::root().join(".demo"))?;
    let patience = Patience::new(LIMIT);
    // From here on nothing else may start threads or programs that need Ctrl-C.
    let signals = signals::watch(&patience)?;
    let launcher = Launcher::new(std::env::current_exe()?);
    let toolbox = Toolbox { launcher, binaries, envoy, patience: patience.clone() };

    let mut topology = None;
    let told = story::tell(&toolbox, folder.path(), &mut topology);
    let held = told.and_then(|()| {
        let topology = topology.as_mut().context("the story starts a global")?;
        report::table(topology)?;
        report::hints(topology, &toolbox.binaries);
        if args.once { Ok(()) } else { hold(topology, &signals) }
    });
    if let Some(mut topology) = topology {
        println!("\nstopping");
        topology.stop();
    }
    match held {
        Err(error) if patience.is_interrupted() => {
            folder.leave(args.keep)?;
            if args.once { Err(error) } else { Ok(()) }
        }
        Err(error) => {
            folder.leave(true)?;
            Err(error.context(format!(
                "the demo failed; its logs are in {}",
                workspace::root().join(".demo").display()
            )))
        }
        Ok(()) => folder.leave(args.keep),
    }
}

fn build() -> anyhow::Result<std::path::PathBuf> {
    tools::protoc()?;
    let packages = BINARIES.iter().flat_map(|name| ["-p", name]);
    shell::run(shell::cargo().args(["build", "--locked", "--bins"]).args(packages))?;
    Ok(workspace::binaries())
}

/// Stays until a signal comes or something ends by itself.
fn hold(topology: &mut Topology, signals: &signals::Signals) -> anyhow::Result<()> {
    println!("\nEverything stays up until Ctrl-C.");
    loop {
        match signals.recv_timeout(WATCH) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => topology.ensure_running()?,
        }
    }
}
