use serde::{Deserialize, Serialize};
use skep_control::ApplyError;
use skep_types::NodeId;
use thiserror::Error;

/// What became of one transaction of a log entry; the same on every replica. The text is for logs:
/// the proposer already knew the answer when it wrote the entry.
pub(crate) type TransactionResult = Result<u64, TransactionError>;

/// A transaction that the store refused when its entry was applied.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
#[error("{0}")]
pub struct TransactionError(pub String);

/// Why nothing was written. Sorted by what the caller should do.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum WriteError {
    /// Read again, decide again.
    #[error("the store refused the change")]
    Refused(#[source] ApplyError),
    /// The entry was committed, but another leader's came before it: read again, decide again.
    #[error("the change was overtaken")]
    Overtaken(#[source] TransactionError),
    /// Ask this manager, or wait for an election.
    #[error("this manager is not the leader")]
    NotLeader { leader: Option<(NodeId, String)> },
    /// The leader lost its majority while writing: the change may or may not survive.
    #[error("leadership was lost while writing")]
    Unknown,
    /// The disk takes no writes for now; nothing changed.
    #[error("cannot write the swarm's state in {folder}: {reason}")]
    Disk { folder: String, reason: String },
    /// The manager is stopping, or its disk failed.
    #[error("this manager has stopped")]
    Stopped,
}
