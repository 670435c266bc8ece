//! The handle on this host's membership, and what it consists of while it lasts.

mod attach;
mod clock;
mod found;
mod handle;
mod info;
mod join;
mod leave;
mod member;
mod remotes;
mod renewal;
mod slot;

pub use handle::{NodeConfig, SwarmNode};
