use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// A signed span of time in nanoseconds, as the Engine API writes every duration.
///
/// Its text form is that of Go's `time.Duration`, which users write and Docker shows: `1h30m`, `1.5s`, `-2ms`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Nanos(pub i64);

impl Nanos {
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs * 1_000_000_000)
    }

    pub const fn from_millis(millis: i64) -> Self {
        Self(millis * 1_000_000)
    }

    /// The same span for the standard library; a negative one is zero.
    pub fn to_std(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }

    /// Whole seconds, towards zero: Docker's containers know no parts of a second.
    pub const fn whole_secs(self) -> i64 {
        self.0 / 1_000_000_000
    }

    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }
}

/// A text that is no span of time, with the words of Go's `time.ParseDuration`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpanError {
    /// No number, or nothing at all.
    #[error("time: invalid duration {text:?}")]
    Invalid {
        /// All of it.
        text: String,
    },
    /// A number without a unit. `0` needs none.
    #[error("time: missing unit in duration {text:?}")]
    MissingUnit {
        /// All of it.
        text: String,
    },
    /// A number with another unit than ns, us, ms, s, m, h.
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit {
        /// What stands there.
        unit: String,
        /// All of it.
        text: String,
    },
    /// More than 292 years.
    #[error("time: invalid duration {text:?}")]
    TooLong {
        /// All of it.
        text: String,
    },
}

impl FromStr for Nanos {
    type Err = SpanError;

    /// Reads what Go's `time.ParseDuration` reads: a sign, then numbers with units; fractions below a nanosecond
    /// are cut off.
    fn from_str(text: &str) -> Result<Self, SpanError> {
        let whole = || text.to_owned();
        let negative = text.starts_with('-');
        let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
        if rest == "0" {
            return Ok(Self(0));
        }
        if rest.is_empty() {
            return Err(SpanError::Invalid { text: whole() });
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
            let (number, tail) = rest.split_at(number.unwrap_or(rest.len()));
            let (before, after) = number.split_once('.').unwrap_or((number, ""));
            if before.len() + after.len() == 0 || after.contains('.') {
                return Err(SpanError::Invalid { text: whole() });
            }
            let unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit);
            let unit = match unit {
                "ns" => 1,
                // The micro sign, and the Greek letter.
                "us" | "\u{b5}s" | "\u{3bc}s" => MICROSECOND,
                "ms" => MILLISECOND,
                "s" => SECOND,
                "m" => MINUTE,
                "h" => HOUR,
                "" => return Err(SpanError::MissingUnit { text: whole() }),
                unit => {
                    return Err(SpanError::UnknownUnit { unit: unit.to_owned(), text: whole() });
                }
            };
            let sum = part(before, after, unit).and_then(|part| total.checked_add(part));
            total = sum.ok_or_else(|| SpanError::TooLong { text: whole() })?;
            rest = tail;
        }
        let nanos = i128::from(total) * if negative { -1 } else { 1 };
        i64::try_from(nanos).map(Self).map_err(|_| SpanError::TooLong { text: whole() })
    }
}

/// `before.after` units in nanoseconds, cut off; `None` beyond what a number holds.
fn part(before: &str, after: &str, unit: u64) -> Option<u64> {
    let mut whole: u64 = 0;
    for digit in before.bytes() {
        whole = whole.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    // An hour has less than 10^13 nanoseconds, so more digits mean nothing.
    let (mut fraction, mut scale) = (0_u128, 1_u128);
    for digit in after.bytes().take(13) {
        fraction = fraction * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    let fraction = u64::try_from(fraction * u128::from(unit) / scale).ok()?;
    whole.checked_mul(unit)?.checked_add(fraction)
}

impl fmt::Display for Nanos {
    /// Go's form: the largest unit below a second, or hours, minutes and seconds, without zeros in front; `0s` for
    /// nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        if self.is_negative() {
            f.write_str("-")?;
        }
        let decimal = |value: u64, unit: u64| {
            let digits = unit.ilog10() as usize;
            let text = format!("{}.{:0digits$}", value / unit, value % unit);
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        };
        match nanos {
            0 => return f.write_str("0s"),
            1..MICROSECOND => return write!(f, "{nanos}ns"),
            MICROSECOND..MILLISECOND => {
                return write!(f, "{}\u{b5}s", decimal(nanos, MICROSECOND));
            }
            MILLISECOND..SECOND => return write!(f, "{}ms", decimal(nanos, MILLISECOND)),
            _ => {}
        }
        if nanos >= HOUR {
            write!(f, "{}h", nanos / HOUR)?;
        }
        if nanos >= MINUTE {
            write!(f, "{}m", nanos / MINUTE % 60)?;
        }
        write!(f, "{}s", decimal(nanos % MINUTE, SECOND))
    }
}

