use skep_proto::v1;
use skep_types::{NodeId, SessionId};

use crate::raft::{Member, Raft};
use crate::store::StoreCell;

/// Weight that every manager is announced with.
const WEIGHT: i64 = 10;

/// Makes the messages of one session: what the agent should know of its node and of the swarm.
pub(crate) struct Describer {
    pub cell: StoreCell,
    pub raft: Raft,
    pub node: NodeId,
    pub session: SessionId,
}

impl Describer {
    /// The message as of now; `None` once the node was removed.
    pub fn message(&self) -> Option<v1::SessionMessage> {
        let store = self.cell.read();
        let node = store.node(&self.node)?;
        let cluster = store.cluster();
        Some(v1::SessionMessage {
            session_id: self.session.to_string(),
            node: Some(v1::Node::from(node.as_ref())),
            managers: self.managers(),
            network_bootstrap_keys: cluster.map_or_else(Vec::new, |cluster| {
                cluster.network_bootstrap_keys.iter().map(v1::EncryptionKey::from).collect()
            }),
            root_ca: cluster.map_or_else(Vec::new, |cluster| cluster.root_ca.ca_cert.0.clone()),
        })
    }

    fn managers(&self) -> Vec<v1::WeightedPeer> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let peer = |member: &Member| v1::WeightedPeer {
            peer: Some(v1::Peer { node_id: member.node_id.to_string(), addr: member.addr.clone() }),
            weight: WEIGHT,
        };
        metrics.membership_config.nodes().map(|(_, member)| peer(member)).collect()
    }
}
