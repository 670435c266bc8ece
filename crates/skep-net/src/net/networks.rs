//! Networks: make, find, look into, remove.

use super::{Net, new_network_id, now_unix_nanos, open_netlink};
use crate::cidr::{Cidr, Mac};
use crate::error::{NetError, Result};
use crate::host_routes;
use crate::model::{Network, NetworkContainer, NetworkCreate, NetworkInspect, NetworkPeer, Scope};
use crate::option_keys;
use crate::plan::NsName;
use crate::state::lock;
use crate::world::{GATEWAY_NETWORK, INGRESS_SANDBOX, World};
use skep_types::HostRoute;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::task::spawn_blocking;

impl Net {
    /// Makes a local network.
    pub async fn create_network(&self, request: NetworkCreate) -> Result<Network> {
        // Routes may have come since the last time, and a pool must not hide them.
        self.read_routes().await?;
        if let Some(name) = request.options.get(option_keys::BRIDGE_NAME) {
            self.check_bridge(name.clone()).await?;
        }
        let network = self.shared().change(|state| {
            state.world.create_network(new_network_id(), now_unix_nanos(), request)
        })?;
        if let Err(error) = self.converge_stored([NsName::Host]).await {
            self.shared()
                .change(|state| state.world.remove_network(network.id.as_str()).map(|_| ()))?;
            self.undo([NsName::Host]).await;
            return Err(error);
        }
        Ok(network)
    }

    /// Refuses an interface of this host that is not ours as a network's bridge.
    async fn check_bridge(&self, name: String) -> Result<()> {
        let shared = Arc::clone(&self.inner.shared);
        let found = spawn_blocking(move || {
            let claimed = shared.read(|world| world.facts.claims.contains_key(&name));
            // The bridges that are always there take another name.
            let somebodys =
                !claimed && host_routes::is_somebodys(&mut open_netlink(&shared.traffic)?, &name)?;
            Ok(somebodys.then_some(name))
        });
        match found.await.map_err(|_| NetError::Closed)?? {
            None => Ok(()),
            Some(value) => Err(NetError::Invalid {
                what: "bridge name",
                value,
                why: "this host has an interface of that name which no network of this daemon made: \
                      choose another name, or remove it first",
            }),
        }
    }

    /// Reads the host's routes, which are otherwise read at intervals and when one goes.
    pub async fn read_routes(&self) -> Result<()> {
        let shared = Arc::clone(&self.inner.shared);
        spawn_blocking(move || {
            let bridges = shared.read(World::bridge_names);
            let resolv_conf = &shared.config.resolv_conf;
            let routes =
                host_routes::of_host(&mut open_netlink(&shared.traffic)?, &bridges, resolv_conf)?;
            shared.lock().world.facts.host_routes = routes;
            Ok(())
        })
        .await
        .map_err(|_| NetError::Closed)?
    }

    /// What subnets of overlays must not collide with on this host, as last read: its routes, and
    /// `docker_gwbridge`.
    pub fn routes_beside_overlays(&self) -> Vec<HostRoute> {
        self.shared().read(World::routes_beside_overlays)
    }

    /// Refuses subnets of an overlay to be that collide with what is on this host now.
    pub async fn check_overlay(&self, subnets: &[Cidr]) -> Result<()> {
        self.read_routes().await?;
        self.shared().read(|world| subnets.iter().try_for_each(|s| world.check_overlay(s)))
    }

    /// All networks, local ones and the overlays known here, by name.
    pub fn networks(&self) -> Vec<Network> {
        self.shared().read(World::all_networks)
    }

    /// A network by id, name or unambiguous id prefix, in this order.
    pub fn network(&self, reference: &str) -> Result<Network> {
        self.shared().read(|world| world.find_network(reference))
    }

    /// A network with what is on it on this host.
    pub fn inspect(&self, reference: &str) -> Result<NetworkInspect> {
        let names = lock(&self.shared().nodes).clone();
        self.shared().read(|world| {
            let network = world.find_network(reference)?;
            let containers = containers(world, &network);
            let peers = peers(world, &names, &network);
            Ok(NetworkInspect { network, containers, peers })
        })
    }

    /// Removes a local network and returns what it was. On failure it is there as before.
    pub async fn remove_network(&self, reference: &str) -> Result<Network> {
        let network = self.shared().change(|state| state.world.remove_network(reference))?;
        self.removed([&network]).await?;
        Ok(network)
    }

