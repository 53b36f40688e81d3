//! Points in time, UTC, as RFC 3339 text at the edges.

use std::fmt;

use ::time::OffsetDateTime;
use ::time::format_description::well_known::Rfc3339;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time in UTC. The model never reads a clock: callers pass it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(OffsetDateTime);

impl Timestamp {
    /// The Unix epoch: the time of resources that carry none.
    pub const EPOCH: Self = Self(OffsetDateTime::UNIX_EPOCH);

    /// The time of a system clock reading.
    pub fn from_system(time: std::time::SystemTime) -> Self {
        Self(time.into())
    }

    /// Seconds and nanoseconds since the Unix epoch; out-of-range values give the epoch.
    pub fn from_unix(seconds: i64, nanos: i32) -> Self {
        let nanos = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        Self(OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH))
    }

    /// Reads RFC 3339 text.
    pub fn parse(text: &str) -> Option<Self> {
        OffsetDateTime::parse(text, &Rfc3339).ok().map(Self)
    }

    /// The wrapped value, for arithmetic and certificates.
    pub fn inner(self) -> OffsetDateTime {
        self.0
    }

    /// Whole seconds since the Unix epoch.
    pub fn unix_seconds(self) -> i64 {
        self.0.unix_timestamp()
    }

    /// The protobuf form.
    pub fn to_proto(self) -> prost_types::Timestamp {
        prost_types::Timestamp { seconds: self.0.unix_timestamp(), nanos: self.0.nanosecond().cast_signed() }
    }

    /// Reads the protobuf form.
    pub fn from_proto(time: &prost_types::Timestamp) -> Self {
        Self::from_unix(time.seconds, time.nanos)
    }

    /// Later by a duration; saturates at the end of the calendar.
    pub fn plus(self, duration: std::time::Duration) -> Self {
        let duration = ::time::Duration::try_from(duration).unwrap_or(::time::Duration::MAX);
        Self(self.0.saturating_add(duration))
    }

    /// How long after `earlier`; zero when it is not after.
    pub fn since(self, earlier: Self) -> std::time::Duration {
        (self.0 - earlier.0).try_into().unwrap_or_default()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.format(&Rfc3339).unwrap_or_default())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not an RFC 3339 time")))
    }
}
