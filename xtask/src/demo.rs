//! `cargo xtask demo`: a global, two zones and their Envoys on this machine, and requests that cross them.

mod report;
mod screen;
mod story;

use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use anyhow::Context;
use e2e::topology::Topology;

use crate::signals;
use crate::stage::Stage;

/// Between two looks at whether everything still runs.
const WATCH: Duration = Duration::from_secs(1);

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
    let Stage { toolbox, folder, signals } = Stage::set(args.binaries.as_deref(), false)?;
    let mut topology = None;
    let told = story::tell(&toolbox, folder.path(), &mut topology);
    let held = told.and_then(|()| {
        let topology = topology.as_mut().context("the story starts a global")?;
        report::table(topology, &toolbox.patience)?;
        report::hints(topology, &toolbox.binaries);
        if args.once { Ok(()) } else { hold(topology, &signals) }
    });
    if let Some(mut topology) = topology {
        println!("\nstopping");
        topology.stop();
    }
    match held {
        Err(error) if toolbox.patience.is_interrupted() => {
            folder.leave(args.keep)?;
            if args.once { Err(error) } else { Ok(()) }
        }
        Err(error) => {
            let kept = folder.path().display().to_string();
            folder.leave(true)?;
            Err(error.context(format!("the demo failed; its logs are in {kept}")))
        }
        Ok(()) => folder.leave(args.keep),
    }
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
