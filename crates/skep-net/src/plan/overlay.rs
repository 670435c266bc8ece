//! An overlay's two namespaces: the one with bridges and VXLAN devices, and the one
//! that holds the virtual addresses.

use super::{BridgePlan, CablePlan, NsName, NsPlan, VXLAN_OVERHEAD, VxlanPlan, quiet_sysctls};
use crate::cidr::{Cidr, Mac};
use crate::ids::NetworkId;
use crate::model::{Cluster, OverlayNetwork, option_keys};
use crate::world::{Services, World, port_name};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Bytes a frame inside the overlay may have: what the option or the underlay says,
/// less the VXLAN header.
pub fn mtu(world: &World, network: &OverlayNetwork) -> u16 {
    let outer = network.options.get(option_keys::MTU).and_then(|v| v.parse().ok());
    outer.unwrap_or(world.facts.underlay_mtu).saturating_sub(VXLAN_OVERHEAD).max(68)
}

/// Name of the bridge for the subnet that holds `address`.
pub fn bridge_for(network: &OverlayNetwork, address: Cidr) -> String {
    let index = network.subnets.iter().position(|s| s.subnet.contains(address.addr())).unwrap_or(0);
    format!("br{index}")
}

/// Bridges and VXLAN devices.
pub fn plan(world: &World, cluster: &Cluster, network: &OverlayNetwork) -> NsPlan {
    let mtu = mtu(world, network);
    let mut plan = NsPlan { sysctls: quiet_sysctls(), ..NsPlan::default() };
    // Frames between its ports are nobody's packets.
    for filter in ["iptables", "ip6tables"] {
        plan.sysctls.push((format!("net/bridge/bridge-nf-call-{filter}"), "0".to_owned()));
    }
    let own: BTreeSet<Ipv4Addr> =
        world.endpoints_on(&network.id).map(|(_, endpoint)| endpoint.address.addr()).collect();
    for (index, subnet) in network.subnets.iter().enumerate() {
        let bridge = format!("br{index}");
        plan.bridges.push(BridgePlan {
            name: bridge.clone(),
            mtu,
            addresses: vec![subnet.subnet.with_addr(subnet.gateway)],
            alias: String::new(),
        });
        let peers = world
            .running
            .remote_peers
            .iter()
            .filter(|((id, _), peer)| {
                *id == network.id
                    && peer.tunnel_endpoint_ip != cluster.data_path_addr
                    // A silent peer's address may be here by now.
                    && !own.contains(&peer.endpoint_ip.addr())
                    && subnet.subnet.contains(peer.endpoint_ip.addr())
            })
            .map(|(_, peer)| (peer.endpoint_ip.addr(), peer.endpoint_mac, peer.tunnel_endpoint_ip))
            .collect();
        plan.vxlans.push(VxlanPlan {
            name: format!("vxlan{index}"),
            vni: subnet.vni,
            port: cluster.vxlan_port,
            local: cluster.data_path_addr,
            mtu,
            bridge,
            peers,
        });
    }
    plan
}

/// The cable of this node's load balancer, virtual addresses included.
pub fn balancer_cable(
    world: &World,
    services: &Services,
    network: &OverlayNetwork,
) -> Option<CablePlan> {
    let address = network.lb_cidr()?;
    let endpoint = world.running.balancers.get(&network.id)?;
    let mut addresses = BTreeSet::from([address]);
    addresses.extend(virtual_addresses(services, &network.id));
    Some(CablePlan {
        interface: "eth0".to_owned(),
        mac: Mac::of(address.addr()),
        mtu: mtu(world, network),
        addresses,
        port_ns: NsName::Overlay(network.id.clone()),
        port: port_name(endpoint),
        bridge: bridge_for(network, address),
        isolated: false,
    })
}

/// The namespace with the virtual addresses. It answers for them to ping and to
/// address resolution; connections are balanced where the client is.
pub fn balancer(world: &World, services: &Services, network: &OverlayNetwork) -> Option<NsPlan> {
    let cable = balancer_cable(world, services, network)?;
    Some(NsPlan { cables: vec![cable], sysctls: quiet_sysctls(), ..NsPlan::default() })
}

fn virtual_addresses<'a>(
    services: &'a Services,
    network: &NetworkId,
) -> impl Iterator<Item = Cidr> + 'a {
    let services = services.by_network.get(network);
    services.into_iter().flat_map(|s| s.values()).filter_map(|s| s.vip).map(Cidr::host)
}
