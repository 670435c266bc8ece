//! Gossip: what this host tells the others of its endpoints, and hears of theirs.
//!
//! `runner` has the machine's sockets and clock, `tables` reads and writes entries, `said` knows which were
//! told, `applied` says who has done what, `turns` what changes of the keys mean. The handle's own half of the conversation is `net::talk`.

pub mod applied;
pub mod metrics;
pub mod runner;
pub mod said;
pub mod tables;
pub mod turns;

pub use applied::Others;
pub use runner::PORT;

use crate::error::{NetError, Result};
use runner::Identity;
use skep_gossip::{Keyring, NodeName};
use std::net::{IpAddr, SocketAddr};

/// A key of the swarm's gossip.
#[derive(Clone, PartialEq, Eq)]
pub struct GossipKey {
    /// 16 bytes.
    pub bytes: Vec<u8>,
    /// Its age among the others: the second-oldest seals, every one opens.
    pub lamport_time: u64,
}

/// Where and with what a node takes part.
#[derive(Clone, PartialEq, Eq)]
pub struct GossipSettings {
    /// Gossip name of this life of the daemon, 12 hex.
    pub node_name: String,
    /// Where to listen.
    pub listen: IpAddr,
    /// The address others are told.
    pub advertise: IpAddr,
    /// The swarm's keys, in any order; at least one.
    pub keys: Vec<GossipKey>,
    /// Addresses of the swarm's managers.
    pub peers: Vec<IpAddr>,
}

impl GossipSettings {
    /// A name for a life of the daemon.
    pub fn new_name() -> String {
        NodeName::from_random(rand::random()).to_string()
    }

    pub(crate) fn keyring(&self) -> Result<Keyring> {
        let mut keys = self.keys.clone();
        keys.sort_unstable_by_key(|key| key.lamport_time);
        let primary = usize::from(keys.len() > 1);
        let keys: Vec<Vec<u8>> = keys.into_iter().map(|key| key.bytes).collect();
        Keyring::new(&keys, primary).map_err(NetError::GossipKeys)
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity {
            name: NodeName::from(self.node_name.as_str()),
            listen: self.listen,
            advertise: self.advertise,
        }
    }

    pub(crate) fn bootstrap(&self) -> Vec<SocketAddr> {
        self.peers.iter().map(|ip| SocketAddr::new(*ip, PORT)).collect()
    }
}
