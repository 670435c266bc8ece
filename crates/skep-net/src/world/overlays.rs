//! The swarm's side: membership, networks, what other nodes say, rotation.

use super::{Rotation, Running, Sandbox, World};
use crate::cidr::{Cidr, Mac};
use crate::error::{NetError, Result};
use crate::ids::{EndpointId, NetworkId, SandboxId};
use crate::model::{
    Cluster, EndpointRecord, LocalRecords, OverlayNetwork, PeerRecord, RemoteChange,
};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

impl World {
    /// Joins or leaves a swarm.
    pub fn set_cluster(
        &mut self,
        cluster: Option<Cluster>,
        now_unix_nanos: i64,
        new_id: &mut dyn FnMut() -> String,
    ) -> Result<()> {
        let Some(cluster) = cluster else {
            let held =
                self.endpoints().find(|(_, e)| self.running.overlays.contains_key(&e.network));
            if let Some((sandbox, _)) = held {
                return Err(NetError::NetworkInUse {
                    name: "of the swarm".to_owned(),
                    holders: format!("name:{:?}", sandbox.spec.container_name),
                });
            }
            self.running.cluster = None;
            self.running.overlays.clear();
            self.running.balancers.clear();
            self.running.mesh_gateway = None;
            self.running.remote_endpoints.clear();
            self.running.remote_peers.clear();
            self.running.silent.clear();
            self.running.last_heard.clear();
            return Ok(());
        };
        self.ensure_gateway_network(NetworkId::new(new_id()), now_unix_nanos)?;
        if self.running.mesh_gateway.is_none() {
            self.running.mesh_gateway = Some(EndpointId::new(new_id()));
        }
        self.running.cluster = Some(cluster);
        Ok(())
    }

    /// Adds or updates an overlay.
    pub fn put_overlay(
        &mut self,
        network: OverlayNetwork,
        new_id: &mut dyn FnMut() -> String,
    ) -> Result<()> {
        let refuse = |why| NetError::Overlay { network: network.name.clone(), why };
        if network.subnets.is_empty() {
            return Err(refuse("it has no subnet"));
        }
        if network.subnets.iter().any(|s| s.vni == 0 || s.vni > 0x00ff_ffff) {
            return Err(refuse("a VXLAN id is not of 24 bits"));
        }
        if let Some(address) = network.lb_address
            && !network.subnets.iter().any(|s| s.subnet.contains(address))
        {
            return Err(refuse("the load balancer's address is in none of its subnets"));
        }
        let clash = self.running.overlays.values().find(|other| {
            other.id != network.id
                && (other.id.short(9) == network.id.short(9)
                    || other.subnets.iter().any(|a| network.subnets.iter().any(|b| a.vni == b.vni)))
        });
        if clash.is_some() {
            return Err(refuse("another overlay has the same VXLAN id"));
        }
        if network.ingress && self.ingress().is_some_and(|other| other.id != network.id) {
            return Err(refuse("there is an ingress network already"));
        }
        self.running
            .balancers
            .entry(network.id.clone())
            .or_insert_with(|| EndpointId::new(new_id()));
        self.running.overlays.insert(network.id.clone(), network);
        Ok(())
    }

    /// Forgets an overlay. Whether there was one.
    pub fn remove_overlay(&mut self, id: &NetworkId) -> Result<bool> {
        if let Some(network) = self.running.overlays.get(id) {
            let holders: Vec<String> = self
                .endpoints_on(id)
                .map(|(s, e)| format!("name:{:?} id:{:?}", s.spec.container_name, e.id.short(12)))
                .collect();
            if !holders.is_empty() {
                return Err(NetError::NetworkInUse {
                    name: network.name.clone(),
                    holders: holders.join(", "),
                });
            }
        }
        self.running.balancers.remove(id);
        self.running.remote_endpoints.retain(|(n, _), _| n != id);
        self.running.remote_peers.retain(|(n, _), _| n != id);
        self.running.silent.retain(|(n, _), _| n != id);
        self.running.last_heard.retain(|(n, _), _| n != id);
        Ok(self.running.overlays.remove(id).is_some())
    }

    /// Moves a sandbox in or out of rotation. A sandbox that never was in stays out.
    pub fn set_rotation(&mut self, id: &SandboxId, into: bool) -> Result<()> {
        let sandbox =
            self.sandbox_mut(id).ok_or_else(|| NetError::SandboxNotFound(id.to_string()))?;
        sandbox.rotation = match (into, sandbox.rotation) {
            (true, _) => Rotation::In,
            (false, Rotation::Out) => Rotation::Out,
            (false, _) => Rotation::Leaving,
        };
        Ok(())
    }

