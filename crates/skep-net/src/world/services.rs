//! Who stands behind which service: computed from local and remote records.

use super::{Rotation, World};
use crate::ids::{EndpointId, NetworkId};
use crate::model::{EndpointRecord, PublishedPort};
use skep_types::Protocol;
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// One service on one network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// Service name.
    pub name: String,
    /// Its virtual address.
    pub vip: Option<Ipv4Addr>,
    /// Addresses that get new connections.
    pub backends: BTreeSet<Ipv4Addr>,
    /// Addresses that only keep their connections.
    pub leaving: BTreeSet<Ipv4Addr>,
}

/// A port of the routing mesh.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MeshPort {
    /// Id of the service that has it.
    pub service_id: String,
    /// Its name.
    pub service: String,
    /// Who gets new connections, by ingress address.
    pub backends: BTreeMap<Ipv4Addr, Backend>,
    /// Who only keeps its connections.
    pub leaving: BTreeMap<Ipv4Addr, Backend>,
}

/// A task behind a port of the routing mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backend {
    /// Port in the container.
    pub target: u16,
    /// The task's address on the bridge of this host that its default route leads over. None for
    /// one on another host.
    pub nearby: Option<Ipv4Addr>,
}

impl MeshPort {
    /// Where the host leads connections, one after the other: to the nearby tasks over their bridge,
    /// and for each of the others once to the mesh's namespace, which refuses what nobody takes. At least
    /// one place.
    pub fn at_host(&self, mesh: (Ipv4Addr, u16)) -> Vec<(Ipv4Addr, u16)> {
        let mut turns: Vec<_> =
            self.backends.values().filter_map(|b| Some((b.nearby?, b.target))).collect();
        // What goes one way only needs no turns.
        let others = if turns.is_empty() { 1 } else { self.backends.len() - turns.len() };
        turns.extend(std::iter::repeat_n(mesh, others));
        turns
    }

    /// Where the mesh's namespace leads connections: to the tasks that the host does not reach by itself.
    /// Where there is none it has what was sent to its own address, and leads that to the nearby ones.
    /// With the port in the container, where it is the same for all.
    pub fn in_mesh(&self) -> (Vec<Ipv4Addr>, Option<u16>) {
        let nearby_only = self.backends.values().all(|b| b.nearby.is_some());
        let (mut addresses, mut targets) = (Vec::new(), BTreeSet::new());
        for (address, backend) in &self.backends {
            if nearby_only || backend.nearby.is_none() {
                addresses.push(*address);
                targets.insert(backend.target);
            }
        }
        (addresses, targets.first().copied().filter(|_| targets.len() == 1))
    }
}

/// Every service on every overlay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Services {
    /// By network, then service id.
    pub by_network: BTreeMap<NetworkId, BTreeMap<String, Service>>,
    /// By protocol and published port.
    pub mesh: BTreeMap<(Protocol, u16), MeshPort>,
}

/// An endpoint's part in a service.
struct Part<'a> {
    network: &'a NetworkId,
    service_id: &'a str,
    service_name: &'a str,
    vip: Option<Ipv4Addr>,
    address: Ipv4Addr,
    ingress_ports: &'a [PublishedPort],
    disabled: bool,
}

impl<'a> Part<'a> {
    fn of(((network, _), record): (&'a (NetworkId, EndpointId), &'a EndpointRecord)) -> Self {
        Self {
            network,
            service_id: &record.service_id,
            service_name: &record.service_name,
            vip: record.vip,
            address: record.endpoint_ip,
            ingress_ports: &record.ingress_ports,
            disabled: record.disabled,
        }
    }
}

/// What a map has under a key, made where there is nothing. Most often there is, and then the key is not copied.
fn entry<'a, K, Q, V>(map: &'a mut BTreeMap<K, V>, key: &Q, new: impl FnOnce() -> V) -> &'a mut V
where
    K: Borrow<Q> + Ord,
    Q: ToOwned<Owned = K> + Ord + ?Sized,
{
    if !map.contains_key(key) {
        map.insert(key.to_owned(), new());
    }
    map.get_mut(key).expect("it was just put there")
}

