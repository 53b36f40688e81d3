//! Supervised tasks: each has a name, an owner and an end.
//!
//! `Tasks` wraps tokio-util's tracker and cancellation token. A task that must run for as long as
//! the process does ([`OnExit::Shutdown`]) takes the process down with it when it ends early.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// How long an aborted task has to drop its state before [`Tasks::shutdown`] returns without it.
/// Only a task that blocks its thread takes longer than a scheduler turn.
const ABORT_GRACE: Duration = Duration::from_secs(1);

/// What the end of a task means for the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExit {
    /// Nothing: the task may end at any time. A panic is still logged.
    Ignore,
    /// The process cannot work without it: an end before shutdown begins one.
    Shutdown,
}

/// A handle to the process's tasks. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    tracker: TaskTracker,
    /// Asks tasks to end.
    cancel: CancellationToken,
    /// Drops tasks that did not.
    abort: CancellationToken,
    next: AtomicU64,
    running: Mutex<BTreeMap<u64, String>>,
    failure: Mutex<Option<String>>,
}

impl Tasks {
    /// No tasks, not cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// The token that is cancelled when shutdown begins.
    pub fn token(&self) -> CancellationToken {
        self.shared.cancel.clone()
    }

    /// Begins shutdown without waiting for it.
    pub fn cancel(&self) {
        self.shared.cancel.cancel();
    }

    /// Resolves when shutdown has begun.
    pub async fn cancelled(&self) {
        self.shared.cancel.cancelled().await;
    }

    /// Why shutdown began, when a task was the cause: what `main` turns into an exit status.
    pub fn failure(&self) -> Option<String> {
        lock(&self.shared.failure).clone()
    }

    /// The names of the tasks that are running, oldest first.
    pub fn running(&self) -> Vec<String> {
        lock(&self.shared.running).values().cloned().collect()
    }

    /// Starts a task.
    pub fn spawn<F>(&self, name: impl Into<String>, on_exit: OnExit, future: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn_fallible(name, on_exit, future.map(Ok::<(), std::convert::Infallible>))
    }

    /// Starts a task that may fail. The error is logged here, so the task itself need not.
    pub fn spawn_fallible<F, E>(&self, name: impl Into<String>, on_exit: OnExit, future: F) -> JoinHandle<()>
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let name = name.into();
        let span = tracing::info_span!("task", name = %name);
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.shared.running).insert(id, name.clone());
        let running = Running { id, shared: Arc::clone(&self.shared) };
        let supervised = async move {
            let shared = &running.shared;
            let end = tokio::select! {
                end = AssertUnwindSafe(future).catch_unwind() => match end {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(error)) => Err(format!("failed: {error}")),
                    Err(panic) => Err(format!("panicked: {}", panic_text(panic.as_ref()))),
                },
                () = shared.abort.cancelled() => return,
            };
            shared.ended(&name, on_exit, end);
        };
        self.shared.tracker.spawn(supervised.instrument(span))
    }

    /// Cancels, waits until `deadline` has passed, then drops what is left.
    ///
    /// Returns the names of the tasks that had to be dropped.
    pub async fn shutdown(&self, deadline: Duration) -> Vec<String> {
        self.shared.cancel.cancel();
        self.shared.tracker.close();
        if tokio::time::timeout(deadline, self.shared.tracker.wait()).await.is_ok() {
            return Vec::new();
        }
        let late = self.running();
        tracing::warn!(tasks = ?late, deadline = ?deadline, "tasks outlived the shutdown deadline and are aborted");
        self.shared.abort.cancel();
        let _ = tokio::time::timeout(ABORT_GRACE, self.shared.tracker.wait()).await;
        late
    }
}

impl Shared {
    fn ended(&self, name: &str, on_exit: OnExit, end: Result<(), String>) {
        let expected = self.cancel.is_cancelled();
        match (&end, on_exit) {
            (Err(reason), _) => tracing::error!(task = name, "task {reason}"),
            (Ok(()), OnExit::Shutdown) if !expected => tracing::error!(task = name, "task ended too early"),
            (Ok(()), _) => {}
        }
        if on_exit == OnExit::Shutdown && !expected {
            let reason = end.err().unwrap_or_else(|| "ended too early".to_owned());
            lock(&self.failure).get_or_insert_with(|| format!("{name} {reason}"));
            self.cancel.cancel();
        }
    }
}

/// Takes a task off the list whichever way it ends.
struct Running {
    id: u64,
    shared: Arc<Shared>,
}

impl Drop for Running {
    fn drop(&mut self) {
        lock(&self.shared.running).remove(&self.id);
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("with no message")
}

/// A panic while one of these locks is held leaves nothing half done: go on with the value.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_vital_task_that_ends_begins_shutdown() {
        let tasks = Tasks::new();
        tasks.spawn("index", OnExit::Shutdown, async {});
        tasks.cancelled().await;
        assert_eq!(tasks.failure().as_deref(), Some("index ended too early"));
        assert!(tasks.shutdown(Duration::from_secs(5)).await.is_empty());
    }

    #[tokio::test]
    async fn a_panic_and_an_error_are_named() {
        let tasks = Tasks::new();
        tasks.spawn("watch", OnExit::Shutdown, async { panic!("no more") });
        tasks.cancelled().await;
        assert_eq!(tasks.failure().as_deref(), Some("watch panicked: no more"));

        let tasks = Tasks::new();
        tasks.spawn_fallible("server", OnExit::Shutdown, async { Err("disk full") });
        tasks.cancelled().await;
        assert_eq!(tasks.failure().as_deref(), Some("server failed: disk full"));
    }

    #[tokio::test]
    async fn an_unimportant_task_may_end_or_panic() {
        let tasks = Tasks::new();
        tasks.spawn("connection", OnExit::Ignore, async {}).await.unwrap();
        tasks.spawn("connection", OnExit::Ignore, async { panic!("peer") }).await.unwrap();
        assert!(!tasks.token().is_cancelled());
        assert_eq!(tasks.failure(), None);
        assert!(tasks.running().is_empty());
    }

    #[tokio::test]
    async fn shutdown_asks_first_and_aborts_at_the_deadline() {
        let tasks = Tasks::new();
        let token = tasks.token();
        tasks.spawn("polite", OnExit::Shutdown, async move { token.cancelled().await });
        tasks.spawn("deaf", OnExit::Shutdown, std::future::pending());
        assert_eq!(tasks.running(), ["polite", "deaf"]);
        assert_eq!(tasks.shutdown(Duration::from_millis(20)).await, ["deaf"]);
        assert!(tasks.running().is_empty());
        assert_eq!(tasks.failure(), None);
    }
}
