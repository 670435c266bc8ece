//! A container's control groups: reading, changing, freezing, removing. Version 1 hierarchies,
//! version 2, and both side by side (each controller is where the host mounted it).
//!
//! Creating them and joining them is libcontainer's part; it uses the same path in every hierarchy,
//! which is all that must be known to find them again, without the shim and after a restart.

mod devices;
mod group;
mod layout;
mod oom;
mod stats;
mod update;

pub use devices::attach as restrict_devices_at;
pub use group::Cgroup;
pub use layout::{Layout, Version};
pub use oom::OomWatch;
pub use stats::{BlkioEntry, BlkioStats, CpuStats, MemoryStats, PidsStats, Stats};

use std::io;
use std::path::PathBuf;

/// A control group file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("could not read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not write {value:?} to {path}")]
    Write {
        path: PathBuf,
        value: String,
        #[source]
        source: io::Error,
    },
    #[error("{path} has unexpected content: {line:?}")]
    Parse { path: PathBuf, line: String },
    #[error("could not make {path}")]
    Make {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not remove {path}")]
    Remove {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The controller is not mounted or not enabled on this host.
    #[error("this host has no {controller} controller")]
    NoController { controller: &'static str },
    #[error("processes in {path} did not {what} in time")]
    Timeout { path: PathBuf, what: &'static str },
    #[error("could not install the device rules on {path}")]
    Devices {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}