impl World {
    /// All endpoint records, this host's and the others'.
    pub fn records(&self) -> Vec<(NetworkId, EndpointRecord)> {
        let local = self
            .local_records()
            .endpoints
            .into_iter()
            .map(|(network, _, record)| (network, record));
        let remote = self
            .running
            .remote_endpoints
            .iter()
            .chain(self.last_resorts())
            .filter(|((network, _), _)| self.running.overlays.contains_key(network))
            .map(|((network, _), record)| (network.clone(), record.clone()));
        local.chain(remote).collect()
    }

    /// Endpoints of nodes that just fell silent, of services that have no others. A host whose daemon is gone for a moment
    /// goes on serving; where all hosts of a service are dead, who connects waits for what is started elsewhere instead of
    /// being refused.
    fn last_resorts(
        &self,
    ) -> impl Iterator<Item = (&(NetworkId, EndpointId), &EndpointRecord)> + Clone {
        let last_heard = &self.running.last_heard;
        let served: BTreeSet<(&NetworkId, &str)> = match last_heard.is_empty() {
            true => BTreeSet::new(),
            false => {
                let others = self.heard_parts().filter(|part| !part.disabled);
                others.map(|part| (part.network, part.service_id)).collect()
            }
        };
        last_heard.iter().filter(move |((network, _), record)| {
            !record.disabled && !served.contains(&(network, record.service_id.as_str()))
        })
    }

    /// Works out the services.
    pub fn services(&self) -> Services {
        let mut services = Services::default();
        let nearby = self.nearby();
        for part in self.parts() {
            let service = entry(&mut services.by_network, part.network, BTreeMap::new);
            let service = entry(service, part.service_id, Service::default);
            if service.name != part.service_name {
                part.service_name.clone_into(&mut service.name);
            }
            service.vip = part.vip.or(service.vip);
            let side = if part.disabled { &mut service.leaving } else { &mut service.backends };
            side.insert(part.address);
            if self.running.overlays.get(part.network).is_some_and(|n| n.ingress) {
                for port in part.ingress_ports {
                    let mesh = services.mesh.entry((port.protocol, port.published)).or_default();
                    part.service_id.clone_into(&mut mesh.service_id);
                    part.service_name.clone_into(&mut mesh.service);
                    let side = if part.disabled { &mut mesh.leaving } else { &mut mesh.backends };
                    let nearby = nearby.get(&part.address).copied();
                    side.insert(part.address, Backend { target: port.target, nearby });
                }
            }
        }
        services
    }

    /// The services' endpoints, this host's and the others'.
    fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let overlays = &self.running.overlays;
        let known =
            self.last_resorts().filter(move |((network, _), _)| overlays.contains_key(network));
        self.heard_parts().chain(known.map(Part::of)).filter(|part| !part.service_id.is_empty())
    }

    /// The same without those of silent nodes.
    fn heard_parts(&self) -> impl Iterator<Item = Part<'_>> {
        let overlays = &self.running.overlays;
        let in_swarm = self.running.cluster.is_some();
        let local = self.endpoints().filter(move |(sandbox, endpoint)| {
            in_swarm
                && sandbox.rotation != Rotation::Out
                && overlays.contains_key(&endpoint.network)
        });
        let local = local.filter_map(|(sandbox, endpoint)| {
            let service = endpoint.service.as_ref()?;
            Some(Part {
                network: &endpoint.network,
                service_id: service.id.as_str(),
                service_name: &service.name,
                vip: service.vip,
                address: endpoint.address.addr(),
                ingress_ports: &service.ingress_ports,
                disabled: sandbox.rotation == Rotation::Leaving,
            })
        });
        let remote = self.running.remote_endpoints.iter();
        let remote = remote.filter(move |((network, _), _)| overlays.contains_key(network));
        local.chain(remote.map(Part::of))
    }

    /// By ingress address, where else on this host a task is reached: at the end of its default route.
    fn nearby(&self) -> BTreeMap<Ipv4Addr, Ipv4Addr> {
        let Some(ingress) = self.ingress().filter(|_| self.facts.socket_match) else {
            return BTreeMap::new();
        };
        self.endpoints_on(&ingress.id)
            .filter_map(|(sandbox, endpoint)| {
                let (gateway, _) = sandbox.gateway(self)?;
                Some((endpoint.address.addr(), gateway.address.addr()))
            })
            .collect()
    }
}
