//! One host's membership of a swarm: made, joined, kept through restarts, and left.
//!
//! A [`SwarmNode`] holds the agent and, on managers, the manager; they meet only over the remote API,
//! as an agent and a manager on different hosts do. What is on disk, all under `swarm/` of the data
//! root: `state.json` (phase and addresses), `certificates/`, `raft/`, `worker/`.
//!
//! Promise: `kill -9` at any moment leaves a host that is either a member, as it was told, or not one.
//! The state file is written before each step and says which; what was not acknowledged is undone at
//! the next start, and a leaving that had begun is finished.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make files as they like"))]

mod address;
mod error;
mod host;
mod node;
mod pool;
mod request;
mod state;

pub use address::AddressError;
pub use error::{AttachmentRefusal, NodeError, NotManager};
pub use host::{Host, HostError, Membership};
pub use node::{NodeConfig, SwarmNode};
pub use request::{InitRequest, JoinRequest, LocalNodeState, RemoteManager, SwarmInfo};
