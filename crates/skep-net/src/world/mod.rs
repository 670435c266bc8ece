//! The desired state of a host's network, and the pure operations on it.
//!
//! Nothing here names a socket, file, clock or random source: ids and times are
//! arguments, what the host looks like is in [`Facts`]. An operation either changes
//! the world and says what came out, or leaves it as it was and says why.

mod bridges;
mod endpoints;
mod names;
mod networks;
mod overlays;
mod routes;
mod services;
#[cfg(test)]
pub mod tests;

pub use bridges::Claim;
pub use names::{NameIndex, NetworkNames};
pub use services::{MeshPort, Service, Services};

use crate::cidr::{Cidr, Mac};
use crate::config::AddressPool;
use crate::ids::{EndpointId, NetworkId, SandboxId};
use crate::model::{
    Cluster, EndpointRecord, Network, OverlayNetwork, PeerRecord, PortBinding, SandboxSpec,
    ServiceAttachment,
};
use serde::{Deserialize, Serialize};
use skep_types::HostRoute;
use skep_types::Protocol;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Name of the local network that gives tasks their way out.
pub const GATEWAY_NETWORK: &str = "docker_gwbridge";
/// Key of the routing mesh's namespace in inspections.
pub const INGRESS_SANDBOX: &str = "ingress-sbox";

/// What was configured or found on the host. Not part of the stored state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// MTU of local networks, bytes.
    pub mtu: u16,
    /// MTU of the interface with the data path address, bytes.
    pub underlay_mtu: u16,
    /// Pools for local subnets.
    pub pools: Vec<AddressPool>,
    /// The host's routes that are not our own.
    pub host_routes: Vec<HostRoute>,
    /// Where ports are published when nothing is said.
    pub default_binding: Ipv4Addr,
    /// Ports of the routing mesh that something else on this host holds.
    pub blocked_ports: BTreeSet<(Protocol, u16)>,
    /// Whether rules can ask for the socket that takes a packet.
    pub socket_match: bool,
    /// Names of bridges that somebody else has or will take.
    pub claims: BTreeMap<String, Claim>,
    /// Comment of our table in the host's namespace: whose it is.
    pub owner: String,
}

/// Desired state.
#[derive(Debug, Clone)]
pub struct World {
    /// The host.
    pub facts: Facts,
    /// Local networks.
    pub networks: BTreeMap<NetworkId, Network>,
    /// What runs.
    pub running: Running,
}

/// The part of the world that a reboot forgets.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Running {
    /// Sandboxes. One that did not change stays the same allocation, by which what was worked out of it is found
    /// again. On disk each has a file of its own.
    #[serde(default)]
    pub sandboxes: BTreeMap<SandboxId, Arc<Sandbox>>,
    /// The swarm, if this host is in one.
    pub cluster: Option<Cluster>,
    /// Its networks.
    pub overlays: BTreeMap<NetworkId, OverlayNetwork>,
    /// Endpoint of this node's load balancer on each overlay.
    pub balancers: BTreeMap<NetworkId, EndpointId>,
    /// The routing mesh's endpoint on `docker_gwbridge`.
    pub mesh_gateway: Option<EndpointId>,
    /// What other nodes said.
    #[serde(with = "pairs")]
    pub remote_endpoints: BTreeMap<(NetworkId, EndpointId), EndpointRecord>,
    /// What other nodes said.
    #[serde(with = "pairs")]
    pub remote_peers: BTreeMap<(NetworkId, EndpointId), PeerRecord>,
    /// Peers whose node does not answer, and whether each is a container's (not a load balancer's).
    #[serde(default, with = "pairs")]
    pub silent: BTreeMap<(NetworkId, EndpointId), bool>,
    /// What such nodes said of services a moment ago: see [`World::last_resorts`].
    #[serde(skip)]
    pub last_heard: BTreeMap<(NetworkId, EndpointId), EndpointRecord>,
}

impl Running {
    /// All but the sandboxes.
    pub fn beside_sandboxes(&self) -> Self {
        Self { sandboxes: BTreeMap::new(), ..self.clone() }
    }

    /// Whether all but the sandboxes is the same.
    pub fn is_same_beside_sandboxes(&self, other: &Self) -> bool {
        let Self {
            sandboxes: _,
            cluster,
            overlays,
            balancers,
            mesh_gateway,
            remote_endpoints,
            remote_peers,
            silent,
            last_heard,
        } = self;
        *cluster == other.cluster
            && *overlays == other.overlays
            && *balancers == other.balancers
            && *mesh_gateway == other.mesh_gateway
            && *remote_endpoints == other.remote_endpoints
            && *remote_peers == other.remote_peers
            && *silent == other.silent
            && *last_heard == other.last_heard
    }
}

/// Where a sandbox stands between its first and last packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum Rotation {
    /// Not announced.
    #[default]
    Out,
    /// Names, virtual addresses and mesh lead to it.
    In,
    /// Open connections go on, nothing new.
    Leaving,
}

/// A sandbox with its endpoints.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sandbox {
    /// As asked for.
    pub spec: SandboxSpec,
    /// In the order of their interfaces.
    pub endpoints: Vec<Endpoint>,
    /// Published ports as bound.
    pub ports: Vec<PortBinding>,
    /// Ports of the resolver's sockets on 127.0.0.11, (UDP, TCP).
    pub dns_ports: Option<(u16, u16)>,
    /// Rotation of its services.
    pub rotation: Rotation,
    /// `resolv.conf` as last written, to tell whether somebody edited it since.
    #[serde(default)]
    pub resolv_conf: String,
}

