//! A container's namespace: its interfaces, the resolver's redirection, the load
//! balancer at its edge, and a task's part in the routing mesh.

use super::{
    CablePlan, MARK_BASE, MARK_MASK, NsName, NsPlan, RoutePlan, dns, overlay, quiet_sysctls,
};
use crate::cidr::{Cidr, Mac};
use crate::world::{Endpoint, Sandbox, World};
use skep_types::Protocol;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// Number of the main routing table.
const MAIN: u32 = 254;
/// The mark, and the routing table, of connections that the host itself led here. No load balancer has the
/// first address of a subnet.
const NEARBY: u32 = MARK_BASE;

/// Of the world it may read what [`super::planner`] knows as a container's surroundings, and nothing else.
/// `balancers`: [`balancers`] of it.
pub fn plan(world: &World, balancers: &BTreeMap<Mac, Cidr>, sandbox: &Sandbox) -> NsPlan {
    let mut plan = NsPlan { sysctls: quiet_sysctls(), ..NsPlan::default() };
    for endpoint in &sandbox.endpoints {
        plan.cables.extend(cable(world, endpoint));
    }
    if let Some((endpoint, via)) = sandbox.gateway(world) {
        plan.routes.push(RoutePlan { via, interface: endpoint.interface.clone(), table: MAIN });
    }
    if let (true, Some(ports)) = (sandbox.wants_dns(world), sandbox.dns_ports) {
        dns::redirect(&mut plan.rules, ports);
    }
    for endpoint in &sandbox.endpoints {
        let Some(network) = world.running.overlays.get(&endpoint.network) else { continue };
        if network.ingress {
            nearby(world, &mut plan, sandbox, endpoint);
            mesh(&mut plan, balancers, endpoint);
        }
    }
    plan
}

fn cable(world: &World, endpoint: &Endpoint) -> Option<CablePlan> {
    let (port_ns, bridge, mtu, isolated) = match world.networks.get(&endpoint.network) {
        Some(network) => {
            (NsName::Host, network.bridge_name(), network.mtu(world.facts.mtu), !network.icc())
        }
        None => {
            let network = world.running.overlays.get(&endpoint.network)?;
            let bridge = overlay::bridge_for(network, endpoint.address);
            (NsName::Overlay(network.id.clone()), bridge, overlay::mtu(world, network), false)
        }
    };
    Some(CablePlan {
        interface: endpoint.interface.clone(),
        mac: endpoint.mac,
        mtu,
        addresses: BTreeSet::from([endpoint.address]),
        port_ns,
        port: endpoint.port_name(),
        bridge,
        isolated,
    })
}

/// The host leads connections for its own tasks to their address on the bridge of the default route, which
/// spares them the mesh's namespace and its translation. They are led on to the ingress address, where
/// servers are that listen on what their host name means; but what a socket takes as it is is left so, which
/// spares it this translation too. Not of UDP where the socket is on every address: its answers would not tell by
/// which of them it was reached.
///
/// What comes in there is answered there, whatever other routes the task has.
fn nearby(world: &World, plan: &mut NsPlan, sandbox: &Sandbox, endpoint: &Endpoint) {
    let (Some(service), Some((gateway, via)), true) =
        (&endpoint.service, sandbox.gateway(world), world.facts.socket_match)
    else {
        return;
    };
    let targets: BTreeSet<(Protocol, u16)> =
        service.ingress_ports.iter().map(|p| (p.protocol, p.target)).collect();
    if targets.is_empty() {
        return;
    }
    let (interface, address) = (&gateway.interface, gateway.address.addr());
    let chain = plan.rules.nat("prerouting");
    for (protocol, target) in targets {
        let asked = format!("iifname \"{interface}\" ip daddr {address} {protocol} dport {target}");
        // Looked up for the first packet of a connection only.
        match protocol {
            Protocol::Tcp => chain.rule(format!("{asked} socket wildcard {{ 0, 1 }} accept")),
            Protocol::Udp => chain.rule(format!("{asked} socket wildcard 0 accept")),
            Protocol::Sctp => {}
        }
        chain.rule(format!("{asked} dnat to {}", endpoint.address.addr()));
    }
    remember(plan, &format!("iifname \"{interface}\" ip daddr {address}"), &format!("{NEARBY:#x}"));
    plan.marks.push(NEARBY);
    plan.routes.push(RoutePlan { via, interface: interface.clone(), table: NEARBY });
}

/// Marks new connections, so that their answers take the mark's routing table. The first packet bears the mark
/// too, for sockets to take it over: their packets then find the right route at once, and only others are routed
/// again after `way-back`.
fn remember(plan: &mut NsPlan, which: &str, mark: &str) {
    let chain = plan.rules.base("remember", "filter", "prerouting", -150);
    if chain.is_empty() {
        plan.sysctls.push(("net/ipv4/tcp_fwmark_accept".to_owned(), "1".to_owned()));
        plan.rules
            .base("way-back", "route", "output", -150)
            .rule(format!("ct mark & {MARK_MASK:#x} == {MARK_BASE:#x} meta mark set ct mark"));
    }
    plan.rules
        .base("remember", "filter", "prerouting", -150)
        .rule(format!("{which} ct state new ct mark set {mark} meta mark set ct mark"));
}

