//! What memberlist knows of the others: members, suspicions, the queue of news.

pub(crate) mod member;
pub(crate) mod queue;
pub(crate) mod suspicion;

/// This node's own health: the worse, the slower it accuses others (Lifeguard, section IV.A).
#[derive(Debug, Default)]
pub(crate) struct Awareness(u32);

impl Awareness {
    const WORST: u32 = 8;

    pub(crate) fn better(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }

    pub(crate) fn worse(&mut self, by: u32) {
        self.0 = (self.0 + by).min(Self::WORST - 1);
    }

    pub(crate) fn score(&self) -> u32 {
        self.0
    }

    pub(crate) fn scale(&self, timeout: std::time::Duration) -> std::time::Duration {
        timeout * (self.0 + 1)
    }
}
