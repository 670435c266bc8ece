//! How long what is done to processes may take.

use std::time::{Duration, Instant};

/// How long a process may take to be set up, and then to become its program. Both take milliseconds, seconds on a
/// busy host.
pub(super) const STEP: Duration = Duration::from_secs(120);
/// How long killed processes may take to be gone.
pub(super) const END: Duration = Duration::from_secs(10);
/// How soon it is looked again for processes of a launch that has failed: one may have been just forked.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long a launch may take.
#[derive(Clone, Copy, Debug)]
pub(super) enum Limit {
    /// Nothing is being done.
    None,
    /// The step under way must be done by then.
    Until(Instant),
    /// It has failed: what is left of it is killed, and looked for again at the first time until the second.
    Failed(Instant, Instant),
}

impl Limit {
    /// Of a step that begins now.
    pub(super) fn begin() -> Limit {
        Limit::Until(Instant::now() + STEP)
    }

    /// Of one that has failed.
    pub(super) fn failed(now: Instant) -> Limit {
        Limit::Failed(now + LOOK_AGAIN, now + END)
    }

    /// The next time at which there is something to do.
    pub(super) fn next(&self) -> Option<Instant> {
        match self {
            Limit::None => None,
            Limit::Until(at) | Limit::Failed(at, _) => Some(*at),
        }
    }
}