/// One attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Identity.
    pub id: EndpointId,
    /// The network.
    pub network: NetworkId,
    /// Interface in the sandbox.
    pub interface: String,
    /// Address with the subnet's prefix length.
    pub address: Cidr,
    /// Ethernet address.
    pub mac: Mac,
    /// Names asked for.
    pub aliases: Vec<String>,
    /// Priority for the default route.
    pub gateway_priority: i32,
    /// The service's part.
    pub service: Option<ServiceAttachment>,
    /// Made by us on `docker_gwbridge` for a sandbox with overlays; not shown.
    pub hidden: bool,
}

impl Endpoint {
    /// Name of the bridge port at the other end of the cable, 11 characters.
    pub fn port_name(&self) -> String {
        port_name(&self.id)
    }
}

/// `veth` and 7 characters of the endpoint's id.
pub fn port_name(id: &EndpointId) -> String {
    format!("veth{}", id.short(7))
}

impl World {
    /// An empty world on a host.
    pub fn new(facts: Facts) -> Self {
        Self { facts, networks: BTreeMap::new(), running: Running::default() }
    }

    /// The sandbox.
    pub fn sandbox(&self, id: &SandboxId) -> Option<&Arc<Sandbox>> {
        self.running.sandboxes.get(id)
    }

    /// The sandbox, to change it. Who holds it keeps it as it was.
    pub fn sandbox_mut(&mut self, id: &SandboxId) -> Option<&mut Sandbox> {
        self.running.sandboxes.get_mut(id).map(Arc::make_mut)
    }

    /// Every endpoint with its sandbox.
    pub fn endpoints(&self) -> impl Iterator<Item = (&Sandbox, &Endpoint)> {
        self.running.sandboxes.values().flat_map(|s| s.endpoints.iter().map(move |e| (&**s, e)))
    }

    /// Endpoints on one network.
    pub fn endpoints_on<'a>(
        &'a self,
        network: &'a NetworkId,
    ) -> impl Iterator<Item = (&'a Sandbox, &'a Endpoint)> {
        self.endpoints().filter(move |(_, e)| &e.network == network)
    }

    /// The network that gives tasks their way out, once it was made.
    pub fn gateway_network(&self) -> Option<&Network> {
        self.networks.values().find(|n| n.name == GATEWAY_NETWORK)
    }

    /// The swarm's ingress network.
    pub fn ingress(&self) -> Option<&OverlayNetwork> {
        self.running.overlays.values().find(|n| n.ingress)
    }

    /// The routing mesh's address on `docker_gwbridge`: the first one after the gateway's.
    pub fn mesh_address(&self) -> Option<Cidr> {
        let subnet = self.gateway_network()?.subnets.first()?;
        let first = Ipv4Addr::from(subnet.subnet.first().checked_add(1)?);
        let address = if subnet.gateway == Some(first) {
            Ipv4Addr::from(u32::from(first).checked_add(1)?)
        } else {
            first
        };
        Some(subnet.subnet.with_addr(address))
    }

    /// Whether an overlay must exist in the kernel.
    pub fn overlay_in_use(&self, network: &OverlayNetwork) -> bool {
        self.running.cluster.is_some()
            && (network.ingress || self.endpoints_on(&network.id).next().is_some())
    }
}

impl Sandbox {
    /// The endpoint that gives the default route, and its gateway.
    ///
    /// The hidden one wins over other bridges only by default: a user's bridge
    /// network with a way out has the same say, by priority and then by name.
    pub fn gateway<'a>(&'a self, world: &'a World) -> Option<(&'a Endpoint, Ipv4Addr)> {
        self.endpoints
            .iter()
            .filter_map(|e| {
                let network = world.networks.get(&e.network)?;
                if network.internal {
                    return None;
                }
                let subnet =
                    network.subnets.iter().find(|s| s.subnet.contains(e.address.addr()))?;
                Some((e, network, subnet.gateway?))
            })
            .min_by(|(a, an, _), (b, bn, _)| {
                (b.gateway_priority, a.hidden, &an.name).cmp(&(
                    a.gateway_priority,
                    b.hidden,
                    &bn.name,
                ))
            })
            .map(|(e, _, gateway)| (e, gateway))
    }

    /// Whether names are resolved at 127.0.0.11: as soon as one network is not the
    /// default bridge.
    pub fn wants_dns(&self, world: &World) -> bool {
        self.endpoints.iter().any(|e| {
            !e.hidden
                && match world.networks.get(&e.network) {
                    Some(network) => !network.is_default_bridge(),
                    None => true,
                }
        })
    }

    /// Names on a network: container name, then aliases, short id and host name.
    pub fn names(&self, endpoint: &Endpoint) -> Vec<String> {
        let short = self.spec.container_id.get(..12).unwrap_or(&self.spec.container_id);
        let mut names = Vec::new();
        let all = std::iter::once(self.spec.container_name.as_str())
            .chain(endpoint.aliases.iter().map(String::as_str))
            .chain([short, self.spec.hostname.as_str()]);
        for name in all {
            if !name.is_empty() && !names.iter().any(|n| n == name) {
                names.push(name.to_owned());
            }
        }
        names
    }
}

/// Maps with tuple keys as lists of pairs, because JSON's keys are text.
mod pairs {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::collections::BTreeMap;

    pub fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}
