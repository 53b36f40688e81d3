//! Waiting for conditions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::anyhow;

/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(15);

/// Why waiting on is pointless: found in an error of a condition, it ends the wait at once.
#[derive(Debug)]
pub struct Hopeless(pub String);

impl std::fmt::Display for Hopeless {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Hopeless {}

/// How long to wait for a condition, and whether someone wants everything to end.
#[derive(Clone, Debug)]
pub struct Patience {
    limit: Duration,
    interrupted: Arc<AtomicBool>,
}

impl Patience {
    /// Waits this long at most for each condition.
    pub fn new(limit: Duration) -> Self {
        Self { limit, interrupted: Arc::default() }
    }

    /// The same patience with another limit; an interruption ends both.
    pub fn with_limit(&self, limit: Duration) -> Self {
        Self { limit, interrupted: Arc::clone(&self.interrupted) }
    }

    /// Ends every wait now and later.
    pub fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Relaxed);
    }

    /// Whether [`Self::interrupt`] was called.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Tries until it succeeds.
    ///
    /// # Errors
    /// The last error of `attempt` when time is up or it is [`Hopeless`]; when interrupted.
    pub fn until<T>(&self, what: &str, mut attempt: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let started = Instant::now();
        loop {
            let error = match attempt() {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if self.is_interrupted() {
                return Err(anyhow!("interrupted while waiting for {what}"));
            }
            if error.is::<Hopeless>() {
                return Err(error.context(format!("waiting for {what}")));
            }
            if started.elapsed() > self.limit {
                return Err(error.context(format!("{what}: not within {} s", self.limit.as_secs())));
            }
            std::thread::sleep(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_by_success_time_despair_or_interruption() {
        let patience = Patience::new(Duration::from_secs(60));
        let mut left = 3;
        let counted = patience.until("zero", || {
            left -= 1;
            if left == 0 { Ok(7) } else { Err(anyhow!("{left} left")) }
        });
        assert_eq!(counted.unwrap(), 7);
        let hopeless = patience.until("a dead one", || Err::<(), _>(Hopeless("dead".into()).into()));
        assert!(format!("{:#}", hopeless.unwrap_err()).ends_with("dead"));
        let late = patience.with_limit(Duration::ZERO).until("it", || Err::<(), _>(anyhow!("not yet")));
        assert!(format!("{:#}", late.unwrap_err()).contains("not yet"));
        patience.interrupt();
        let ended = patience.until("it", || Err::<(), _>(anyhow!("no"))).unwrap_err();
        assert!(ended.to_string().starts_with("interrupted"));
    }
}
