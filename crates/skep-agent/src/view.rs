use std::fmt;

use skep_types::{EncryptionKey, Node, NodeId};

/// A manager as the session names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ManagerAddress {
    pub node_id: NodeId,
    /// host:port of its remote API.
    pub addr: String,
}

/// What the newest session message said.
#[derive(Clone, PartialEq)]
pub struct SessionView {
    /// This node's object: wanted role, certificate state (ROTATE asks for a renewal), availability,
    /// load-balancer addresses.
    pub node: Node,
    pub managers: Vec<ManagerAddress>,
    pub network_keys: Vec<EncryptionKey>,
    /// The swarm's root in PEM. If it differs from the trusted one, a rotation has finished.
    pub root_pem: Vec<u8>,
}

impl fmt::Debug for SessionView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionView")
            .field("node", &self.node)
            .field("managers", &self.managers)
            .finish_non_exhaustive()
    }
}

/// Whether a manager answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Not yet, or no more, with the reason of the last attempt.
    Down { reason: String },
    /// A manager answers, but only to say that this node is not of the swarm any more. Its tasks are
    /// stopped and removed.
    Expelled,
    /// In session with this manager.
    Up { manager: ManagerAddress },
}
