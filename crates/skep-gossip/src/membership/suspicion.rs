use crate::config::Timing;
use crate::names::NodeName;
use crate::time::Moment;
use std::collections::BTreeSet;
use std::time::Duration;

/// A suspicion: ends in death unless denied; the more independent accusers, the sooner.
#[derive(Debug)]
pub(crate) struct Suspicion {
    start: Moment,
    /// Confirmations after which it is shortest.
    wanted: usize,
    least: Duration,
    most: Duration,
    accusers: BTreeSet<NodeName>,
}

impl Suspicion {
    /// A suspicion raised by `from` in a cluster of `nodes`.
    pub(crate) fn new(timing: &Timing, nodes: usize, from: NodeName, now: Moment) -> Self {
        let (least, most) = timing.suspicion(nodes);
        // The accused and the first accuser cannot confirm; if too few others are left, nobody
        // needs to.
        let wanted = timing.suspicion_factor.saturating_sub(2) as usize;
        let wanted = if nodes.saturating_sub(2) < wanted { 0 } else { wanted };
        Self { start: now, wanted, least, most, accusers: BTreeSet::from([from]) }
    }

    /// Takes another accuser in; whether that is news worth passing on.
    pub(crate) fn confirm(&mut self, from: NodeName) -> bool {
        self.accusers.len() <= self.wanted && self.accusers.insert(from)
    }

    pub(crate) fn deadline(&self) -> Moment {
        if self.wanted == 0 {
            return self.start + self.least;
        }
        let confirmations = (self.accusers.len() - 1).min(self.wanted);
        let share = (confirmations as f64 + 1.0).ln() / (self.wanted as f64 + 1.0).ln();
        self.start + self.most.saturating_sub((self.most - self.least).mul_f64(share))
    }

    /// This node itself stood still: that time says nothing about the accused.
    pub(crate) fn postpone(&mut self, by: Duration) {
        self.start += by;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accusers_shorten_it() {
        let timing = Timing::docker();
        let start = Moment::from_millis(0);
        let mut suspicion = Suspicion::new(&timing, 5, "a".into(), start);
        assert_eq!(suspicion.deadline().as_millis(), 24_000);
        assert!(!suspicion.confirm("a".into()));
        assert!(suspicion.confirm("b".into()));
        assert!((11_000..12_000).contains(&suspicion.deadline().as_millis()));
        assert!(suspicion.confirm("c".into()));
        assert_eq!(suspicion.deadline().as_millis(), 4_000);
        assert!(!suspicion.confirm("d".into()), "enough is enough");
    }

    #[test]
    fn three_nodes_need_no_confirmation() {
        let suspicion =
            Suspicion::new(&Timing::docker(), 3, "a".into(), Moment::from_millis(1_000));
        assert_eq!(suspicion.deadline().as_millis(), 5_000);
    }
}
