use std::time::Duration;

use skep_control::Store;

use crate::chance;

fn default_period() -> Duration {
    skep_types::defaults::HEARTBEAT_PERIOD.to_std()
}

/// Beats in one period of the swarm's settings.
const BEATS: u32 = 5;

/// How often agents beat, and for how long one may be silent before its node is down.
///
/// The period that the swarm is set to (`--dispatcher-heartbeat`, 5 s) is how long a healthy node may be
/// unheard of. Docker hands this period to agents as it is and gives up after three: a node of the
/// default settings is down after 15 s. Here agents beat five times in a period and a node is down after
/// the sixth missed beat, 6 s: twice as many lost messages are forgiven as in Docker, in less than half
/// the time. What is forgiven less is an agent that does nothing at all for 6 s; who has such hosts sets
/// a longer period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pulse {
    /// Time between two beats.
    every: Duration,
    /// Silence after which a node is down.
    pub limit: Duration,
}

impl Pulse {
    /// As the swarm is set.
    pub fn of(store: &Store) -> Self {
        let set = store.cluster().map(|c| c.spec.dispatcher.heartbeat_period.to_std());
        Self::of_period(set.filter(|period| !period.is_zero()).unwrap_or_else(default_period))
    }

    fn of_period(period: Duration) -> Self {
        let every = period / BEATS;
        Self { every, limit: period + every }
    }

    /// When an agent shall beat next: around the time between two beats, so that agents spread out.
    pub fn next_beat(&self) -> Duration {
        chance::around(self.every, self.every / 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_beats_fit_into_every_limit() {
        for period in [Duration::from_millis(100), default_period(), Duration::from_secs(60)] {
            let pulse = Pulse::of_period(period);
            assert!(pulse.limit > period && pulse.limit < period * 3);
            for _ in 0..100 {
                assert!(pulse.next_beat() * 5 < pulse.limit, "{pulse:?}");
            }
        }
        assert_eq!(Pulse::of_period(default_period()).limit, Duration::from_secs(6));
    }
}
