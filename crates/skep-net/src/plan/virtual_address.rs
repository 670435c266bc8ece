//! The load balancer at the edge of each container, per virtual address of its networks. Every container of a
//! network has the same, so it is worked out once and shared.

use super::{Flow, NsPlan, turns};
use crate::ids::NetworkId;
use crate::world::{Service, Services};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// What a container needs for one virtual address.
pub struct VirtualAddress {
    chain: String,
    /// `None` where nobody stands behind it.
    rules: Option<Rules>,
    flow: Flow,
}

struct Rules {
    /// Leads to a backend in turn.
    balance: Arc<str>,
    /// Sends what is for the address there.
    enter: Arc<str>,
}

/// By network, in the order of service ids.
pub fn of(services: &Services) -> BTreeMap<NetworkId, Vec<VirtualAddress>> {
    let of_network = |services: &BTreeMap<String, Service>| {
        services.values().filter_map(VirtualAddress::of).collect()
    };
    services.by_network.iter().map(|(id, services)| (id.clone(), of_network(services))).collect()
}

impl VirtualAddress {
    fn of(service: &Service) -> Option<Self> {
        let address = service.vip?;
        let chain = format!("vip-{}", address.to_string().replace('.', "-"));
        let backends: Vec<Ipv4Addr> = service.backends.iter().copied().collect();
        let rules = (!backends.is_empty()).then(|| Rules {
            balance: format!("meta l4proto {{ tcp, udp, sctp }} dnat to {}", turns(&backends))
                .into(),
            enter: format!("ip daddr {address} goto {chain}").into(),
        });
        let flow = Flow {
            protocol: None,
            address: Some(address),
            port: None,
            leads: rules.is_some(),
            backends: Arc::new(service.backends.union(&service.leaving).copied().collect()),
        };
        Some(Self { chain, rules, flow })
    }

    /// The address leads to a backend in turn, from the container's own connections and from what it
    /// forwards. Only connections: a ping goes to the address itself, which the network's load-balancer
    /// namespace holds.
    pub fn balance(&self, plan: &mut NsPlan) {
        plan.flows.push(self.flow.clone());
        let Some(rules) = &self.rules else { return };
        let chain = plan.rules.chain(&self.chain);
        // Two services that claim one address: the first has it.
        if chain.is_empty() {
            chain.rule(Arc::clone(&rules.balance));
        }
        for hook in ["output", "prerouting"] {
            plan.rules.nat(hook).rule(Arc::clone(&rules.enter));
        }
    }
}
