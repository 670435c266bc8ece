//! A swarm manager: the replicated store and everything that works on it.
//!
//! ```text
//!  doors ─▶ Control ─┐                              ┌─▶ remote API (2377): CA, dispatcher, logs, …
//!                    ├─▶ Writer ─▶ raft ─▶ StoreCell ┼─▶ leader's loops ─┐
//!  agents' reports ──┘     ▲                        └─▶ watchers         │
//!                          └──────────────────────────────────────────────┘
//! ```
//! Every change of the swarm is a function of the store that runs in the `store`'s one writer, one
//! after another, and is answered once it is synced to disk and applied. Readers take a copy of the
//! store, which costs nothing. What only the leader does begins and ends with its leadership
//! (`leader`).
//!
//! To add a loop of the leader: give it the store and the writer, make it level-triggered (it re-reads
//! the store when woken), and list it in `leader/lifetime.rs`. To add a remote call: a file in `rpc/`
//! that checks its caller first.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make files as they like"))]

mod auth;
mod ca;
mod chance;
mod control;
mod dispatcher;
mod leader;
mod lock;
mod logs;
mod manager;
mod raft;
mod rpc;
mod shared;
mod store;

pub use control::*;
pub use manager::{Manager, ManagerConfig, ManagerStart, ManagerStartError, NewSwarm};
pub use raft::{
    KeyFileError, LogError, RaftStartError, SealError, SnapshotError, StateMachineError,
};
pub use shared::HostRoutes;
pub use store::{TransactionError, Watched, Watcher, WriteError};
