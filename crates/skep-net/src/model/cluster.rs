//! The swarm as seen by one node's network.

use crate::cidr::Cidr;
use crate::ids::NetworkId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// This node's place in the swarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Gossip name of this node, 12 hex; shown among a network's peers.
    pub node_name: String,
    /// Address that the other nodes send VXLAN packets to: the data path address
    /// if one was set, else the advertised one.
    pub data_path_addr: IpAddr,
    /// UDP port of VXLAN, 4789 unless `--data-path-port` says otherwise.
    pub vxlan_port: u16,
}

/// A subnet of an overlay with its VXLAN id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlaySubnet {
    /// The subnet, host bits clear.
    pub subnet: Cidr,
    /// The bridge's address in it, the same on every node.
    pub gateway: Ipv4Addr,
    /// VXLAN id, 24 bits.
    pub vni: u32,
}

/// An overlay network as a manager describes it to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayNetwork {
    /// Identity, 25 characters of base 36.
    pub id: NetworkId,
    /// Name.
    pub name: String,
    /// When it was made, nanoseconds since 1970-01-01 UTC.
    pub created_unix_nanos: i64,
    /// Subnets, at least one.
    pub subnets: Vec<OverlaySubnet>,
    /// No way out: tasks get no endpoint on `docker_gwbridge` for its sake.
    pub internal: bool,
    /// Whether plain containers may join.
    pub attachable: bool,
    /// Whether this is the routing mesh's network.
    pub ingress: bool,
    /// This node's load-balancer address there, from `Node.attachments`. Without
    /// it the network carries task traffic but has no load-balancer namespace yet.
    pub lb_address: Option<Ipv4Addr>,
    /// Driver options as shown; `com.docker.network.driver.mtu` is honoured.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}
