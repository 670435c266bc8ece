//! The routing mesh's namespace: in from the host over `docker_gwbridge`, out to
//! tasks of other hosts over the ingress network, in turn, sources untouched.

use super::{CablePlan, Flow, NsName, NsPlan, RoutePlan, in_turn, overlay, quiet_sysctls};
use crate::cidr::Mac;
use crate::model::OverlayNetwork;
use crate::world::{Services, World, port_name};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The interface on `docker_gwbridge`.
const OUTSIDE: &str = "eth1";
/// Bytes of IPv4 and TCP headers without options.
const HEADERS: u16 = 40;
/// Number of the main routing table.
const MAIN: u32 = 254;

pub fn plan(world: &World, services: &Services, network: &OverlayNetwork) -> Option<NsPlan> {
    let inside = overlay::balancer_cable(world, services, network)?;
    let gateway = world.gateway_network()?;
    let address = world.mesh_address()?;
    let via = gateway.subnets.iter().find(|s| s.subnet.contains(address.addr()))?.gateway?;
    let mss = inside.mtu.saturating_sub(HEADERS);
    let mut plan = NsPlan { sysctls: quiet_sysctls(), ..NsPlan::default() };
    plan.sysctls.push(("net/ipv4/ip_forward".to_owned(), "1".to_owned()));
    // Replies and retries must not be told to take a short cut.
    plan.sysctls.push(("net/ipv4/conf/all/send_redirects".to_owned(), "0".to_owned()));
    plan.cables.push(inside);
    plan.cables.push(CablePlan {
        interface: OUTSIDE.to_owned(),
        mac: Mac::of(address.addr()),
        mtu: gateway.mtu(world.facts.mtu),
        addresses: BTreeSet::from([address]),
        port_ns: NsName::Host,
        port: port_name(world.running.mesh_gateway.as_ref()?),
        bridge: gateway.bridge_name(),
        isolated: true,
    });
    plan.routes.push(RoutePlan { via, interface: OUTSIDE.to_owned(), table: MAIN });

    let mut ports = Vec::new();
    for ((protocol, port), mesh) in &services.mesh {
        plan.flows.push(Flow {
            protocol: Some(*protocol),
            address: Some(address.addr()),
            port: Some(*port),
            leads: !mesh.backends.is_empty(),
            backends: Arc::new(mesh.backends.keys().chain(mesh.leaving.keys()).copied().collect()),
        });
        // A port without backends is left alone: the namespace itself then refuses,
        // which a client sees at once.
        if mesh.backends.is_empty() {
            continue;
        }
        // One chain per port keeps the turn of every other port when one changes.
        let name = format!("{protocol}-{port}");
        // The port in the container at once, where it is the same for all: a task that has nothing to
        // translate has less to do for each packet.
        let (addresses, target) = mesh.in_mesh();
        let to = in_turn(&addresses);
        let rule = match target {
            Some(target) => format!("meta l4proto {protocol} dnat to {to}:{target}"),
            None => format!("dnat to {to}"),
        };
        plan.rules.chain(&name).rule(rule);
        ports.push(format!("{protocol} . {port} : goto {name}"));
    }
    if !ports.is_empty() {
        plan.rules.nat("prerouting").rule(format!(
            "iifname \"{OUTSIDE}\" meta l4proto . th dport vmap {{ {} }}",
            ports.join(", ")
        ));
        // The outside's MTU is larger than the overlay's. Telling both sides at the
        // start spares connections the path-MTU discovery that firewalls break.
        plan.rules
            .base("mss", "filter", "forward", -150)
            .rule(format!("tcp flags & (syn | rst) == syn tcp option maxseg size set {mss}"));
    }
    Some(plan)
}
