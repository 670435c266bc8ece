use std::net::IpAddr;

use async_trait::async_trait;
use skep_types::{ClusterId, NodeId};

/// This host's place in a swarm, as its network needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    pub cluster_id: ClusterId,
    pub node_id: NodeId,
    /// Where the remote API and gossip listen.
    pub listen_ip: IpAddr,
    /// What the other nodes know this one by.
    pub advertise_ip: IpAddr,
    /// Where VXLAN packets come to.
    pub data_path_ip: IpAddr,
}

/// Any cause.
pub type HostError = Box<dyn std::error::Error + Send + Sync>;

/// What becoming and ceasing to be a member means to the rest of this host.
///
/// An implementer must uphold: both may be called again with nothing changed, after a failure or a
/// restart, and then finish or find done what an earlier call began.
#[async_trait]
pub trait Host: Send + Sync + 'static {
    /// This host is a member: called before its agent starts, also at each start of the daemon.
    async fn joined(&self, membership: &Membership) -> Result<(), HostError>;

    /// This host is no member any more: every task's container, network and file goes. The agent has
    /// stopped before. Also called for a membership that was never completed.
    async fn left(&self) -> Result<(), HostError>;
}
