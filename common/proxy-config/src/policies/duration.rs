//! Durations as policies write them: `1h30m`, `1.5s`, `500ms`.

/// Reads a duration; `None` for what is none.
pub(crate) fn parse(text: &str) -> Option<prost_types::Duration> {
    const UNITS: [(&str, f64); 7] =
        [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];
    if text == "0" {
        return Some(prost_types::Duration::default());
    }
    let mut rest = text;
    let mut nanos = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at_checked(end)?;
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end)?;
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        nanos += number.parse::<f64>().ok()? * scale;
        rest = after;
    }
    // A century: beyond what Envoy accepts, well within the number.
    let valid = !text.is_empty() && (0.0..3.2e18).contains(&nanos);
    #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
    let nanos = nanos.round() as i128;
    let seconds = i64::try_from(nanos / 1_000_000_000).ok()?;
    let nanos = i32::try_from(nanos % 1_000_000_000).ok()?;
    valid.then_some(prost_types::Duration { seconds, nanos })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_add_up() {
        for (text, seconds, nanos) in [
            ("15s", 15, 0),
            ("1h30m", 5400, 0),
            ("1.5s", 1, 500_000_000),
            ("250ms", 0, 250_000_000),
            ("0", 0, 0),
            ("0s", 0, 0),
            ("10us", 0, 10_000),
        ] {
            assert_eq!(parse(text), Some(prost_types::Duration { seconds, nanos }), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "5", "s", "-1s", "1x", "1s2", "1..s", "99999999999999999999h"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