/// Ports of the routing mesh arrive at the ingress address as the port in the container,
/// or as published (from Docker's nodes, and while tasks differ) and are then redirected.
/// Which node's load balancer sent a connection is told by the Ethernet source, remembered as the connection's mark,
/// and replies go back through that one, because only it can undo its translation.
/// Nothing else is let in or out over the ingress network.
///
/// A client may enter two nodes from one port at the same time, and both connections
/// lead here with the same addresses and ports. So each load balancer has a connection
/// tracking zone for what it sends. Replies have none, hence the kernel sees to it that
/// they differ: it gives the later of two such connections another source port.
fn mesh(plan: &mut NsPlan, balancers: &BTreeMap<Mac, Cidr>, endpoint: &Endpoint) {
    let interface = &endpoint.interface;
    let address = endpoint.address.addr();
    if let Some(service) = &endpoint.service {
        let redirect = plan.rules.nat("prerouting");
        for port in &service.ingress_ports {
            redirect.rule(format!(
                "iifname \"{interface}\" ip daddr {address} {} dport {} redirect to :{}",
                port.protocol, port.published, port.target
            ));
        }
    }
    if !balancers.is_empty() {
        let by_source = |value: fn(Cidr) -> u32| {
            let pairs: Vec<String> =
                balancers.iter().map(|(mac, lb)| format!("{mac} : {:#x}", value(*lb))).collect();
            format!("ether saddr map {{ {} }}", pairs.join(", "))
        };
        plan.rules
            .base("zones", "filter", "prerouting", -300)
            .rule(format!("iifname \"{interface}\" ct original zone set {}", by_source(host_part)));
        remember(plan, &format!("iifname \"{interface}\""), &by_source(mark));
        for lb in balancers.values() {
            plan.marks.push(mark(*lb));
            plan.routes.push(RoutePlan {
                via: lb.addr(),
                interface: interface.clone(),
                table: mark(*lb),
            });
        }
        plan.marks.sort_unstable();
    }
    let udp =
        endpoint.service.iter().flat_map(|s| &s.ingress_ports).any(|p| p.protocol == Protocol::Udp);
    if udp {
        answer_as_asked(plan, address);
    }
    let input = plan.rules.base("input", "filter", "input", 0);
    input.rule(format!("iifname \"{interface}\" ct state established,related accept"));
    for port in endpoint.service.iter().flat_map(|s| &s.ingress_ports) {
        input.rule(format!(
            "iifname \"{interface}\" ip daddr {address} {} dport {} accept",
            port.protocol, port.target
        ));
    }
    input.rule(format!("iifname \"{interface}\" meta l4proto {{ tcp, udp, sctp }} drop"));
    let output = plan.rules.base("output", "filter", "output", 0);
    output.rule(format!("oifname \"{interface}\" ct state established,related accept"));
    output.rule(format!("oifname \"{interface}\" meta l4proto {{ tcp, udp, sctp }} drop"));
}

/// A UDP server that listens on every address answers from the one its default route
/// has, which no connection knows. So callers of the ingress address are noted, and answers to
/// them get the address that was asked before connection tracking looks at them.
fn answer_as_asked(plan: &mut NsPlan, address: Ipv4Addr) {
    plan.rules.set(
        "mesh-callers",
        "type ipv4_addr . inet_service . inet_service; flags dynamic,timeout; timeout 3m; size 65535;",
    );
    // After source translation, which is at 100: see `mesh` for who is given another port.
    plan.rules.base("callers", "filter", "input", 150).rule(format!(
        "ip daddr {address} meta l4proto udp \
         update @mesh-callers {{ ip saddr . udp sport . udp dport }}"
    ));
    plan.rules.base("answer", "filter", "output", -300).rule(format!(
        "meta l4proto udp ip saddr != {address} ip daddr . udp dport . udp sport @mesh-callers ip saddr set {address}"
    ));
}

/// The nodes' load balancers on the ingress network by Ethernet address. Remote ones
/// are the peers that no endpoint record speaks of.
pub fn balancers(world: &World) -> BTreeMap<Mac, Cidr> {
    let mut balancers = BTreeMap::new();
    let Some(network) = world.ingress() else { return balancers };
    if let Some(own) = network.lb_cidr() {
        balancers.insert(Mac::of(own.addr()), own);
    }
    for (key, peer) in world.running.remote_peers.iter().filter(|((id, _), _)| *id == network.id) {
        let container = world.running.silent.get(key).copied().unwrap_or_default();
        if !container && !world.running.remote_endpoints.contains_key(key) {
            balancers.insert(peer.endpoint_mac, peer.endpoint_ip);
        }
    }
    balancers
}

/// The mark, and the routing table, of a load balancer.
fn mark(lb: Cidr) -> u32 {
    MARK_BASE | host_part(lb)
}

/// What tells load balancers apart, and is the number of its zone: unique within the ingress
/// subnet as long as that has at most 65536 addresses.
fn host_part(lb: Cidr) -> u32 {
    (u32::from(lb.addr()) & !lb.mask()) & 0xffff
}
