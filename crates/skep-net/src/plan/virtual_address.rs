//! The load balancer at the edge of each container, per virtual address of its networks. Every container of a
//! network has the same, so it is worked out once and shared.

use super::{Flow, Ruleset, Turns};
use crate::world::Service;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a container needs for the virtual addresses of one network.
#[derive(Debug, PartialEq, Eq)]
pub struct VirtualAddresses(Vec<VirtualAddress>);

#[derive(Debug, PartialEq, Eq)]
struct VirtualAddress {
    /// Leads to a backend in turn.
    balance: Arc<Turns>,
    /// Sends what is for the address there.
    enter: Arc<str>,
    flow: Flow,
}

impl VirtualAddresses {
    /// Of a network's services, in the order of their ids. `before`: those that it had, whose backends keep their
    /// places.
    pub fn of(services: &BTreeMap<String, Service>, before: Option<&Self>) -> Self {
        let before = before.into_iter().flat_map(|before| &before.0);
        let before: BTreeMap<&str, &Arc<Turns>> =
            before.map(|address| (address.balance.name(), &address.balance)).collect();
        Self(services.values().filter_map(|service| VirtualAddress::of(service, &before)).collect())
    }

    /// Each address leads to a backend in turn, from the container's own connections and from what it
    /// forwards. Only connections: a ping goes to the address itself, which the network's load-balancer
    /// namespace holds.
    pub fn balance(&self, ruleset: &mut Ruleset) {
        for address in &self.0 {
            // Where nobody stands behind it the chain is there and leads nowhere: whoever comes and goes changes
            // only what is in it.
            ruleset.lead(&address.balance);
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
    fn of(service: &Service, before: &BTreeMap<&str, &Arc<Turns>>) -> Option<Self> {
        let address = service.vip?;
        let chain = format!("vip-{}", address.to_string().replace('.', "-"));
        let flow = Flow {
            protocol: None,
            address: Some(address),
            port: None,
            leads: !service.backends.is_empty(),
            backends: Arc::new(service.backends.union(&service.leaving).copied().collect()),
        };
        let enter = format!("ip daddr {address} goto {chain}").into();
        let before = before.get(chain.as_str()).copied();
        let balance = Turns::new(&chain, &service.backends, before);
        Some(Self { balance, enter, flow })
    }
}
