use std::ops::{Add, AddAssign};
use std::time::Duration;

/// A point in time: milliseconds since a start that the caller chose. The machine never reads a
/// clock; every call brings the present with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// `millis` since the caller's start.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the caller's start.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to here; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl AddAssign<Duration> for Moment {
    fn add_assign(&mut self, rhs: Duration) {
        *self = *self + rhs;
    }
}
