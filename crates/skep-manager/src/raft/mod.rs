//! The replicated log: openraft over an encrypted redb file, with the swarm's store as its state
//! machine.
//!
//! Promises: what a write acknowledged is on disk (synced) and survives `kill -9` at any moment; what
//! is on disk is sealed under a data key that lies beside it in a 0600 file, or, with autolock, is
//! itself sealed under the unlock key. Memory stays small: the log is not cached, the store is the
//! only copy of the objects.
//!
//! Rejected: Docker's raft messages between managers. A swarm's managers are all Docker's or all ours
//! (raft state is not interchangeable anyway), so openraft speaks its own messages (`skep.raft.v1`).

mod compact;
mod key_file;
mod layout;
mod log_store;
mod network;
mod node;
mod seal;
mod snapshot;
mod state_machine;
#[cfg(test)]
mod tests;
mod types;
mod words;

pub(crate) use compact::keep_short;
pub use key_file::KeyFileError;
pub use log_store::LogError;
pub(crate) use network::{RaftCall, RaftTransport, TransportError, serve};
pub use node::RaftStartError;
pub(crate) use node::{Begin, RaftNode};
pub use seal::SealError;
pub use snapshot::SnapshotError;
pub use state_machine::StateMachineError;
pub(crate) use types::{Command, Member, Raft, RaftId, Transaction};
pub(crate) use words::reason;
