//! Docker Swarm's control protocol: messages, gRPC services, and conversions to and from the cluster
//! objects of `skep-types`.
//!
//! [`v1`] is the generated package `docker.swarmkit.v1`, with a client and a server module per
//! service; [`raftpb`] the raft messages it refers to. Names in the `.proto` files follow proto3's
//! scoping and never travel; numbers and types are Docker's, so that Docker nodes and ours understand
//! each other.
//!
//! Objects convert with `v1::Task::from(&task)` and `Task::try_from(message)`. Messages made here
//! always carry the sub-messages that Docker's Go code reads without looking whether they are there;
//! what arrives may lack any of them. An enum number that is unknown here is an error that names the
//! field.

mod convert;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod redacted;
mod removed;

#[allow(clippy::all, rust_2018_idioms, reason = "generated code")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/packages.rs"));
}

pub use error::ConvertError;
pub use generated::docker::swarmkit::v1;
pub use generated::raftpb;
pub use removed::{removed_from_swarm, says_removed};

/// Largest request a manager accepts, in bytes.
pub const MAX_REQUEST_BYTES: usize = 4 << 20;

/// Largest answer a client accepts, in bytes: sessions and assignments have no smaller bound.
pub const MAX_RESPONSE_BYTES: usize = i32::MAX as usize;
