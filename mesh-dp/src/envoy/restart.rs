//! When Envoy is started again, and when that is pointless.

use std::time::Duration;

/// An Envoy that ran this long had a configuration it could work with.
const SETTLED: Duration = Duration::from_secs(10);
/// Consecutive early ends after which another start would end the same way: with the pauses below,
/// some eight seconds.
const LIMIT: u32 = 5;
/// The first pause; each further one doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// Counts early ends.
#[derive(Debug, Default)]
pub(super) struct RestartPolicy {
    early_ends: u32,
}

/// What to do after Envoy ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Start it again after the pause.
    Restart(Duration),
    /// So many starts failed in a row: tell the operator.
    GiveUp(u32),
}

impl RestartPolicy {
    /// Decides after an end. `jitter` in 0..1 spreads the restarts of many hosts over half a pause.
    pub(super) fn ended(&mut self, ran_for: Duration, jitter: f64) -> Decision {
        self.early_ends = if ran_for < SETTLED { self.early_ends + 1 } else { 1 };
        if self.early_ends >= LIMIT {
            return Decision::GiveUp(self.early_ends);
        }
        let pause = (FIRST_PAUSE * 2_u32.pow(self.early_ends - 1)).min(LAST_PAUSE);
        Decision::Restart(pause.mul_f64(0.5 + jitter / 2.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLY: Duration = Duration::from_secs(1);
    const LATE: Duration = Duration::from_secs(60);

    #[test]
    fn pauses_double_and_the_fifth_early_end_is_the_last() {
        let mut policy = RestartPolicy::default();
        for seconds in [0.5, 1.0, 2.0, 4.0] {
            assert_eq!(policy.ended(EARLY, 1.0), Decision::Restart(Duration::from_secs_f64(seconds)));
        }
        assert_eq!(policy.ended(EARLY, 1.0), Decision::GiveUp(5));
    }

    #[test]
    fn an_envoy_that_ran_for_a_while_is_always_started_again() {
        let mut policy = RestartPolicy::default();
        for _ in 0..100 {
            assert_eq!(policy.ended(LATE, 0.0), Decision::Restart(FIRST_PAUSE / 2));
        }
        for _ in 0..3 {
            assert!(matches!(policy.ended(EARLY, 0.0), Decision::Restart(_)));
        }
        assert!(matches!(policy.ended(LATE, 0.0), Decision::Restart(_)));
        assert!(matches!(policy.ended(EARLY, 0.0), Decision::Restart(_)));
    }
}
