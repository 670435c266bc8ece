use super::suspicion::Suspicion;
use crate::codec::{Alive, NodeState};
use crate::names::NodeName;
use crate::time::Moment;
use std::net::SocketAddr;

/// Probes in a row that are answered by way of others only, after which a member counts as not reached from here. One may
/// be a lost packet.
pub(crate) const DETOURS: u32 = 3;

/// Another node, living or remembered.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) address: SocketAddr,
    pub(crate) meta: Vec<u8>,
    pub(crate) versions: [u8; 6],
    pub(crate) incarnation: u32,
    pub(crate) state: NodeState,
    /// Since when it is in `state`.
    pub(crate) since: Moment,
    pub(crate) suspicion: Option<Suspicion>,
    /// Network clock of its last coming or going.
    pub(crate) l_time: u64,
    /// It said good-bye to the tables; membership follows a moment later.
    pub(crate) said_bye: bool,
    /// Not to be joined again before this.
    pub(crate) retry_at: Moment,
    /// How many probes in a row it answered by way of others only.
    pub(crate) detours: u32,
    /// Not to be asked again before this whether it lives after all.
    pub(crate) nudge_at: Moment,
}

impl Member {
    pub(crate) fn is_present(&self) -> bool {
        matches!(self.state, NodeState::Alive | NodeState::Suspect)
    }

    /// Whether what it owns is to be seen.
    pub(crate) fn is_seen(&self) -> bool {
        self.is_present() && !self.said_bye
    }

    /// Whether this node and it hear each other without others' help, as far as is known. Connections have no help, so to
    /// one that is not reached so none can be opened from here.
    pub(crate) fn is_reachable(&self) -> bool {
        self.detours < DETOURS
    }

    pub(crate) fn reads_checksums(&self) -> bool {
        self.versions[1] >= 5
    }

    pub(crate) fn alive(&self, name: &NodeName) -> Alive {
        Alive {
            incarnation: self.incarnation,
            node: name.to_string(),
            address: self.address,
            meta: self.meta.clone(),
            versions: Some(self.versions),
        }
    }
}

/// A member as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberView {
    /// Its name.
    pub name: NodeName,
    /// Where it is.
    pub address: SocketAddr,
    /// What this node believes of it.
    pub state: NodeState,
    /// Since when.
    pub since: Moment,
}
