//! What names mean on each network.

use super::World;
use crate::ids::NetworkId;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// The names of one network, lower case, and back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkNames {
    /// The network's name, lower case.
    pub network: String,
    /// Addresses by name. A name may be known and have none.
    pub addresses: BTreeMap<String, BTreeSet<Ipv4Addr>>,
    /// Name by address, without the network's name.
    pub reverse: BTreeMap<Ipv4Addr, String>,
}

/// The names of every network on which names are resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameIndex {
    /// By network.
    pub networks: BTreeMap<NetworkId, NetworkNames>,
}

impl World {
    /// Works out the names. Neither the default bridge nor the ingress network,
    /// nor `docker_gwbridge`, have any.
    pub fn names(&self) -> NameIndex {
        let mut index = NameIndex::default();
        for (sandbox, endpoint) in self.endpoints() {
            let Some(network) = self.networks.get(&endpoint.network) else { continue };
            if network.is_default_bridge() || endpoint.hidden {
                continue;
            }
            let names = index.entry(&network.id, &network.name);
            for name in sandbox.names(endpoint) {
                names.add(&name, endpoint.address.addr());
            }
            names.name_of(endpoint.address.addr(), &sandbox.spec.container_name);
        }
        for (network, record) in self.records() {
            let Some(overlay) = self.running.overlays.get(&network) else { continue };
            if overlay.ingress {
                continue;
            }
            let names = index.entry(&network, &overlay.name);
            let service_names: Vec<&String> = std::iter::once(&record.service_name)
                .chain(&record.aliases)
                .filter(|n| !n.is_empty())
                .collect();
            for name in &service_names {
                match record.vip {
                    // The virtual address stays as long as any task is known.
                    Some(vip) => names.add(name, vip),
                    None if record.disabled => names.know(name),
                    None => names.add(name, record.endpoint_ip),
                }
                let tasks = format!("tasks.{name}");
                if record.disabled {
                    names.know(&tasks)
                } else {
                    names.add(&tasks, record.endpoint_ip)
                }
            }
            if let (Some(vip), false) = (record.vip, record.service_name.is_empty()) {
                names.name_of(vip, &record.service_name);
            }
            if !record.disabled {
                for name in std::iter::once(&record.name).chain(&record.task_aliases) {
                    names.add(name, record.endpoint_ip);
                }
                names.name_of(record.endpoint_ip, &record.name);
            }
        }
        index
    }
}

impl NameIndex {
    fn entry(&mut self, id: &NetworkId, name: &str) -> &mut NetworkNames {
        let names = self.networks.entry(id.clone()).or_default();
        if names.network.is_empty() {
            names.network = name.to_lowercase();
        }
        names
    }
}

impl NetworkNames {
    fn add(&mut self, name: &str, address: Ipv4Addr) {
        self.addresses.entry(name.to_lowercase()).or_default().insert(address);
    }

    fn know(&mut self, name: &str) {
        self.addresses.entry(name.to_lowercase()).or_default();
    }

    fn name_of(&mut self, address: Ipv4Addr, name: &str) {
        self.reverse.insert(address, name.to_owned());
    }
}
