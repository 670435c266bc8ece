//! Gives out subnets, VXLAN ids, virtual and plain addresses, and published ports.
//!
//! What is in use is read from the store's index, where an address is held by the object that carries
//! it and free when that object is gone or, for a task, has ended. So nothing is ever released by
//! hand and nothing can leak. The only memory is where the last search ended: searches go on from
//! there (next fit), so that an address just freed is the last one to be given again and stale caches
//! elsewhere do not meet a new owner.

mod addresses;
mod networks;
mod nodes;
mod ports;
mod room;
mod services;
mod tasks;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use skep_types::{HostRoute, NetworkId, NodeId, Protocol, ServiceId};
use thiserror::Error;

pub(crate) use addresses::no_address;
pub(crate) use networks::needs_allocation;
pub(crate) use room::Room;

use crate::Draft;

/// Why something cannot be given out. The text appears in the status of the tasks that wait for it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum AllocError {
    #[error("network {0} not found")]
    NetworkMissing(String),
    #[error(
        "could not find an available, non-overlapping IPv4 address pool among the defaults to assign \
         to the network {0}"
    )]
    NoSubnet(String),
    #[error("network {0}: subnet {1} overlaps with another network")]
    SubnetInUse(String, String),
    #[error("network {0} has no free VXLAN id")]
    NoVni(String),
    #[error("network {0} has no usable subnet")]
    NetworkNotAllocated(String),
    #[error(
        "no available IPv4 addresses on this network's address pools: {network} ({id}): {subnets} has \
         {size}, shared by tasks, services' virtual addresses and a load balancer on every node that \
         has a task; scale down what is on the network, or use one with a larger subnet"
    )]
    NoAddress { network: String, id: NetworkId, subnets: String, size: u64 },
    #[error("requested address {0} is not available on network {1}")]
    AddressUnavailable(String, String),
    #[error("port '{0}' is already in use by service '{1}'")]
    PortInUse(u32, String),
    #[error("no free {0} port between 30000 and 32767")]
    NoPort(Protocol),
    #[error("the swarm has no ingress network")]
    NoIngress,
    #[error("service endpoint is not allocated")]
    EndpointPending,
}

/// What becomes of a load balancer's address on a network that the node has no task on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spare {
    Keep,
    Free,
}

/// Where searches go on. A new leader begins behind the highest of what is in use.
#[derive(Debug, Default)]
pub(crate) struct Allocator {
    last_address: BTreeMap<(NetworkId, usize), Ipv4Addr>,
    last_subnet: Option<u64>,
    last_vni: Option<u32>,
    last_port: BTreeMap<Protocol, u32>,
    /// Services and nodes to try again in every step, for want of something.
    blocked_services: BTreeSet<ServiceId>,
    blocked_nodes: BTreeSet<NodeId>,
    /// Networks without a free address, within one step.
    exhausted: BTreeSet<NetworkId>,
}

impl Allocator {
    /// Allocates networks, then what `nodes` lack, then the endpoints of `services` and of those that
    /// waited. Nodes come before whatever else wants a free address, because all of it needs theirs.
    pub fn networks_and_services(
        &mut self,
        draft: &mut Draft,
        nodes: &BTreeSet<NodeId>,
        services: &BTreeSet<ServiceId>,
        routes: &[HostRoute],
    ) {
        self.exhausted.clear();
        self.allocate_networks(draft, routes);
        self.nodes(draft, nodes, Spare::Keep);
        let retry = std::mem::take(&mut self.blocked_services);
        for id in services.union(&retry) {
            if let Err(error) = self.allocate_endpoint(draft, id) {
                tracing::debug!(service.id = %id, %error, "service endpoint waits");
                self.blocked_services.insert(id.clone());
            }
        }
    }

    /// Gives `nodes` and those that waited the load balancers' addresses they lack, and takes away the
    /// others if `spare`.
    pub fn nodes(&mut self, draft: &mut Draft, nodes: &BTreeSet<NodeId>, spare: Spare) {
        let retry = std::mem::take(&mut self.blocked_nodes);
        for id in nodes.union(&retry) {
            if let Err(error) = self.allocate_attachments(draft, id, spare) {
                if !retry.contains(id) {
                    tracing::warn!(node.id = %id, %error, "a node's load balancer waits for its address");
                }
                self.blocked_nodes.insert(id.clone());
            }
        }
    }
}
