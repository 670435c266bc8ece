use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
/// A manager that restarts waits 12 s for its agents before it gives up their nodes; a pause and a
/// connection attempt that times out must fit in.
const MAX: Duration = Duration::from_secs(3);

/// Pauses between attempts to get a session: each attempt doubles the bound and adds 100 ms, up to
/// 3 s; the pause is a random part of it.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    bound: Duration,
}

impl Backoff {
    /// The pause after another failure; `chance` is in `0.0..1.0`.
    pub(super) fn next(&mut self, chance: f64) -> Duration {
        self.bound = (FIRST + self.bound * 2).min(MAX);
        self.bound.mul_f64(chance.clamp(0.0, 1.0))
    }

    /// A session was there.
    pub(super) fn reset(&mut self) {
        self.bound = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_double_up_to_three_seconds() {
        let mut backoff = Backoff::default();
        let bounds: Vec<u128> = (0..8).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(bounds, [100, 300, 700, 1500, 3000, 3000, 3000, 3000]);
        backoff.reset();
        assert_eq!(backoff.next(0.5), Duration::from_millis(50));
    }
}
