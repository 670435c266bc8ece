//! What a container's settings may be, as far as the settings alone can tell.
//!
//! One judgement for `docker run` and for services: the engine refuses a container by it, and a
//! manager refuses a service by it before any task is made. Nothing here asks the host. What depends
//! on it (CPUs, kernel settings, users in an image) is judged where the container runs. Words are
//! Docker's where Docker has some, because scripts match on them.
//!
//! A service's text may hold templates (`{{.Task.Slot}}`), which only an agent fills in: see [`Text`].

mod capability;
mod error;
mod health;
mod limits;
mod log;
mod mount;
mod names;
mod pool;
mod process;
mod signal;
mod sysctl;

pub use capability::{CAPABILITIES, capabilities};
pub use error::{Malformed, MountFault};
pub use health::health;
pub use limits::{MIN_MEMORY, oom_score_adj, swappiness, ulimit};
pub use log::{JsonFile, LOG_DRIVERS, json_file, log_driver, size};
pub use mount::{clean, destination, mount, mounts, tmpfs_words, volume_name, volume_options};
pub use names::{extra_host, hostname, hosts_line, nameserver};
pub use pool::{PoolFault, pool, pool_text, swarm_pools};
pub use process::{environment, user, working_dir};
pub use signal::signal;
pub use sysctl::{Sharing, sysctl};

/// How to take a text of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// As it is.
    Plain,
    /// It may hold templates. One that does is judged after they were filled in.
    Template,
}

impl Text {
    /// Whether nothing can be said of this text yet.
    fn is_open(self, text: &str) -> bool {
        self == Self::Template && text.contains("{{")
    }
}