    /// Removes the local networks, except the predefined ones and `docker_gwbridge`,
    /// that have no endpoint and that `wanted` picks.
    pub async fn prune_networks(
        &self,
        wanted: impl Fn(&Network) -> bool + Send,
    ) -> Result<Vec<Network>> {
        let removed = self.shared().change(|state| {
            let mut removed = Vec::new();
            for network in state.world.prunable().into_iter().filter(|n| wanted(n)) {
                removed.push(state.world.remove_network(network.id.as_str())?);
            }
            Ok(removed)
        })?;
        self.removed(&removed).await?;
        Ok(removed)
    }

    /// Carries out a removal, or takes it back.
    async fn removed(&self, networks: impl IntoIterator<Item = &Network> + Send) -> Result<()> {
        let networks: Vec<Network> = networks.into_iter().cloned().collect();
        let Err(error) = self.converge_stored([NsName::Host]).await else { return Ok(()) };
        self.shared().change(|state| {
            for network in networks {
                state.world.networks.entry(network.id.clone()).or_insert(network);
            }
            Ok(())
        })?;
        self.undo([NsName::Host]).await;
        Err(error)
    }

    /// Brings the kernel back after a change was undone. The first error is the one
    /// to report; what fails here stays on the loop's list and is logged there.
    pub(super) async fn undo(&self, names: impl IntoIterator<Item = NsName>) {
        if let Err(error) = self.converge(names).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "undoing a failed change");
        }
    }
}

fn containers(world: &World, network: &Network) -> BTreeMap<String, NetworkContainer> {
    let mut containers = BTreeMap::new();
    for (sandbox, endpoint) in world.endpoints_on(&network.id) {
        let name = if endpoint.hidden {
            format!("gateway_{}", sandbox.spec.id.short(12))
        } else {
            sandbox.spec.container_name.clone()
        };
        let entry = NetworkContainer {
            name,
            endpoint: endpoint.id.clone(),
            mac: endpoint.mac,
            ipv4: endpoint.address,
        };
        containers.insert(sandbox.spec.container_id.clone(), entry);
    }
    if let Some(overlay) =
        world.running.overlays.get(&network.id).filter(|n| world.overlay_in_use(n))
        && let (Some(ipv4), Some(endpoint)) =
            (overlay.lb_cidr(), world.running.balancers.get(&network.id))
    {
        let key = if overlay.ingress {
            INGRESS_SANDBOX.to_owned()
        } else {
            format!("lb-{}", overlay.name)
        };
        let name = format!("{}-endpoint", overlay.name);
        let entry =
            NetworkContainer { name, endpoint: endpoint.clone(), mac: Mac::of(ipv4.addr()), ipv4 };
        containers.insert(key, entry);
    }
    let mesh = world.ingress().and_then(|n| n.lb_address);
    if let (GATEWAY_NETWORK, Some(ipv4), Some(endpoint), Some(_)) =
        (network.name.as_str(), world.mesh_address(), world.running.mesh_gateway.clone(), mesh)
    {
        let name = format!("gateway_{INGRESS_SANDBOX}");
        let entry = NetworkContainer { name, endpoint, mac: Mac::of(ipv4.addr()), ipv4 };
        containers.insert(INGRESS_SANDBOX.to_owned(), entry);
    }
    containers
}

/// This node, and the nodes that records of the network come from.
fn peers(world: &World, names: &BTreeMap<IpAddr, String>, network: &Network) -> Vec<NetworkPeer> {
    let Some(cluster) = world.running.cluster.as_ref().filter(|_| network.scope == Scope::Swarm)
    else {
        return Vec::new();
    };
    let in_use = world.running.overlays.get(&network.id).is_some_and(|n| world.overlay_in_use(n));
    let mut peers = Vec::new();
    if in_use {
        peers.push(NetworkPeer { name: cluster.node_name.clone(), ip: cluster.data_path_addr });
    }
    let others: BTreeSet<IpAddr> = world
        .running
        .remote_peers
        .iter()
        .filter(|(key, peer)| {
            key.0 == network.id
                && peer.tunnel_endpoint_ip != cluster.data_path_addr
                && !world.running.silent.contains_key(key)
        })
        .map(|(_, peer)| peer.tunnel_endpoint_ip)
        .collect();
    // Of a node whose data path has an address of its own no more than that is known here.
    let name = |ip: &IpAddr| names.get(ip).cloned().unwrap_or_else(|| ip.to_string());
    peers.extend(others.into_iter().map(|ip| NetworkPeer { name: name(&ip), ip }));
    peers
}
