//! Endpoints: a sandbox's attachment to a network.

use crate::cidr::Mac;
use crate::ids::{EndpointId, NetworkId, ServiceId};
use crate::model::PublishedPort;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// What an endpoint is to be.
#[derive(Debug, Clone, Default)]
pub struct EndpointSpec {
    /// Network by id, name or unambiguous id prefix.
    pub network: String,
    /// 64 hex; made up when `None`.
    pub id: Option<EndpointId>,
    /// Address; the next free one of a local network when `None`. Required on an
    /// overlay, where the swarm's managers hand out addresses.
    pub ipv4: Option<Ipv4Addr>,
    /// Ethernet address; made from the IPv4 address when `None`.
    pub mac: Option<Mac>,
    /// Further names on this network. Container name, short id and host name are
    /// always there.
    pub aliases: Vec<String>,
    /// Among several endpoints that could give the default route, the highest
    /// wins; equal ones go by network name.
    pub gateway_priority: i32,
    /// The service that a task belongs to.
    pub service: Option<ServiceAttachment>,
}

/// A task's part in a service on one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceAttachment {
    /// Service id.
    pub id: ServiceId,
    /// Service name.
    pub name: String,
    /// Virtual address on this network; `None` for DNS round robin.
    pub vip: Option<Ipv4Addr>,
    /// Names of the service, beside its own, on this network.
    pub aliases: Vec<String>,
    /// Ports published in the routing mesh; only on the ingress network.
    pub ingress_ports: Vec<PublishedPort>,
}

/// An endpoint as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointInfo {
    /// Identity.
    pub id: EndpointId,
    /// The network.
    pub network_id: NetworkId,
    /// Its name.
    pub network_name: String,
    /// Address.
    pub ipv4: Ipv4Addr,
    /// Prefix length of the subnet.
    pub prefix: u8,
    /// Ethernet address.
    pub mac: Mac,
    /// The network's gateway, `None` where there is no way out through it.
    pub gateway: Option<Ipv4Addr>,
    /// Interface in the sandbox, `eth0` and so on; empty on the host network.
    pub interface: String,
    /// All names on this network: container name, aliases, short id, host name.
    pub dns_names: Vec<String>,
    /// The aliases that were asked for.
    pub aliases: Vec<String>,
}
