use std::time::Duration;

use skep_types::{Nanos, Timestamp};

/// Share of a certificate's validity after which it may be renewed, and after which it must be.
const EARLIEST: f64 = 0.5;
const LATEST: f64 = 0.8;

/// How long to wait before renewing a certificate: until a moment between 50 and 80 % of its
/// validity, so that nodes which joined together do not all come back together.
///
/// `chance` is in `0.0..1.0`. Zero if that moment has passed, or if the validity is empty.
pub fn renewal_delay(
    not_before: Timestamp,
    not_after: Timestamp,
    now: Timestamp,
    chance: f64,
) -> Duration {
    let validity = (not_after - not_before).to_std();
    let share = EARLIEST + (LATEST - EARLIEST) * chance.clamp(0.0, 1.0);
    let moment = not_before + Nanos::from(validity.mul_f64(share));
    (moment - now).to_std()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_unix(1_700_000_000 + secs, 0).unwrap()
    }

    #[test]
    fn renewal_is_between_half_and_four_fifths() {
        let delay = |chance| renewal_delay(at(0), at(1000), at(0), chance);
        assert_eq!(delay(0.0), Duration::from_secs(500));
        assert_eq!(delay(0.5).as_secs(), 650);
        assert!(delay(0.9999) < Duration::from_secs(800));
    }

    #[test]
    fn a_late_renewal_is_due_at_once() {
        assert_eq!(renewal_delay(at(0), at(1000), at(801), 0.99), Duration::ZERO);
        assert_eq!(renewal_delay(at(0), at(1000), at(2000), 0.0), Duration::ZERO);
        assert_eq!(renewal_delay(at(1000), at(0), at(1000), 0.5), Duration::ZERO);
    }

    #[test]
    fn time_already_passed_counts() {
        assert_eq!(renewal_delay(at(0), at(1000), at(300), 0.0), Duration::from_secs(200));
    }
}
