//! Points in time, as values: nothing here looks at a clock.

use std::{
    fmt,
    ops::{Add, Sub},
    str::FromStr,
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// A point in time: microseconds since 1970-01-01T00:00:00Z.
///
/// ```
/// use factum_core::Timestamp;
/// let at: Timestamp = "2026-03-02T10:00:00Z".parse().unwrap();
/// assert_eq!(at.to_string(), "2026-03-02T10:00:00Z");
/// // What Python's `datetime.utcnow().isoformat()` writes has no offset, and is UTC.
/// assert_eq!("2026-03-02T10:00:00".parse(), Ok(at));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const UNIX_EPOCH: Self = Self(0);

    /// `micros` microseconds after [`Timestamp::UNIX_EPOCH`], brought into the years -9999 to 9999.
    #[must_use]
    pub fn from_micros(micros: i64) -> Self {
        // The last second is left out at its beginning: jiff counts microseconds up to there only.
        let (first, last) = (
            jiff::Timestamp::MIN.as_second(),
            jiff::Timestamp::MAX.as_second(),
        );
        Self(micros.clamp(first * 1_000_000, last * 1_000_000))
    }

    /// Microseconds since [`Timestamp::UNIX_EPOCH`].
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Milliseconds since [`Timestamp::UNIX_EPOCH`], which is how Kafka counts.
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// `millis` milliseconds after [`Timestamp::UNIX_EPOCH`].
    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        Self::from_micros(millis.saturating_mul(1000))
    }

    /// How long ago `earlier` was at this time; zero when it was not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.0.saturating_add(micros))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.0.saturating_sub(micros))
    }
}

/// RFC 3339 in UTC, with as many digits of the second as are needed.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = jiff::Timestamp::from_microsecond(self.0).map_err(|_| fmt::Error)?;
        time.fmt(f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a time: write it as in `2026-03-02T10:00:00Z` (without an offset it is UTC)"
)]
pub struct InvalidTimestamp {
    text: String,
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        let invalid = || InvalidTimestamp {
            text: text.chars().take(60).collect(),
        };
        if let Ok(time) = text.parse::<jiff::Timestamp>() {
            return Ok(Self::from_micros(time.as_microsecond()));
        }
        let civil: Option<jiff::civil::DateTime> = text.parse().ok();
        let time = civil.and_then(|civil| jiff::tz::Offset::UTC.to_timestamp(civil).ok());
        let time = time.map(|time| Self::from_micros(time.as_microsecond()));
        time.or_else(|| last_of_all(text)).ok_or_else(invalid)
    }
}

/// The last time, if `text` is in the two days with which the years of RFC 3339 end, and later than that: some write
/// the end of 9999 for what never ends.
fn last_of_all(text: &str) -> Option<Timestamp> {
    let pieces = jiff::fmt::temporal::Pieces::parse(text).ok()?;
    pieces.time()?;
    (pieces.date() >= jiff::civil::date(9999, 12, 30)).then(|| Timestamp::from_micros(i64::MAX))
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_in_the_ways_that_services_write_it() {
        let expected = Timestamp::from_micros(1_772_445_600_123_456);
        for text in [
            "2026-03-02T10:00:00.123456Z",
            "2026-03-02T10:00:00.123456",
            "2026-03-02 10:00:00.123456",
            "2026-03-02T10:00:00.123456+00:00",
            "2026-03-02T19:00:00.123456+09:00",
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        assert_eq!(expected.to_string(), "2026-03-02T10:00:00.123456Z");
    }

    /// The last microseconds that jiff parses are more than it can be made of: showing them panicked.
    #[test]
    fn the_first_and_the_last_time_can_be_shown() {
        let last: Timestamp = "9999-12-30T22:00:00.999999Z".parse().unwrap();
        for time in [
            last,
            Timestamp::from_micros(i64::MAX),
            Timestamp::from_micros(i64::MIN),
        ] {
            assert_eq!(time.to_string().parse(), Ok(time));
        }
    }

    #[test]
    fn the_end_of_the_years_counts_as_the_last_time() {
        let last = Timestamp::from_micros(i64::MAX);
        for text in [
            "9999-12-31T23:59:59Z",
            "9999-12-31T23:59:59.999999-23:59",
            "9999-12-31T23:59:59",
            "9999-12-30T22:00:01Z",
        ] {
            assert_eq!(text.parse(), Ok(last), "{text}");
        }
        assert!("0000-01-01T00:00:00Z".parse::<Timestamp>().unwrap() < Timestamp::UNIX_EPOCH);
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        for text in [
            "",
            "yesterday",
            "2026-13-01T00:00:00Z",
            "1772445600",
            "9999-12-32T00:00:00Z",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }
}
