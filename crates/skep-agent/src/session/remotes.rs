use std::collections::BTreeMap;

use crate::ManagerAddress;

/// What one success or failure counts.
const OBSERVATION: f64 = 10.0;

/// Share of the old weight in the new one.
const SMOOTHING: f64 = 0.5;

const MAX_WEIGHT: f64 = 256.0;

/// The known managers, with a weight that remembers how they answered.
///
/// A manager is chosen by chance in proportion to its weight above the lowest, so that after a failure
/// another one is likelier, but none is out for ever.
#[derive(Debug, Default)]
pub(super) struct Remotes {
    weights: BTreeMap<ManagerAddress, f64>,
}

impl Remotes {
    pub(super) fn new(managers: Vec<ManagerAddress>) -> Self {
        let mut remotes = Self::default();
        remotes.update(managers);
        remotes
    }

    /// Makes these the known managers; those already known keep their weight. An empty list, or one
    /// without addresses, changes nothing: it would cut the node off.
    pub(super) fn update(&mut self, managers: Vec<ManagerAddress>) {
        let old = std::mem::take(&mut self.weights);
        self.weights = managers
            .into_iter()
            .filter(|manager| !manager.addr.is_empty())
            .map(|manager| {
                let weight = old.get(&manager).copied().unwrap_or_default();
                (manager, weight)
            })
            .collect();
        if self.weights.is_empty() {
            self.weights = old;
        }
    }

    pub(super) fn succeeded(&mut self, manager: &ManagerAddress) {
        self.observe(manager, OBSERVATION);
    }

    pub(super) fn failed(&mut self, manager: &ManagerAddress) {
        self.observe(manager, -OBSERVATION);
    }

    fn observe(&mut self, manager: &ManagerAddress, observed: f64) {
        if let Some(weight) = self.weights.get_mut(manager) {
            let smoothed = *weight * SMOOTHING + observed * (1.0 - SMOOTHING);
            *weight = smoothed.clamp(-MAX_WEIGHT, MAX_WEIGHT);
        }
    }

    /// A manager to try; `chance` is in `0.0..1.0`. `None` if none is known.
    pub(super) fn select(&self, chance: f64) -> Option<ManagerAddress> {
        let lowest = self.weights.values().copied().fold(f64::INFINITY, f64::min);
        // One more than the distance, so that equal weights mean equal chances.
        let share = |weight: f64| weight - lowest + 1.0;
        let total: f64 = self.weights.values().copied().map(share).sum();
        let mut left = chance.clamp(0.0, 1.0) * total;
        for (manager, weight) in &self.weights {
            left -= share(*weight);
            if left < 0.0 {
                return Some(manager.clone());
            }
        }
        self.weights.keys().next_back().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(name: &str) -> ManagerAddress {
        ManagerAddress { node_id: name.into(), addr: format!("{name}:2377") }
    }

    fn share_of(remotes: &Remotes, name: &str) -> usize {
        let chosen = (0..1000).filter_map(|i| remotes.select(f64::from(i) / 1000.0));
        chosen.filter(|m| *m == manager(name)).count()
    }

    #[test]
    fn new_managers_have_equal_chances() {
        let remotes = Remotes::new(vec![manager("a"), manager("b")]);
        assert_eq!(share_of(&remotes, "a"), 500);
        assert_eq!(Remotes::default().select(0.5), None);
    }

    #[test]
    fn failure_makes_a_manager_unlikely_but_not_impossible() {
        let mut remotes = Remotes::new(vec![manager("a"), manager("b")]);
        remotes.failed(&manager("a"));
        remotes.succeeded(&manager("b"));
        let share = share_of(&remotes, "a");
        assert!((1..200).contains(&share), "{share}");
    }

    #[test]
    fn weights_stay_bounded() {
        let mut remotes = Remotes::new(vec![manager("a")]);
        for _ in 0..1000 {
            remotes.failed(&manager("a"));
        }
        assert_eq!(remotes.select(0.0), Some(manager("a")));
        assert!(remotes.weights.values().all(|weight| weight.abs() <= MAX_WEIGHT));
    }

    #[test]
    fn an_update_prunes_and_skips_empty_addresses() {
        let mut remotes = Remotes::new(vec![manager("a"), manager("b")]);
        remotes.update(vec![
            manager("b"),
            ManagerAddress { node_id: "c".into(), addr: String::new() },
        ]);
        assert_eq!(share_of(&remotes, "b"), 1000);
        remotes.update(Vec::new());
        assert_eq!(share_of(&remotes, "b"), 1000);
    }
}
