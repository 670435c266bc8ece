use std::io::Cursor;

use serde::{Deserialize, Serialize};
use skep_control::Action;
use skep_types::{NodeId, Timestamp};

use crate::store::TransactionResult;

/// Raft's own name of a member: random, never used twice in a swarm.
pub type RaftId = u64;

/// What the log knows about a member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub node_id: NodeId,
    /// host:port of its remote API.
    pub addr: String,
}

/// One log entry: transactions of several callers that were waiting at the same time, committed with
/// one disk sync. Each succeeds or fails by itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Command {
    pub transactions: Vec<Transaction>,
}

/// Changes that happen wholly or not at all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Transaction {
    /// The leader's clock when it decided; the time that the changed objects show.
    pub time: Timestamp,
    pub actions: Vec<Action>,
}

openraft::declare_raft_types!(
    /// openraft's view of the swarm.
    pub TypeConfig:
        D = Command,
        R = Vec<TransactionResult>,
        NodeId = RaftId,
        Node = Member,
        SnapshotData = Cursor<Vec<u8>>,
);

pub type Raft = openraft::Raft<TypeConfig>;
pub type Entry = openraft::Entry<TypeConfig>;
pub type LogId = openraft::LogId<RaftId>;
pub type StorageError = openraft::StorageError<RaftId>;
pub type StoredMembership = openraft::StoredMembership<RaftId, Member>;
pub type SnapshotMeta = openraft::SnapshotMeta<RaftId, Member>;
pub type Snapshot = openraft::Snapshot<TypeConfig>;
pub type Vote = openraft::Vote<RaftId>;
