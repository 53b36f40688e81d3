//! Durations as Go writes them: the form in which the peer takes and shows them.

use std::time::Duration;

/// Reads a duration as Go writes it, for example `1h30m` or `0.5s`.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at_checked(digits)?;
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end)?;
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

/// Writes a duration as Go does: `1h0m0s`, `1.5s`, `250ms`, `0s`.
pub(crate) fn print(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let fraction = |unit: u128, name: &str| {
        let (whole, rest) = (nanos / unit, nanos % unit);
        let width = unit.ilog10() as usize;
        let digits = format!("{rest:0width$}");
        let digits = digits.trim_end_matches('0');
        if digits.is_empty() { format!("{whole}{name}") } else { format!("{whole}.{digits}{name}") }
    };
    match nanos {
        0 => "0s".into(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => fraction(1_000, "µs"),
        1_000_000..1_000_000_000 => fraction(1_000_000, "ms"),
        _ => {
            let (seconds, sub) = (duration.as_secs(), Duration::new(0, duration.subsec_nanos()));
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let rest = Duration::from_secs(seconds % 60) + sub;
            let mut fraction = format!("{:09}", rest.subsec_nanos());
            fraction.truncate(fraction.trim_end_matches('0').len());
            let point = if fraction.is_empty() { "" } else { "." };
            let rest = format!("{}{point}{fraction}s", rest.as_secs());
            match (hours, minutes) {
                (0, 0) => rest,
                (0, minutes) => format!("{minutes}m{rest}"),
                (hours, minutes) => format!("{hours}h{minutes}m{rest}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let seconds = |text: &str| parse(text).map(|duration| duration.as_secs_f64());
        assert_eq!(seconds("1h30m"), Some(5400.0));
        assert_eq!(seconds("87600h0m0s"), Some(315_360_000.0));
        assert_eq!(seconds("0.5s"), Some(0.5));
        assert_eq!(seconds("0"), Some(0.0));
        for text in ["", "5", "s", "1x", "-1h", "1e400h", "1.2.3s"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        for (text, want) in [
            ("60s", "1m0s"),
            ("1h", "1h0m0s"),
            ("90m", "1h30m0s"),
            ("1.5s", "1.5s"),
            ("61.25s", "1m1.25s"),
            ("0.25s", "250ms"),
            ("1500us", "1.5ms"),
            ("0s", "0s"),
            ("16s", "16s"),
        ] {
            assert_eq!(parse(text).map(print).as_deref(), Some(want), "{text}");
        }
    }
}
