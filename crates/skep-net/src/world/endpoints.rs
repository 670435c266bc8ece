//! Sandboxes and their attachments.

use super::{Endpoint, GATEWAY_NETWORK, Rotation, Sandbox, World};
use crate::cidr::{Cidr, Mac};
use crate::error::{NetError, Result};
use crate::ids::{EndpointId, NetworkId, SandboxId};
use crate::model::{
    Driver, EndpointInfo, EndpointSpec, Network, SandboxMode, SandboxSpec, Scope, Subnet,
};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

impl World {
    /// Adds a sandbox without endpoints.
    pub fn create_sandbox(&mut self, spec: SandboxSpec) -> Result<()> {
        if self.running.sandboxes.contains_key(&spec.id) {
            return Err(NetError::SandboxExists(spec.id.to_string()));
        }
        if spec.id.as_str().len() < 12 || !spec.id.as_str().chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(NetError::Invalid {
                what: "sandbox id",
                value: spec.id.to_string(),
                why: "not hex",
            });
        }
        // Namespaces are pinned under the first 12 characters.
        if let Some(twin) =
            self.running.sandboxes.keys().find(|id| id.short(12) == spec.id.short(12))
        {
            return Err(NetError::SandboxExists(twin.to_string()));
        }
        let sandbox = Sandbox {
            spec,
            endpoints: Vec::new(),
            ports: Vec::new(),
            dns_ports: None,
            rotation: Rotation::Out,
            resolv_conf: String::new(),
        };
        self.running.sandboxes.insert(sandbox.spec.id.clone(), Arc::new(sandbox));
        Ok(())
    }

    /// Attaches a sandbox to networks, all or none. `new_id` gives 64 hex of chance.
    /// Returns the new endpoints' ids in the order asked for.
    pub fn connect(
        &mut self,
        id: &SandboxId,
        specs: Vec<EndpointSpec>,
        now_unix_nanos: i64,
        new_id: &mut dyn FnMut() -> String,
    ) -> Result<Vec<EndpointId>> {
        let sandbox = self.sandbox(id).ok_or_else(|| NetError::SandboxNotFound(id.to_string()))?;
        let before = Arc::clone(sandbox);
        let networks_before: BTreeSet<NetworkId> = self.networks.keys().cloned().collect();
        let mut made = Vec::new();
        for spec in specs {
            match self.connect_one(id, spec, new_id) {
                Ok(endpoint) => made.push(endpoint),
                Err(error) => {
                    self.running.sandboxes.insert(id.clone(), before);
                    return Err(error);
                }
            }
        }
        if let Err(error) = self.follow_overlays(id, now_unix_nanos, new_id) {
            self.running.sandboxes.insert(id.clone(), before);
            self.networks.retain(|id, _| networks_before.contains(id));
            return Err(error);
        }
        Ok(made)
    }

    fn connect_one(
        &mut self,
        id: &SandboxId,
        spec: EndpointSpec,
        new_id: &mut dyn FnMut() -> String,
    ) -> Result<EndpointId> {
        let network = self.find_network(&spec.network)?;
        let sandbox = self.sandbox(id).ok_or_else(|| NetError::SandboxNotFound(id.to_string()))?;
        if sandbox.spec.mode == SandboxMode::Host || network.driver == Driver::Host {
            return Err(NetError::SharedNamespace);
        }
        if network.driver == Driver::Null {
            return Err(NetError::Invalid {
                what: "network",
                value: network.name,
                why: "nothing can be attached to it",
            });
        }
        if sandbox.endpoints.iter().any(|e| e.network == network.id && !e.hidden) {
            return Err(NetError::EndpointExists {
                name: sandbox.spec.container_name.clone(),
                network: network.name,
            });
        }
        if network.scope == Scope::Swarm {
            if self.running.cluster.is_none() {
                return Err(NetError::Overlay {
                    network: network.name,
                    why: "this host is not in a swarm",
                });
            }
            if spec.service.is_none() && !network.attachable {
                return Err(NetError::NotAttachable(network.name));
            }
            if spec.ipv4.is_none() {
                return Err(NetError::Overlay {
                    network: network.name,
                    why: "no address was allocated by a manager",
                });
            }
        }
        if network.is_default_bridge() {
            if spec.ipv4.is_some() {
                return Err(NetError::StaticAddressUnsupported);
            }
            if !spec.aliases.is_empty() {
                return Err(NetError::AliasesUnsupported);
            }
        }
        let address = self.take_address(&network, spec.ipv4)?;
        let mac = spec.mac.unwrap_or_else(|| Mac::of(address.addr()));
        let endpoint = Endpoint {
            id: spec.id.unwrap_or_else(|| EndpointId::new(new_id())),
            network: network.id,
            interface: sandbox.next_interface(),
            address,
            mac,
            aliases: spec.aliases,
            gateway_priority: spec.gateway_priority,
            service: spec.service,
            hidden: false,
        };
        let made = endpoint.id.clone();
        if let Some(sandbox) = self.sandbox_mut(id) {
            sandbox.endpoints.push(endpoint);
        }
        Ok(made)
    }

    /// Gives a sandbox with a non-internal overlay its endpoint on
    /// `docker_gwbridge`, and takes it away from one without.
    fn follow_overlays(
        &mut self,
        id: &SandboxId,
        now_unix_nanos: i64,
        new_id: &mut dyn FnMut() -> String,
    ) -> Result<()> {
        let Some(sandbox) = self.sandbox(id) else { return Ok(()) };
        let wanted = sandbox
            .endpoints
            .iter()
            .any(|e| self.running.overlays.get(&e.network).is_some_and(|n| !n.internal));
        let there = sandbox.endpoints.iter().any(|e| e.hidden);
        if wanted && !there {
            self.ensure_gateway_network(NetworkId::new(new_id()), now_unix_nanos)?;
            let Some(network) = self.gateway_network().cloned() else {
                return Err(NetError::NetworkNotFound(GATEWAY_NETWORK.to_owned()));
            };
            let address = self.take_address(&network, None)?;
            let endpoint_id = EndpointId::new(new_id());
            if let Some(sandbox) = self.sandbox_mut(id) {
                let endpoint = Endpoint {
                    id: endpoint_id,
                    network: network.id,
                    interface: sandbox.next_interface(),
                    address,
                    mac: Mac::of(address.addr()),
                    aliases: Vec::new(),
                    gateway_priority: 0,
                    service: None,
                    hidden: true,
                };
                sandbox.endpoints.push(endpoint);
            }
        } else if !wanted
            && there
            && let Some(sandbox) = self.sandbox_mut(id)
        {
            sandbox.endpoints.retain(|e| !e.hidden);
        }
        Ok(())
    }

    /// Checks a wanted address, or picks the lowest free one.
    fn take_address(&self, network: &Network, wanted: Option<Ipv4Addr>) -> Result<Cidr> {
        let used = self.used_addresses(network);
        if let Some(address) = wanted {
            let Some(subnet) = network.subnets.iter().find(|s| s.subnet.contains(address)) else {
                return Err(NetError::AddressOutside { address, network: network.name.clone() });
            };
            let edge = u32::from(address) == subnet.subnet.first()
                || u32::from(address) == subnet.subnet.last();
            if edge || used.contains(&address) {
                return Err(NetError::AddressInUse { address, network: network.name.clone() });
            }
            return Ok(subnet.subnet.with_addr(address));
        }
        for subnet in &network.subnets {
            if let Some(address) = free_address(subnet, &used) {
                return Ok(subnet.subnet.with_addr(address));
            }
        }
        match network.subnets.first() {
            Some(subnet) => Err(NetError::AddressesExhausted {
                network: network.name.clone(),
                subnet: subnet.subnet,
            }),
            None => Err(NetError::Invalid {
                what: "network",
                value: network.name.clone(),
                why: "it has no subnet",
            }),
        }
    }

    /// Addresses on a network that nobody may get: gateway, kept-free ones,
    /// endpoints, load balancer, the mesh's place on the gateway network.
    fn used_addresses(&self, network: &Network) -> BTreeSet<Ipv4Addr> {
        let mut used: BTreeSet<Ipv4Addr> =
            self.endpoints_on(&network.id).map(|(_, e)| e.address.addr()).collect();
        for subnet in &network.subnets {
            used.extend(subnet.gateway);
            used.extend(subnet.auxiliary.values());
        }
        if network.name == GATEWAY_NETWORK {
            used.extend(self.mesh_address().map(|a| a.addr()));
        }
        if let Some(overlay) = self.running.overlays.get(&network.id) {
            used.extend(overlay.lb_address);
        }
        used
    }

    /// Detaches a sandbox from a network.
    pub fn disconnect(
        &mut self,
        id: &SandboxId,
        reference: &str,
        now_unix_nanos: i64,
        new_id: &mut dyn FnMut() -> String,
    ) -> Result<()> {
        let network = self.find_network(reference)?;
        let sandbox = self.sandbox(id).ok_or_else(|| NetError::SandboxNotFound(id.to_string()))?;
        let on = sandbox.endpoints.iter().filter(|e| e.network == network.id && !e.hidden);
        let gone: Vec<EndpointId> = on.map(|e| e.id.clone()).collect();
        if gone.is_empty() {
            return Err(NetError::NotConnected {
                container: sandbox.spec.container_name.clone(),
                network: network.name,
            });
        }
        self.take_endpoints(id, &gone, now_unix_nanos, new_id)
    }

    /// Takes endpoints of a sandbox away, and what it had for their sake.
    pub fn take_endpoints(
        &mut self,
        id: &SandboxId,
        gone: &[EndpointId],
        now_unix_nanos: i64,
        new_id: &mut dyn FnMut() -> String,
    ) -> Result<()> {
        let sandbox = self.sandbox_mut(id);
        let sandbox = sandbox.ok_or_else(|| NetError::SandboxNotFound(id.to_string()))?;
        sandbox.endpoints.retain(|e| !gone.contains(&e.id));
        self.follow_overlays(id, now_unix_nanos, new_id)
    }

    /// An endpoint as callers see it.
    pub fn endpoint_info(&self, sandbox: &Sandbox, endpoint: &Endpoint) -> EndpointInfo {
        let network = self
            .networks
            .get(&endpoint.network)
            .cloned()
            .or_else(|| self.running.overlays.get(&endpoint.network).map(|n| n.as_network()));
        let gateway = match &network {
            Some(network) if network.driver == Driver::Bridge && !network.internal => network
                .subnets
                .iter()
                .find(|s| s.subnet.contains(endpoint.address.addr()))
                .and_then(|s| s.gateway),
            _ => None,
        };
        let default_bridge = network.as_ref().is_some_and(Network::is_default_bridge);
        EndpointInfo {
            id: endpoint.id.clone(),
            network_id: endpoint.network.clone(),
            network_name: network.map(|n| n.name).unwrap_or_default(),
            ipv4: endpoint.address.addr(),
            prefix: endpoint.address.prefix(),
            mac: endpoint.mac,
            gateway,
            interface: endpoint.interface.clone(),
            dns_names: if default_bridge { Vec::new() } else { sandbox.names(endpoint) },
            aliases: endpoint.aliases.clone(),
        }
    }
}

impl Sandbox {
    /// The lowest `ethN` not in use.
    fn next_interface(&self) -> String {
        (0u32..)
            .map(|n| format!("eth{n}"))
            .find(|name| !self.endpoints.iter().any(|e| &e.interface == name))
            .unwrap_or_default()
    }
}

/// The lowest address of the subnet (or its range) that is neither used nor one of
/// the subnet's edges.
fn free_address(subnet: &Subnet, used: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    let range = subnet.ip_range.unwrap_or(subnet.subnet);
    let first = range.first().max(subnet.subnet.first().saturating_add(1));
    let last = range.last().min(subnet.subnet.last().saturating_sub(1));
    (first..=last).map(Ipv4Addr::from).find(|a| !used.contains(a))
}
