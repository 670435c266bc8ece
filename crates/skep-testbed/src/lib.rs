//! Hosts for tests, demos and measurements, on one machine.
//!
//! A host is a set of namespaces (network, mount, UTS, PID) with a private `/run` and its own data
//! folder, joined to a switch that is a bridge in a namespace too. Everything in a host dies with its
//! first process, so a failed test leaves nothing behind but cgroup folders, which [`Bed`] removes.
//! Nothing is added to the machine's own network namespace.

#![allow(clippy::disallowed_methods, reason = "tests make files as they like")]

mod bed;
mod command;
mod daemon;
mod host;
mod image;
mod peer;
mod registry;
mod wait;

pub use bed::Bed;
pub use command::{Finished, run};
pub use daemon::Daemon;
pub use host::Host;
pub use image::Image;
pub use peer::Peer;
pub use registry::Registry;
pub use wait::until;

use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// An executable of this workspace, next to the folder of the running test or program.
pub fn executable(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("find the running executable")?;
    own.ancestors()
        .skip(1)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("no `{name}` near {}; build the workspace first", own.display()))
}
