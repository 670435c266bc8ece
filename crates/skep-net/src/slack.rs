//! Whose turn it is among the namespaces that changed and that nobody waits for: one after the other, so that none is
//! passed over while changes go on, and for a part of the time only while others are served. Where hundreds of
//! containers hear of each other's coming, one that starts must not wait behind what that means for all the others.

use crate::plan::NsName;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::{Duration, Instant};

/// How many have their turn before requests are looked at again.
const SLICE: usize = 8;
/// How many times as long as a turn took the next one is waited for while others are served: a fortieth of the time.
const REST: u32 = 39;
/// What it is at most: six hundred containers have had theirs after eight seconds.
const LONGEST: Duration = Duration::from_millis(100);

/// The turns.
#[derive(Debug, Default)]
pub struct Slack {
    /// Who had the last one.
    last: Option<NsName>,
    /// When the next one is.
    at: Option<Instant>,
}

impl Slack {
    /// Who of `ripe` is brought up to date now. What containers hang on always is, as it is little.
    pub fn take(&mut self, ripe: &BTreeSet<NsName>, now: Instant) -> BTreeSet<NsName> {
        let mut taken: BTreeSet<NsName> =
            ripe.iter().filter(|name| !name.is_sandbox()).cloned().collect();
        if self.at.is_some_and(|at| now < at) {
            return taken;
        }
        let from = self.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let after = ripe.range::<NsName, _>((from, Bound::Unbounded));
        // Each once, also where all are after the last.
        let turn = after.chain(ripe).filter(|name| name.is_sandbox()).take(SLICE);
        let turn: Vec<&NsName> = turn.collect();
        self.last = turn.last().map(|name| (*name).clone()).or(self.last.take());
        taken.extend(turn.into_iter().cloned());
        taken
    }

    /// So long was worked for a turn. `busy`: others wait to be served; else there is nothing to make room for, and all
    /// have theirs at once.
    pub fn spent(&mut self, time: Duration, busy: bool, now: Instant) {
        let rest = if busy { (time * REST).min(LONGEST) } else { Duration::ZERO };
        self.at = Some(now + rest);
    }

    /// When the next turn is, for those who are left.
    pub fn next(&self, now: Instant) -> Instant {
        self.at.unwrap_or(now).max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn sandbox(n: usize) -> NsName {
        NsName::Sandbox(format!("{n:064x}").as_str().into())
    }

    #[test]
    fn nobody_is_passed_over_while_all_go_on_changing() {
        let ripe: BTreeSet<NsName> = (0..100).map(sandbox).chain([NsName::Host]).collect();
        let mut slack = Slack::default();
        let mut turns = BTreeMap::<NsName, usize>::new();
        for _ in 0..25 {
            for name in slack.take(&ripe, Instant::now()) {
                *turns.entry(name).or_default() += 1;
            }
        }
        assert_eq!(turns.remove(&NsName::Host), Some(25));
        assert_eq!(turns.len(), 100);
        assert!(turns.values().all(|count| *count == 2), "{turns:?}");
    }

    #[test]
    fn few_have_one_turn_each() {
        let mut slack = Slack::default();
        let ripe = BTreeSet::from([sandbox(1), sandbox(2)]);
        assert_eq!(slack.take(&ripe, Instant::now()), ripe);
        assert_eq!(slack.take(&ripe, Instant::now()), ripe);
        assert!(slack.take(&BTreeSet::new(), Instant::now()).is_empty());
        assert_eq!(slack.take(&ripe, Instant::now()), ripe);
    }

    #[test]
    fn a_turn_is_followed_by_a_rest() {
        let start = Instant::now();
        let mut slack = Slack::default();
        assert_eq!(slack.next(start), start);
        let ripe = BTreeSet::from([sandbox(1), NsName::Ingress]);
        slack.spent(Duration::from_millis(2), true, start);
        let rest = start + Duration::from_millis(78);
        assert_eq!(slack.next(start), rest);
        assert_eq!(slack.take(&ripe, start), BTreeSet::from([NsName::Ingress]));
        assert_eq!(slack.take(&ripe, rest), ripe);
        let later = rest + Duration::from_millis(1);
        assert_eq!(slack.next(later), later);
        // Slow ones are not put off for ever.
        slack.spent(Duration::from_secs(1), true, start);
        assert_eq!(slack.next(start), start + LONGEST);
        // Nor for nobody's sake.
        slack.spent(Duration::from_secs(1), false, start);
        assert_eq!(slack.next(start), start);
    }
}
