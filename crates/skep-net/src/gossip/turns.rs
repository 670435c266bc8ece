//! What changes of the gossip keys say about silent nodes.
//!
//! A manager gives a new key every 12 h. When a node is removed it changes all of them within seconds, so
//! that the node, which knows them, hears nothing more. From then on silence means that somebody is out,
//! and what leads to silent nodes goes at once, instead of being kept for a daemon that comes back.

use super::GossipKey;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Changes of all keys within this time are a removal; on its own clock a manager needs a day and more.
const BURST: Duration = Duration::from_secs(60);
/// How long after the last of them silence means that: time to notice it.
const AFTER: Duration = Duration::from_secs(60);

/// Follows the keys.
#[derive(Debug)]
pub struct Turns {
    /// Keys at the beginning of the changes that follow each other now, by their times.
    base: BTreeSet<u64>,
    begun: Instant,
    /// Until when silent nodes count as removed.
    out_until: Option<Instant>,
}

fn times(keys: &[GossipKey]) -> BTreeSet<u64> {
    keys.iter().map(|key| key.lamport_time).collect()
}

impl Turns {
    pub fn new(keys: &[GossipKey], now: Instant) -> Self {
        Self { base: times(keys), begun: now, out_until: None }
    }

    /// Other keys came; `old` were in use until now. Whether all have been changed, so that who is
    /// silent is out.
    pub fn turn(&mut self, old: &[GossipKey], new: &[GossipKey], now: Instant) -> bool {
        if now.saturating_duration_since(self.begun) > BURST {
            self.base = times(old);
            self.begun = now;
        }
        let new = times(new);
        if !new.is_disjoint(&self.base) {
            return false;
        }
        self.base = new;
        self.begun = now;
        self.out_until = Some(now + AFTER);
        true
    }

    /// Whether a node that falls silent now is out.
    pub fn silence_is_removal(&self, now: Instant) -> bool {
        self.out_until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(times: [u64; 3]) -> Vec<GossipKey> {
        times.map(|lamport_time| GossipKey { bytes: vec![0; 16], lamport_time }).to_vec()
    }

    #[test]
    fn only_a_change_of_all_keys_in_a_row_is_a_removal() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let steps = [keys([1, 2, 3]), keys([2, 3, 4]), keys([3, 4, 5]), keys([4, 5, 6])];
        for (pause, removal) in [(3, true), (12 * 3600, false), (61, false)] {
            let mut turns = Turns::new(&steps[0], start);
            // The first comes at any time.
            let mut now = 1000;
            let mut seen = false;
            for pair in steps.windows(2) {
                seen = turns.turn(&pair[0], &pair[1], at(now));
                now += pause;
            }
            assert_eq!(seen, removal, "{pause}");
            assert_eq!(turns.silence_is_removal(at(now)), removal, "{pause}");
            assert!(!turns.silence_is_removal(at(now + 120)));
        }
    }

    #[test]
    fn who_missed_the_steps_between_sees_it_too() {
        let now = Instant::now();
        let mut turns = Turns::new(&keys([1, 2, 3]), now);
        assert!(turns.turn(&keys([1, 2, 3]), &keys([7, 8, 9]), now));
    }
}
