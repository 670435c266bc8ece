use std::fmt;
use std::ops::{Add, Sub};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

use crate::Nanos;

/// A moment in UTC with nanoseconds; in JSON RFC 3339. The default is Go's zero time, the year 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(OffsetDateTime);

impl Timestamp {
    /// Go's zero time, which the Engine API uses for "never".
    pub const ZERO: Self = Self(time::macros::datetime!(0001-01-01 0:00 UTC));

    pub fn new(moment: OffsetDateTime) -> Self {
        Self(moment.to_offset(UtcOffset::UTC))
    }

    /// From seconds and nanoseconds since 1970; `None` outside the years 1 to 9999.
    pub fn from_unix(secs: i64, nanos: i32) -> Option<Self> {
        let total = i128::from(secs) * 1_000_000_000 + i128::from(nanos);
        OffsetDateTime::from_unix_timestamp_nanos(total).ok().map(Self)
    }

    /// Seconds since 1970, rounded down.
    pub fn unix_secs(self) -> i64 {
        self.0.unix_timestamp()
    }

    /// Nanoseconds within the second, 0 to 999 999 999.
    pub fn subsec_nanos(self) -> u32 {
        self.0.nanosecond()
    }

    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    pub fn datetime(self) -> OffsetDateTime {
        self.0
    }

    /// Parses RFC 3339.
    pub fn parse(text: &str) -> Result<Self, time::error::Parse> {
        OffsetDateTime::parse(text, &Rfc3339).map(Self::new)
    }
}

impl Default for Timestamp {
    fn default() -> Self {
        Self::ZERO
    }
}

impl Add<Nanos> for Timestamp {
    type Output = Self;
    fn add(self, span: Nanos) -> Self {
        Self(self.0.saturating_add(time::Duration::nanoseconds(span.0)))
    }
}

impl Sub for Timestamp {
    type Output = Nanos;
    /// Saturates at about ±292 years.
    fn sub(self, earlier: Self) -> Nanos {
        let nanos = (self.0 - earlier.0).whole_nanoseconds();
        let clamped = nanos.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
        Nanos(i64::try_from(clamped).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = self.0;
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            t.year(),
            u8::from(t.month()),
            t.day(),
            t.hour(),
            t.minute(),
            t.second()
        )?;
        let nanos = t.nanosecond();
        if nanos != 0 {
            let digits = format!("{nanos:09}");
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
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
        Self::parse(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_gos() {
        assert_eq!(Timestamp::ZERO.to_string(), "0001-01-01T00:00:00Z");
        let t = Timestamp::from_unix(1_600_000_000, 120_000_000).unwrap();
        assert_eq!(t.to_string(), "2020-09-13T12:26:40.12Z");
        assert_eq!(Timestamp::parse("2020-09-13T14:26:40.12+02:00").unwrap(), t);
    }
}
