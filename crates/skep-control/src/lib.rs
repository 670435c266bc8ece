//! The control core of a swarm: what should run, where, and with which addresses.
//!
//! Everything here is a function of its arguments. Time and chance are passed in, maps are ordered,
//! and nothing touches a socket, file or clock, so the same inputs give the same actions on every
//! machine and a whole cluster runs inside one test.
//!
//! How the parts fit:
//!
//! - [`Store`] holds the cluster's objects. It changes only through [`Store::apply`], whose input is
//!   a batch of [`Action`]s (one entry of the raft log). Cloning a store is O(1) (persistent maps), so
//!   readers take a clone and keep it as long as they like.
//! - [`Leader`] is the set of loops that only the raft leader runs: allocator, orchestrators, updater,
//!   scheduler, reaper. [`Leader::step`] compares what should be with what is and returns the actions
//!   that bring the two closer, and when to look again at the latest. It may run at any time and any
//!   number of times.
//! - [`admission`] is the control API: it checks a user's request and turns it into actions.
//! - [`list`] filters objects for the API's lists.
//!
//! The runner must serialise: compute actions on the latest applied store, propose, wait until they
//! are applied, then compute the next ones (API requests, agents' reports and steps alike). Actions
//! carry the versions they were based on, so a violation is refused and not mixed up.

pub mod admission;
mod allocator;
mod draft;
mod leader;
pub mod list;
mod orchestrator;
mod rng;
mod scheduler;
mod slots;
mod store;

pub use draft::Draft;
pub use leader::{Leader, Step};
pub use rng::{Rng, below, new_id};
pub use scheduler::constraint::{Constraint, ConstraintError};
pub use store::*;