impl From<Duration> for Nanos {
    /// Saturates at the largest value, about 292 years.
    fn from(duration: Duration) -> Self {
        Self(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written_as_go_does() {
        // Text, nanoseconds, how Go writes it.
        for (text, nanos, written) in [
            ("0", 0, "0s"),
            ("-0", 0, "0s"),
            ("0s", 0, "0s"),
            ("1ns", 1, "1ns"),
            ("1100ns", 1100, "1.1\u{b5}s"),
            ("1us", 1000, "1\u{b5}s"),
            ("1\u{b5}s", 1000, "1\u{b5}s"),
            ("1\u{3bc}s", 1000, "1\u{b5}s"),
            ("2200us", 2_200_000, "2.2ms"),
            ("500ms", 500_000_000, "500ms"),
            ("1.5s", 1_500_000_000, "1.5s"),
            (".5s", 500_000_000, "500ms"),
            ("1.s", 1_000_000_000, "1s"),
            ("+5s", 5_000_000_000, "5s"),
            ("-1m1s", -61_000_000_000, "-1m1s"),
            ("90s", 90_000_000_000, "1m30s"),
            ("4m5.001s", 245_001_000_000, "4m5.001s"),
            ("90m", 5_400_000_000_000, "1h30m0s"),
            ("1h30m", 5_400_000_000_000, "1h30m0s"),
            ("1h.5m", 3_630_000_000_000, "1h0m30s"),
            ("24h", 86_400_000_000_000, "24h0m0s"),
            ("0.3333333333333333333h", 1_199_999_999_999, "19m59.999999999s"),
            ("9007199254740993ns", 9_007_199_254_740_993, "2501h59m59.254740993s"),
            ("9223372036854775807ns", i64::MAX, "2562047h47m16.854775807s"),
            ("-9223372036854775808ns", i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(text.parse(), Ok(Nanos(nanos)), "{text}");
            assert_eq!(Nanos(nanos).to_string(), written, "{text}");
            assert_eq!(written.parse(), Ok(Nanos(nanos)), "{written}");
        }
    }

    #[test]
    fn what_is_no_span_is_refused_in_gos_words() {
        for (text, words) in [
            ("", "time: invalid duration \"\""),
            ("-", "time: invalid duration \"-\""),
            ("x", "time: invalid duration \"x\""),
            ("h", "time: invalid duration \"h\""),
            (".s", "time: invalid duration \".s\""),
            ("1.2.3s", "time: invalid duration \"1.2.3s\""),
            ("1s ", "time: unknown unit \"s \" in duration \"1s \""),
            ("--1s", "time: invalid duration \"--1s\""),
            ("5", "time: missing unit in duration \"5\""),
            ("1h5", "time: missing unit in duration \"1h5\""),
            ("5d", "time: unknown unit \"d\" in duration \"5d\""),
            ("1e300h", "time: unknown unit \"e\" in duration \"1e300h\""),
            ("9223372036854775808ns", "time: invalid duration \"9223372036854775808ns\""),
            ("3000000h", "time: invalid duration \"3000000h\""),
            ("99999999999999999999s", "time: invalid duration \"99999999999999999999s\""),
        ] {
            assert_eq!(text.parse::<Nanos>().map_err(|e| e.to_string()), Err(words.to_owned()));
        }
    }
}
