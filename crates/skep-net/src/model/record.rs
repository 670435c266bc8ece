//! Records about endpoints that nodes of a swarm tell each other (wire-compatible
//! in content with Docker's gossip tables; the encoding is the gossip's business).

use crate::cidr::{Cidr, Mac};
use crate::ids::{EndpointId, NetworkId};
use serde::{Deserialize, Serialize};
use skep_types::Protocol;
use std::net::{IpAddr, Ipv4Addr};

/// A port of the routing mesh.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublishedPort {
    /// Free text, may be empty.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Port in the container.
    pub target: u16,
    /// Port on every node.
    pub published: u16,
}

/// Who answers for which names and which service; key is (network, endpoint).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRecord {
    /// Container name.
    pub name: String,
    /// Service name, empty for a standalone container.
    pub service_name: String,
    /// Service id, empty for a standalone container.
    pub service_id: String,
    /// Virtual address of the service, `None` for DNS round robin.
    pub vip: Option<Ipv4Addr>,
    /// The endpoint's address.
    pub endpoint_ip: Ipv4Addr,
    /// Ports of the routing mesh; only on the ingress network.
    pub ingress_ports: Vec<PublishedPort>,
    /// Further names of the service on this network.
    pub aliases: Vec<String>,
    /// Further names of the task: short container id, host name.
    pub task_aliases: Vec<String>,
    /// Leaving rotation: keeps its connections, gets no new ones.
    pub disabled: bool,
}

/// Behind which node an address is; key is (network, endpoint).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRecord {
    /// The endpoint's address with its prefix length.
    pub endpoint_ip: Cidr,
    /// Its Ethernet address.
    pub endpoint_mac: Mac,
    /// The node's data path address.
    pub tunnel_endpoint_ip: IpAddr,
}

/// A change that other nodes told us; `None` deletes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteChange {
    /// An endpoint record.
    Endpoint(NetworkId, EndpointId, Option<EndpointRecord>),
    /// A peer record.
    Peer(NetworkId, EndpointId, Option<PeerRecord>),
    /// The node that said so does not answer: nothing new may lead to the endpoint, but the way there stays
    /// for what is still running on that node.
    Silent(NetworkId, EndpointId),
    /// Everything learnt about a network is to be forgotten.
    ForgetNetwork(NetworkId),
}

impl RemoteChange {
    /// The network that it is about.
    pub fn network(&self) -> &NetworkId {
        match self {
            Self::Endpoint(network, ..)
            | Self::Peer(network, ..)
            | Self::Silent(network, _)
            | Self::ForgetNetwork(network) => network,
        }
    }
}

/// What this node has to tell the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalRecords {
    /// Endpoint records of enabled (or leaving) endpoints.
    pub endpoints: Vec<(NetworkId, EndpointId, EndpointRecord)>,
    /// Peer records of every local endpoint and load balancer on an overlay.
    pub peers: Vec<(NetworkId, EndpointId, PeerRecord)>,
}
