//! What is published about a container whenever it changes.

use serde::{Deserialize, Serialize};

/// The states of `docker ps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Never started.
    #[default]
    Created,
    /// Runs.
    Running,
    /// Frozen.
    Paused,
    /// Ended, and about to be started again by its restart policy.
    Restarting,
    /// Being removed.
    Removing,
    /// Ended.
    Exited,
    /// Its removal failed half-way.
    Dead,
}

impl Phase {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }

    /// Whether a process of it exists.
    pub const fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// What a health check has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// There is no check.
    #[default]
    None,
    /// Not decided yet.
    Starting,
    /// The last check passed.
    Healthy,
    /// So many checks in a row failed.
    Unhealthy,
}

impl HealthStatus {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// A container at a glance; sent to watchers on each change. A slow watcher sees only the latest,
/// in which the counters tell what it missed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Glance {
    /// Where in its life it is.
    pub phase: Phase,
    /// Health.
    pub health: HealthStatus,
    /// Process id on the host while it runs.
    pub pid: Option<i32>,
    /// How often it has been started.
    pub starts: u64,
    /// How often it has ended, failed starts included.
    pub exits: u64,
    /// Code of the last end.
    pub exit_code: i64,
    /// Why the last start failed; empty otherwise.
    pub error: String,
    /// Whether the kernel killed it for want of memory.
    pub oom_killed: bool,
    /// Its process has ended, and what it used is being cleared up or is in line for it.
    pub ending: bool,
    /// It no longer exists.
    pub removed: bool,
}
