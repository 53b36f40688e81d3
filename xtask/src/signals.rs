//! Ctrl-C and its relatives as messages.

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use e2e::patience::Patience;
use nix::sys::signal::{SigSet, Signal, kill};

/// One message a signal.
pub(crate) type Signals = Receiver<()>;

/// `timeout` and some terminals send a signal twice, to the process and to its group.
const TWIN: Duration = Duration::from_millis(500);

/// Turns signals into interruptions of `patience` and messages. A second one ends this process at once, and the
/// kernel its children with it.
///
/// Signals are blocked in this thread and those that it starts: call it before anything else runs.
pub(crate) fn watch(patience: &Patience) -> anyhow::Result<Signals> {
    let mut wanted = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        wanted.add(signal);
    }
    wanted.thread_block()?;
    let (sender, receiver) = channel();
    let patience = patience.clone();
    std::thread::spawn(move || {
        let mut first: Option<Instant> = None;
        while wanted.wait().is_ok() {
            if first.get_or_insert_with(Instant::now).elapsed() > TWIN {
                let _ = kill(nix::unistd::getpid(), Signal::SIGKILL);
            }
            patience.interrupt();
            let _ = sender.send(());
        }
    });
    Ok(receiver)
}
