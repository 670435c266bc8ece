//! All plans of a host, and what is kept from one making to the next: a container that did not change, in
//! surroundings that did not, has the plan it had. Where hundreds of containers come and go that is nearly all.

use super::virtual_address::VirtualAddresses;
use super::{Flow, HostPlan, NsName, NsPlan, Ruleset, host, ingress, overlay, sandbox};
use crate::cidr::{Cidr, Mac};
use crate::ids::{NetworkId, SandboxId};
use crate::merge;
use crate::model::{Network, OverlayNetwork, SandboxMode};
use crate::world::{Sandbox, Services, World};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

/// A namespace's plan, and the virtual addresses of the networks that it is on. Those are held once for all
/// containers of a network, and change far more often than the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Planned {
    plan: Arc<NsPlan>,
    addresses: Vec<Arc<VirtualAddresses>>,
}

impl Planned {
    /// nftables rules, those for virtual addresses included.
    pub fn ruleset(&self) -> Ruleset {
        let mut rules = self.plan.rules.clone();
        self.addresses.iter().for_each(|addresses| addresses.balance(&mut rules));
        rules.tidy();
        rules
    }

    /// Flows whose remembered translation must agree with the rules.
    pub fn flows(&self) -> impl Iterator<Item = &Flow> {
        self.plan.flows.iter().chain(self.addresses.iter().flat_map(|all| all.flows()))
    }
}

impl Deref for Planned {
    type Target = NsPlan;

    fn deref(&self) -> &NsPlan {
        &self.plan
    }
}

/// What a container's plan is made of beside the container itself and its networks' virtual addresses.
#[derive(Debug, Default, PartialEq, Eq)]
struct Surroundings {
    networks: BTreeMap<NetworkId, Network>,
    overlays: BTreeMap<NetworkId, OverlayNetwork>,
    /// Bytes: of local networks and of the underlay.
    mtu: (u16, u16),
    socket_match: bool,
    /// The nodes' load balancers on the ingress network.
    balancers: BTreeMap<Mac, Cidr>,
}

impl Surroundings {
    fn are_those_of(&self, world: &World, balancers: &BTreeMap<Mac, Cidr>) -> bool {
        self.networks == world.networks
            && self.overlays == world.running.overlays
            && self.mtu == (world.facts.mtu, world.facts.underlay_mtu)
            && self.socket_match == world.facts.socket_match
            && self.balancers == *balancers
    }

    fn of(world: &World, balancers: BTreeMap<Mac, Cidr>) -> Self {
        Self {
            networks: world.networks.clone(),
            overlays: world.running.overlays.clone(),
            mtu: (world.facts.mtu, world.facts.underlay_mtu),
            socket_match: world.facts.socket_match,
            balancers,
        }
    }
}

/// Makes plans, and remembers the last ones.
#[derive(Debug, Default)]
pub struct Planner {
    surroundings: Surroundings,
    /// Containers as they were, and their plans without virtual addresses.
    sandboxes: BTreeMap<SandboxId, (Arc<Sandbox>, Arc<NsPlan>)>,
    addresses: BTreeMap<NetworkId, Arc<VirtualAddresses>>,
}

impl Planner {
    /// Works out what every namespace must contain. The same world has the same plan, whatever was planned before.
    pub fn plan(&mut self, world: &World, services: &Services) -> HostPlan {
        let mut plans = BTreeMap::<NsName, NsPlan>::new();
        plans.insert(NsName::Host, host::plan(world, services));
        for network in world.running.overlays.values().filter(|n| world.overlay_in_use(n)) {
            let Some(cluster) = &world.running.cluster else { continue };
            let name = NsName::Overlay(network.id.clone());
            plans.insert(name, overlay::plan(world, cluster, network));
            if network.ingress {
                if let Some(plan) = ingress::plan(world, services, network) {
                    plans.insert(NsName::Ingress, plan);
                }
            } else if let Some(plan) = overlay::balancer(world, services, network) {
                plans.insert(NsName::Balancer(network.id.clone()), plan);
            }
        }
        self.sandboxes(world);
        let far = plans.values().flat_map(|plan| &plan.cables);
        let far = far.chain(self.sandboxes.values().flat_map(|(_, plan)| &plan.cables));
        let ports: Vec<(NsName, String)> =
            far.map(|cable| (cable.port_ns.clone(), cable.port.clone())).collect();
        for (name, port) in ports {
            if let Some(plan) = plans.get_mut(&name) {
                plan.ports.insert(port);
            }
        }
        self.addresses(services);
        let sandboxes = self.sandboxes.iter().map(|(id, (sandbox, plan))| {
            let here = sandbox.endpoints.iter().filter(|e| {
                world.running.overlays.get(&e.network).is_some_and(|network| !network.ingress)
            });
            let addresses = here.filter_map(|e| self.addresses.get(&e.network)).cloned().collect();
            (NsName::Sandbox(id.clone()), Planned { plan: Arc::clone(plan), addresses })
        });
        let others = plans
            .into_iter()
            .map(|(name, plan)| (name, Planned { plan: Arc::new(plan), addresses: Vec::new() }));
        others.chain(sandboxes).collect()
    }

    /// Brings the containers' plans up to date.
    fn sandboxes(&mut self, world: &World) {
        let balancers = sandbox::balancers(world);
        if !self.surroundings.are_those_of(world, &balancers) {
            self.surroundings = Surroundings::of(world, balancers);
            self.sandboxes.clear();
        }
        let (mut made, mut gone) = (Vec::new(), Vec::new());
        for (id, wanted, known) in merge::join(&world.running.sandboxes, &self.sandboxes) {
            let wanted = wanted.filter(|sandbox| sandbox.spec.mode == SandboxMode::Isolated);
            match (wanted, known) {
                (Some(wanted), Some((known, _))) if Arc::ptr_eq(wanted, known) => {}
                (Some(wanted), _) => {
                    let plan = sandbox::plan(world, &self.surroundings.balancers, wanted);
                    made.push((id.clone(), (Arc::clone(wanted), Arc::new(plan))));
                }
                (None, Some(_)) => gone.push(id.clone()),
                (None, None) => {}
            }
        }
        gone.iter().for_each(|id| drop(self.sandboxes.remove(id)));
        self.sandboxes.extend(made);
    }

    /// Brings the virtual addresses up to date. Those that are as they were stay the same allocation.
    fn addresses(&mut self, services: &Services) {
        let of = |(network, services): (&NetworkId, &_)| {
            let before = self.addresses.remove(network);
            let now = VirtualAddresses::of(services, before.as_deref());
            let same = before.filter(|before| **before == now);
            (network.clone(), same.unwrap_or_else(|| Arc::new(now)))
        };
        self.addresses = services.by_network.iter().map(of).collect();
    }
}
