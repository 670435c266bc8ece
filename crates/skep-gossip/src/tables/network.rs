use crate::membership::queue::Queue;
use crate::names::{EntryId, NodeName};
use crate::time::Moment;
use std::collections::{BTreeMap, BTreeSet};

/// One node in one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attachment {
    pub(crate) l_time: u64,
    /// Set when the node left: when that is forgotten.
    pub(crate) left_until: Option<Moment>,
}

/// A network that this node is in, or left a short time ago.
#[derive(Debug)]
pub(crate) struct OwnNetwork {
    pub(crate) attachment: Attachment,
    /// Own events and those of the first hand; sent before `relayed`.
    pub(crate) events: Queue<EntryId>,
    /// What others said.
    pub(crate) relayed: Queue<EntryId>,
    pub(crate) gossip_due: Option<Moment>,
    /// Peers whose first bulk sync is not over; events are relayed once it is empty.
    pub(crate) first_sync: BTreeSet<NodeName>,
    /// When its whole tables were last pushed to all neighbours, or will be.
    pub(crate) pushed_at: Option<Moment>,
    /// Peers in the order in which they get their turn of bulk sync.
    pub(crate) ring: Vec<NodeName>,
}

impl OwnNetwork {
    pub(crate) fn joined(l_time: u64) -> Self {
        Self {
            attachment: Attachment { l_time, left_until: None },
            events: Queue::default(),
            relayed: Queue::default(),
            gossip_due: None,
            first_sync: BTreeSet::new(),
            pushed_at: None,
            ring: Vec::new(),
        }
    }

    pub(crate) fn is_joined(&self) -> bool {
        self.attachment.left_until.is_none()
    }
}

/// A bulk sync that waits for its answer.
#[derive(Debug)]
pub(crate) struct PendingSync {
    /// Only a later message is an answer.
    pub(crate) l_time: u64,
    pub(crate) deadline: Moment,
}

/// A bulk sync that is to be asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DueSync {
    pub(crate) at: Moment,
    pub(crate) attempts: u8,
}

/// Who is in which network, as far as others said.
pub(crate) type Attachments = BTreeMap<NodeName, BTreeMap<crate::names::NetworkId, Attachment>>;