    /// Takes over what other nodes said.
    pub fn apply_remote(&mut self, changes: Vec<RemoteChange>) {
        for change in changes {
            let Running { last_heard, .. } = &mut self.running;
            match &change {
                RemoteChange::Endpoint(network, endpoint, _)
                | RemoteChange::Peer(network, endpoint, _) => {
                    last_heard.remove(&(network.clone(), endpoint.clone()));
                }
                RemoteChange::ForgetNetwork(network) => last_heard.retain(|(n, _), _| n != network),
                RemoteChange::Silent(..) => {}
            }
            match change {
                // An empty name is how a broken record looks; Docker ignores it too.
                RemoteChange::Endpoint(network, endpoint, Some(record)) => {
                    if !record.name.is_empty() {
                        self.running.silent.remove(&(network.clone(), endpoint.clone()));
                        self.running.remote_endpoints.insert((network, endpoint), record);
                    }
                }
                RemoteChange::Endpoint(network, endpoint, None) => {
                    self.running.remote_endpoints.remove(&(network, endpoint));
                }
                RemoteChange::Peer(network, endpoint, Some(record)) => {
                    self.running.silent.remove(&(network.clone(), endpoint.clone()));
                    self.replace_silent(&network, record.endpoint_ip.addr());
                    self.running.remote_peers.insert((network, endpoint), record);
                }
                RemoteChange::Peer(network, endpoint, None) => {
                    let key = (network, endpoint);
                    self.running.remote_peers.remove(&key);
                    self.running.silent.remove(&key);
                }
                RemoteChange::Silent(network, endpoint) => {
                    let key = (network, endpoint);
                    let record = self.running.remote_endpoints.remove(&key);
                    if self.running.remote_peers.contains_key(&key) {
                        let container = self.running.silent.entry(key.clone()).or_default();
                        *container |= record.is_some();
                        self.running.last_heard.extend(record.map(|record| (key, record)));
                    }
                }
                RemoteChange::ForgetNetwork(network) => {
                    self.running.remote_endpoints.retain(|(n, _), _| n != &network);
                    self.running.remote_peers.retain(|(n, _), _| n != &network);
                    self.running.silent.retain(|(n, _), _| n != &network);
                }
            }
        }
    }

    /// Forgets the way to a silent peer whose address somebody else has now.
    fn replace_silent(&mut self, network: &NetworkId, address: Ipv4Addr) {
        let Running { silent, remote_peers, last_heard, .. } = &mut self.running;
        silent.retain(|key, _| {
            let replaced = key.0 == *network
                && remote_peers.get(key).is_some_and(|peer| peer.endpoint_ip.addr() == address);
            if replaced {
                remote_peers.remove(key);
                last_heard.remove(key);
            }
            !replaced
        });
    }

    /// Records of this host's endpoints and load balancers on overlays.
    pub fn local_records(&self) -> LocalRecords {
        let mut records = LocalRecords::default();
        let Some(cluster) = &self.running.cluster else { return records };
        let overlays: BTreeSet<NetworkId> = self.running.overlays.keys().cloned().collect();
        let sandboxes = self.running.sandboxes.values();
        let all = sandboxes.map(|sandbox| sandbox.records(cluster.data_path_addr, &overlays));
        for part in all.chain([self.balancer_records()]) {
            records.endpoints.extend(part.endpoints);
            records.peers.extend(part.peers);
        }
        records
    }

    /// Records of this host's load balancers on overlays.
    pub fn balancer_records(&self) -> LocalRecords {
        let mut records = LocalRecords::default();
        let Some(cluster) = &self.running.cluster else { return records };
        for network in self.running.overlays.values().filter(|n| self.overlay_in_use(n)) {
            let (Some(address), Some(endpoint)) =
                (network.lb_cidr(), self.running.balancers.get(&network.id))
            else {
                continue;
            };
            let record = PeerRecord {
                endpoint_ip: address,
                endpoint_mac: Mac::of(address.addr()),
                tunnel_endpoint_ip: cluster.data_path_addr,
            };
            records.peers.push((network.id.clone(), endpoint.clone(), record));
        }
        records
    }
}

impl Sandbox {
    /// Records of its endpoints on these overlays; `tunnel` is this host's address.
    pub fn records(&self, tunnel: IpAddr, overlays: &BTreeSet<NetworkId>) -> LocalRecords {
        let mut records = LocalRecords::default();
        for endpoint in self.endpoints.iter().filter(|e| overlays.contains(&e.network)) {
            let place = || (endpoint.network.clone(), endpoint.id.clone());
            let (network, id) = place();
            let peer = PeerRecord {
                endpoint_ip: endpoint.address,
                endpoint_mac: endpoint.mac,
                tunnel_endpoint_ip: tunnel,
            };
            records.peers.push((network, id, peer));
            if self.rotation == Rotation::Out {
                continue;
            }
            let service = endpoint.service.as_ref();
            let mut names = self.names(endpoint);
            let task_aliases = names.split_off(names.len().min(1));
            let (network, id) = place();
            let record = EndpointRecord {
                name: self.spec.container_name.clone(),
                service_name: service.map(|s| s.name.clone()).unwrap_or_default(),
                service_id: service.map(|s| s.id.to_string()).unwrap_or_default(),
                vip: service.and_then(|s| s.vip),
                endpoint_ip: endpoint.address.addr(),
                ingress_ports: service.map(|s| s.ingress_ports.clone()).unwrap_or_default(),
                aliases: service.map(|s| s.aliases.clone()).unwrap_or_default(),
                task_aliases,
                disabled: self.rotation == Rotation::Leaving,
            };
            records.endpoints.push((network, id, record));
        }
        records
    }
}

impl OverlayNetwork {
    /// This node's load-balancer address with its subnet's prefix length.
    pub fn lb_cidr(&self) -> Option<Cidr> {
        let address = self.lb_address?;
        let subnet = self.subnets.iter().find(|s| s.subnet.contains(address))?;
        Some(subnet.subnet.with_addr(address))
    }
}
