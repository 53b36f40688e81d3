//! Durations of confs that hold them as text.

use model::duration::GoDuration;

/// Reads a duration; `None` for what is none, and for what is below zero.
pub(crate) fn parse(text: &str) -> Option<prost_types::Duration> {
    let read: GoDuration = text.parse().ok()?;
    (!read.is_negative()).then(|| crate::parts::duration(read))
}
