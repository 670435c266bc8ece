//! The load balancer at the edge of each container, per virtual address of its networks. Every container of a
//! network has the same, so it is worked out once and shared.

use super::{Flow, Ruleset, Turns};
use crate::ids::NetworkId;
use crate::world::{Service, Services};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// What a container needs for the virtual addresses of one network.
#[derive(Debug, PartialEq, Eq)]
pub struct VirtualAddresses(Vec<VirtualAddress>);

#[derive(Debug, PartialEq, Eq)]
struct VirtualAddress {
    chain: String,
    /// Leads to a backend in turn.
    balance: Arc<Turns>,
    /// Sends what is for the address there.
    enter: Arc<str>,
    flow: Flow,
}

/// By network, in the order of service ids.
pub fn of(services: &Services) -> BTreeMap<NetworkId, VirtualAddresses> {
    let of_network = |services: &BTreeMap<String, Service>| {
        VirtualAddresses(services.values().filter_map(VirtualAddress::of).collect())
    };
    services.by_network.iter().map(|(id, services)| (id.clone(), of_network(services))).collect()
}

impl VirtualAddresses {
    /// Each address leads to a backend in turn, from the container's own connections and from what it
    /// forwards. Only connections: a ping goes to the address itself, which the network's load-balancer
    /// namespace holds.
    pub fn balance(&self, ruleset: &mut Ruleset) {
        for address in &self.0 {
            // Where nobody stands behind it the chain is there and leads nowhere: whoever comes and goes changes
            // only what is in it.
            let chain = ruleset.chain(&address.chain);
            // Two services that claim one address: the first has it.
            if chain.is_empty() && !address.balance.to().is_empty() {
                chain.rule(Arc::clone(&address.balance));
            }
            for hook in ["output", "prerouting"] {
                ruleset.nat(hook).rule(Arc::clone(&address.enter));
            }
        }
    }

    /// Flows to the addresses.
    pub fn flows(&self) -> impl Iterator<Item = &Flow> {
        self.0.iter().map(|address| &address.flow)
    }
}

impl VirtualAddress {
    fn of(service: &Service) -> Option<Self> {
        let address = service.vip?;
        let chain = format!("vip-{}", address.to_string().replace('.', "-"));
        let backends: Vec<Ipv4Addr> = service.backends.iter().copied().collect();
        let flow = Flow {
            protocol: None,
            address: Some(address),
            port: None,
            leads: !backends.is_empty(),
            backends: Arc::new(service.backends.union(&service.leaving).copied().collect()),
        };
        let enter = format!("ip daddr {address} goto {chain}").into();
        Some(Self { chain, balance: Arc::new(Turns::new(backends)), enter, flow })
    }
}
