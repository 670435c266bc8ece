//! When the log is made shorter: by the swarm's settings, which may change while raft runs. openraft's own
//! are fixed when it starts, so it is told each time.

use std::sync::Arc;

use skep_control::admission::{DEFAULT_SLOW_FOLLOWER_ENTRIES, DEFAULT_SNAPSHOT_INTERVAL};
use skep_types::RaftConfig;

use crate::shared::Shared;

/// Makes snapshots and purges the log until the manager stops.
pub(crate) async fn keep_short(shared: Arc<Shared>) {
    let mut metrics = shared.raft.data_metrics();
    let mut log = Log::default();
    loop {
        let data = metrics.borrow_and_update().clone();
        let index = |id: Option<super::types::LogId>| id.map_or(0, |id| id.index);
        log.applied = index(data.last_applied);
        log.snapshot = index(data.snapshot);
        log.purged = index(data.purged);
        let settings =
            shared.read().cluster().map(|cluster| cluster.spec.raft.clone()).unwrap_or_default();
        let done = match log.step(&settings) {
            Some(Step::Snapshot) => shared.raft.trigger().snapshot().await,
            Some(Step::Purge(upto)) => shared.raft.trigger().purge_log(upto).await,
            None => Ok(()),
        };
        // Raft has stopped; who watches that knows why.
        if done.is_err() {
            return;
        }
        tokio::select! {
            () = shared.stop.cancelled() => return,
            changed = metrics.changed() => if changed.is_err() { return },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Snapshot,
    /// Entries up to this index go.
    Purge(u64),
}

/// Where the log is, by indices; 0 for nothing yet.
#[derive(Debug, Default)]
struct Log {
    applied: u64,
    snapshot: u64,
    purged: u64,
    /// What was applied when a snapshot was last asked for: one is made at a time, and takes time.
    asked: u64,
    /// How far a purge was asked for: replication may hold it up.
    purging: u64,
}

impl Log {
    fn step(&mut self, settings: &RaftConfig) -> Option<Step> {
        let or = |value: u64, default: u64| if value == 0 { default } else { value };
        let interval = or(settings.snapshot_interval, DEFAULT_SNAPSHOT_INTERVAL);
        let keep = or(settings.log_entries_for_slow_followers, DEFAULT_SLOW_FOLLOWER_ENTRIES);
        if self.applied.saturating_sub(self.snapshot.max(self.asked)) >= interval {
            self.asked = self.applied;
            return Some(Step::Snapshot);
        }
        let upto = self.snapshot.saturating_sub(keep);
        if upto > self.purged.max(self.purging) {
            self.purging = upto;
            return Some(Step::Purge(upto));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_and_purges_follow_the_settings() {
        let settings = RaftConfig {
            snapshot_interval: 100,
            log_entries_for_slow_followers: 30,
            ..RaftConfig::default()
        };
        let mut log = Log { applied: 99, ..Log::default() };
        assert_eq!(log.step(&settings), None);
        log.applied = 100;
        assert_eq!(log.step(&settings), Some(Step::Snapshot));
        // It is being made; then its entries go but for those that are kept.
        log.applied = 150;
        assert_eq!(log.step(&settings), None);
        log.snapshot = 101;
        assert_eq!(log.step(&settings), Some(Step::Purge(71)));
        assert_eq!(log.step(&settings), None);
        log.purged = 71;
        assert_eq!(log.step(&settings), None);
        // A shorter interval counts at once.
        let shorter = RaftConfig { snapshot_interval: 10, ..settings };
        assert_eq!(log.step(&shorter), Some(Step::Snapshot));
        let defaults = RaftConfig::default();
        let mut log = Log { applied: 9_999, ..Log::default() };
        assert_eq!(log.step(&defaults), None);
        log.applied += 1;
        assert_eq!(log.step(&defaults), Some(Step::Snapshot));
        log.snapshot = 10_000;
        assert_eq!(log.step(&defaults), Some(Step::Purge(9_500)));
    }
}
