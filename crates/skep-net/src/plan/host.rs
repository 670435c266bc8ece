//! The host's namespace: bridges of local networks, published ports, masquerading,
//! isolation between networks, the routing mesh's entrance, and who may send into overlays.

use super::{BridgePlan, Flow, NsPlan, in_turn, tunnel};
use crate::model::{Driver, Network};
use crate::world::{Services, World};
use skep_types::Protocol;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Prefix of the alias that marks an interface as ours.
pub const ALIAS: &str = "skep:";

/// A published port: where it is taken, and where its connections go in turn.
type Targets = BTreeMap<(Ipv4Addr, Protocol, u16), Target>;

struct Target {
    /// At least one.
    turns: Vec<(Ipv4Addr, u16)>,
    /// Who may keep connections of before.
    leaving: Vec<Ipv4Addr>,
}

pub fn plan(world: &World, services: &Services) -> NsPlan {
    let bridges: Vec<&Network> =
        world.networks.values().filter(|n| n.driver == Driver::Bridge).collect();
    let mut plan = NsPlan::default();
    plan.rules.owner(&world.facts.owner);
    plan.sysctls.push(("net/ipv4/ip_forward".to_owned(), "1".to_owned()));
    // Frames between ports of one bridge must not pass the IP rules: with it, a
    // container that reaches a neighbour through a published port is bridged there
    // after the translation, past isolation and back into the port it came from.
    // Docker needs it for its own isolation: beside it, it is left as it is.
    if world.facts.claims.is_empty() {
        plan.sysctls.push(("net/bridge/bridge-nf-call-iptables".to_owned(), "0".to_owned()));
    }
    for network in &bridges {
        let name = network.bridge_name();
        plan.bridges.push(BridgePlan {
            name: name.clone(),
            mtu: network.mtu(world.facts.mtu),
            addresses: network
                .subnets
                .iter()
                .filter_map(|s| Some(s.subnet.with_addr(s.gateway?)))
                .collect(),
            alias: format!("{ALIAS}{}", network.id),
        });
        // Lets a published port be reached as 127.0.0.1: the reply comes in over the
        // bridge for that address. The guard chain closes what this would open.
        plan.sysctls.push((format!("net/ipv4/conf/{name}/route_localnet"), "1".to_owned()));
        plan.sysctls.push((format!("net/ipv6/conf/{name}/disable_ipv6"), "1".to_owned()));
    }
    if let Some(cluster) = &world.running.cluster {
        tunnel::guard(&mut plan.rules, world, cluster);
    }
    if bridges.is_empty() {
        return plan;
    }

    plan.rules
        .base("guard", "filter", "prerouting", -300)
        .rule("iifname != \"lo\" ip daddr 127.0.0.0/8 drop");
    publish(&mut plan, &targets(world, services));
    translate_sources(&mut plan, &bridges);
    isolate(&mut plan, &bridges);
    plan.rules.tidy();
    plan
}

fn targets(world: &World, services: &Services) -> Targets {
    let mut targets = Targets::new();
    if let (Some(mesh), Some(_)) =
        (world.mesh_address(), world.ingress().and_then(|n| n.lb_address))
    {
        for (&(protocol, port), service) in &services.mesh {
            if world.facts.blocked_ports.contains(&(protocol, port)) {
                continue;
            }
            let mesh = (mesh.addr(), port);
            let turns = service.at_host(mesh);
            let leaving = service.leaving.values().filter_map(|b| b.nearby);
            let leaving = leaving.chain([mesh.0]).collect();
            targets.insert((Ipv4Addr::UNSPECIFIED, protocol, port), Target { turns, leaving });
        }
    }
    for sandbox in world.running.sandboxes.values() {
        let Some((endpoint, _)) = sandbox.gateway(world) else { continue };
        for port in &sandbox.ports {
            targets.insert(
                (port.host_ip, port.protocol, port.host_port),
                Target {
                    turns: vec![(endpoint.address.addr(), port.container_port)],
                    leaving: Vec::new(),
                },
            );
        }
    }
    targets
}

