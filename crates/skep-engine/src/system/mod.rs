//! The host: facts about it, disk usage, events.

pub mod apparmor;
mod df;
mod info;

pub use info::HostFacts;

use bollard_stubs::models::EventMessage;

use crate::engine::Engine;
use crate::error::Result;
use crate::options::{BoxStream, EventsOptions};

impl Engine {
    /// Past events first, then those that come; ends at `until`.
    ///
    /// # Errors
    /// `Invalid` for filters that events do not have.
    pub fn system_events(&self, options: EventsOptions) -> Result<BoxStream<EventMessage>> {
        self.inner.events.subscribe(options)
    }
}

/// The kernel's host name.
pub fn hostname() -> String {
    nix::unistd::gethostname().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The nodes that have memory, as `0-1`; empty where the kernel does not tell.
pub fn memory_nodes() -> String {
    let nodes = std::fs::read_to_string("/sys/devices/system/node/has_memory").unwrap_or_default();
    nodes.trim().to_owned()
}

/// CPUs that this process may use.
pub fn cpus() -> i64 {
    std::thread::available_parallelism().map_or(1, |n| i64::try_from(n.get()).unwrap_or(i64::MAX))
}

/// Memory of the host in bytes; 0 if /proc does not say.
pub fn memory_total() -> u64 {
    static TOTAL: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *TOTAL.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
        line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok())
            .map_or(0, |kib| kib << 10)
    })
}
