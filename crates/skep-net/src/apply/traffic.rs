//! What is said to the kernel and what it answers, counted. What a container costs is told by these numbers, on
//! any machine the same.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of all netlink sockets of one life of the daemon but those that only listen; they only grow.
#[derive(Debug, Default)]
pub struct Traffic {
    requests: AtomicU64,
    dumps: AtomicU64,
    answers: AtomicU64,
    links: AtomicU64,
    bytes: AtomicU64,
    programs: AtomicU64,
}

/// The counters at one time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrafficCounts {
    /// Requests sent to the kernel, dumps included.
    pub requests: u64,
    /// Requests for everything of a kind.
    pub dumps: u64,
    /// Messages that the kernel answered with.
    pub answers: u64,
    /// Links among them.
    pub links: u64,
    /// Bytes of the answers.
    pub bytes: u64,
    /// Runs of the `nft` program.
    pub programs: u64,
}

impl Traffic {
    /// A request was sent.
    pub fn request(&self, dump: bool) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.dumps.fetch_add(dump.into(), Ordering::Relaxed);
    }

    /// A message of `bytes` came.
    pub fn answer(&self, bytes: usize) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A message was a link.
    pub fn link(&self) {
        self.links.fetch_add(1, Ordering::Relaxed);
    }

    /// `nft` was run.
    pub fn program(&self) {
        self.programs.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters as they are now.
    pub fn counts(&self) -> TrafficCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TrafficCounts {
            requests: read(&self.requests),
            dumps: read(&self.dumps),
            answers: read(&self.answers),
            links: read(&self.links),
            bytes: read(&self.bytes),
            programs: read(&self.programs),
        }
    }
}