fn publish(plan: &mut NsPlan, targets: &Targets) {
    let (mut one, mut any, mut several) = (Vec::new(), Vec::new(), Vec::new());
    for ((ip, protocol, port), target) in targets {
        match target.turns.as_slice() {
            [(to, to_port)] if ip.is_unspecified() => {
                any.push(format!("{protocol} . {port} : {to} . {to_port}"));
            }
            [(to, to_port)] => one.push(format!("{ip} . {protocol} . {port} : {to} . {to_port}")),
            turns_of => {
                // One chain per port keeps the turn of every other port when one changes.
                let name = format!("{protocol}-{port}");
                let to: Vec<String> = turns_of.iter().map(|(a, p)| format!("{a} . {p}")).collect();
                let rule = format!("meta l4proto {protocol} dnat ip to {}", in_turn(&to));
                plan.rules.chain(&name).rule(rule);
                several.push(format!("{protocol} . {port} : goto {name}"));
            }
        }
        plan.flows.push(Flow {
            protocol: Some(*protocol),
            address: (!ip.is_unspecified()).then_some(*ip),
            port: Some(*port),
            leads: true,
            backends: Arc::new(
                target
                    .turns
                    .iter()
                    .map(|(to, _)| *to)
                    .chain(target.leaving.iter().copied())
                    .collect(),
            ),
        });
    }
    let chain = plan.rules.chain("published");
    for (statement, key, elements) in [
        ("dnat ip to", "ip daddr . meta l4proto . th dport map", one),
        ("dnat ip to", "meta l4proto . th dport map", any),
        ("", "meta l4proto . th dport vmap", several),
    ] {
        if !elements.is_empty() {
            chain.rule(format!("{statement} {key} {{ {} }}", elements.join(", ")).trim_start());
        }
    }
    for hook in ["prerouting", "output"] {
        plan.rules.nat(hook).rule("fib daddr type local jump published");
    }
}

/// Sources are rewritten in three cases only: the host's own loopback addresses,
/// which mean nothing beyond a bridge; a container that reaches a neighbour (or
/// itself) through a published port, whose reply would otherwise take the short way;
/// and traffic that leaves for the outside.
fn translate_sources(plan: &mut NsPlan, bridges: &[&Network]) {
    let ours = names(bridges.iter().copied());
    let chain = plan.rules.nat("postrouting");
    chain.rule(format!("ip saddr 127.0.0.0/8 oifname {ours} masquerade"));
    for network in bridges {
        let bridge = network.bridge_name();
        for subnet in &network.subnets {
            let subnet = subnet.subnet;
            chain.rule(format!("ip saddr {subnet} oifname \"{bridge}\" ct status dnat masquerade"));
            if network.masquerade() && !network.internal {
                chain.rule(format!("ip saddr {subnet} oifname != {ours} masquerade"));
            }
        }
    }
}

fn isolate(plan: &mut NsPlan, bridges: &[&Network]) {
    let ours = names(bridges.iter().copied());
    let chain = plan.rules.base("forward", "filter", "forward", 0);
    // First what nearly every packet meets.
    chain.rule("ct state established,related accept");
    chain.rule(format!("iifname != {ours} oifname != {ours} accept"));
    for network in bridges.iter().filter(|n| n.internal) {
        let bridge = network.bridge_name();
        chain.rule(format!("iifname \"{bridge}\" oifname != \"{bridge}\" drop"));
        chain.rule(format!("iifname != \"{bridge}\" oifname \"{bridge}\" drop"));
    }
    chain.rule("ct status dnat accept");
    for network in bridges.iter().filter(|n| n.icc()) {
        let bridge = network.bridge_name();
        chain.rule(format!("iifname \"{bridge}\" oifname \"{bridge}\" accept"));
    }
    // Between networks, between neighbours that may not talk, and to ports that
    // nobody published.
    chain.rule(format!("oifname {ours} drop"));
}

fn names<'a>(bridges: impl Iterator<Item = &'a Network>) -> String {
    let quoted: Vec<String> = bridges.map(|n| format!("\"{}\"", n.bridge_name())).collect();
    format!("{{ {} }}", quoted.join(", "))
}
