//! Points in time as people read them.

use model::Timestamp;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// How long ago, in its largest unit that says enough: `45s`, `10m`, `5h`, `12d`.
pub(crate) fn ago(then: Timestamp, now: Timestamp) -> String {
    if then == Timestamp::EPOCH {
        return "unknown".to_owned();
    }
    let seconds = now.since(then).as_secs();
    // The next unit begins at two of it, so that little is rounded away.
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / MINUTE),
        7200..172_800 => format!("{}h", seconds / HOUR),
        _ => format!("{}d", seconds / DAY),
    }
}

/// A point in time, to the second, with how long ago it was; `-` for none.
pub(crate) fn since(then: Option<Timestamp>, now: Timestamp) -> String {
    let shown = |then| format!("{} ({} ago)", second(then), ago(then, now));
    then.map_or_else(|| "-".to_owned(), shown)
}

/// Without the nanoseconds, which nobody reads.
pub(crate) fn second(time: Timestamp) -> Timestamp {
    Timestamp::from_unix(time.unix_seconds(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_keep_two_of_a_unit_before_the_next() {
        let now = Timestamp::from_unix(1_000_000, 0);
        for (seconds, want) in
            [(0, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (172_800, "2d")]
        {
            assert_eq!(ago(Timestamp::from_unix(1_000_000 - seconds, 0), now), want);
        }
        assert_eq!(ago(Timestamp::from_unix(2_000_000, 0), now), "0s", "clocks differ");
        assert_eq!(ago(Timestamp::EPOCH, now), "unknown");
        assert_eq!(since(None, now), "-");
        let then = Timestamp::parse("1970-01-12T13:46:30.123456789Z");
        assert_eq!(since(then, now), "1970-01-12T13:46:30Z (9s ago)");
    }
}
