//! Who stands behind which service: computed from local and remote records.

use super::World;
use crate::ids::NetworkId;
use crate::model::{EndpointRecord, Protocol};
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
    /// Ingress addresses that get new connections.
    pub backends: BTreeSet<Ipv4Addr>,
    /// Ingress addresses that only keep their connections.
    pub leaving: BTreeSet<Ipv4Addr>,
    /// Ports in the containers that get new connections: several while an update changes it.
    targets: BTreeSet<u16>,
}

impl MeshPort {
    /// The one port that all tasks in rotation have this one redirected to. Where they differ, each of
    /// them knows best.
    pub fn target(&self) -> Option<u16> {
        match self.targets.first() {
            Some(target) if self.targets.len() == 1 => Some(*target),
            _ => None,
        }
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
            .filter(|((network, _), _)| self.running.overlays.contains_key(network))
            .map(|((network, _), record)| (network.clone(), record.clone()));
        local.chain(remote).collect()
    }

    /// Works out the services.
    pub fn services(&self) -> Services {
        let mut services = Services::default();
        for (network, record) in self.records() {
            if record.service_id.is_empty() {
                continue;
            }
            let service = services
                .by_network
                .entry(network.clone())
                .or_default()
                .entry(record.service_id.clone())
                .or_default();
            service.name = record.service_name.clone();
            service.vip = record.vip.or(service.vip);
            let side = if record.disabled { &mut service.leaving } else { &mut service.backends };
            side.insert(record.endpoint_ip);
            if self.running.overlays.get(&network).is_some_and(|n| n.ingress) {
                for port in &record.ingress_ports {
                    let mesh = services.mesh.entry((port.protocol, port.published)).or_default();
                    mesh.service_id = record.service_id.clone();
                    mesh.service = record.service_name.clone();
                    if record.disabled {
                        mesh.leaving.insert(record.endpoint_ip);
                    } else {
                        mesh.backends.insert(record.endpoint_ip);
                        mesh.targets.insert(port.target);
                    }
                }
            }
        }
        services
    }
}
