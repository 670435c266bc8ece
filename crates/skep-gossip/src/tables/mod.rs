//! What NetworkDB adds to membership: its messages, its clocks, its entries.

pub(crate) mod entry;
pub(crate) mod network;
pub mod wire;

/// A Lamport clock.
#[derive(Debug, Default)]
pub(crate) struct Clock(u64);

impl Clock {
    /// Beyond this a clock is a fault or an attack: a million events a second for 146 thousand
    /// years. Taking it over would bring the end of the numbers in reach.
    pub(crate) const ABSURD: u64 = 1 << 62;

    pub(crate) fn now(&self) -> u64 {
        self.0
    }

    /// The time of a new event of ours.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }

    /// An event of someone else happened at `time`.
    pub(crate) fn witness(&mut self, time: u64) {
        if time >= self.0 && time < Self::ABSURD {
            self.0 = time + 1;
        }
    }
}
