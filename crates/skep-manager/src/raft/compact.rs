//! When the log is made shorter: by the swarm's settings, which may change while raft runs. openraft's own
//! are fixed when it starts, so it is told each time.
//!
//! The settings count entries, and an entry may be small or large. So the bytes count as well, because they make
//! the size of the file: what is purged is room for new entries in it, but it hardly ever gets shorter while it is
//! open. Its database takes two to three times the bytes of its entries.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use skep_control::admission::{DEFAULT_SLOW_FOLLOWER_ENTRIES, DEFAULT_SNAPSHOT_INTERVAL};
use skep_types::RaftConfig;

use crate::shared::Shared;

/// Bytes of entries after which a snapshot is made, however few entries they are.
const MOST_BYTES: u64 = 8 << 20;

/// Makes snapshots and purges the log until the manager stops. `appended_bytes` is the log's own count.
pub(crate) async fn keep_short(shared: Arc<Shared>, appended_bytes: Arc<AtomicU64>) {
    let mut metrics = shared.raft.data_metrics();
    let mut log = Log::default();
    loop {
        let data = metrics.borrow_and_update().clone();
        let index = |id: Option<super::types::LogId>| id.map_or(0, |id| id.index);
        log.applied = index(data.last_applied);
        log.snapshot = index(data.snapshot);
        log.purged = index(data.purged);
        log.bytes = appended_bytes.load(Ordering::Relaxed);
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
    /// Bytes appended, and how many they were when a snapshot was last asked for.
    bytes: u64,
    asked_bytes: u64,
    /// How far a purge was asked for: replication may hold it up.
    purging: u64,
}

impl Log {
    fn step(&mut self, settings: &RaftConfig) -> Option<Step> {
        let or = |value: u64, default: u64| if value == 0 { default } else { value };
        let interval = or(settings.snapshot_interval, DEFAULT_SNAPSHOT_INTERVAL);
        let keep = or(settings.log_entries_for_slow_followers, DEFAULT_SLOW_FOLLOWER_ENTRIES);
        let entries = self.applied.saturating_sub(self.snapshot.max(self.asked));
        let being_made = self.snapshot < self.asked;
        let large = self.bytes.saturating_sub(self.asked_bytes) >= MOST_BYTES;
        if entries >= interval || (large && entries > 0 && !being_made) {
            self.asked = self.applied;
            self.asked_bytes = self.bytes;
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
    }

    #[test]
    fn few_large_entries_count_by_their_bytes() {
        let settings = RaftConfig::default();
        let mut log = Log { applied: 700, bytes: MOST_BYTES - 1, ..Log::default() };
        assert_eq!(log.step(&settings), None);
        log.bytes += 1;
        assert_eq!(log.step(&settings), Some(Step::Snapshot));
        // One at a time.
        (log.applied, log.bytes) = (900, 3 * MOST_BYTES);
        assert_eq!(log.step(&settings), None);
        log.snapshot = 701;
        assert_eq!(log.step(&settings), Some(Step::Snapshot));
        assert_eq!(log.step(&settings), Some(Step::Purge(201)));
        (log.purged, log.snapshot) = (201, 900);
        assert_eq!(log.step(&settings), Some(Step::Purge(400)));
        assert_eq!(log.step(&settings), None);
    }

    #[test]
    fn the_defaults_are_swarmkits() {
        let defaults = RaftConfig::default();
        let mut log = Log { applied: 9_999, ..Log::default() };
        assert_eq!(log.step(&defaults), None);
        log.applied += 1;
        assert_eq!(log.step(&defaults), Some(Step::Snapshot));
        log.snapshot = 10_000;
        assert_eq!(log.step(&defaults), Some(Step::Purge(9_500)));
    }
}
