//! What the host reaches beside our networks: the routes of its main table, the addresses of its
//! interfaces, and its name servers. All are one list of routes, so that whoever chooses or checks a
//! subnet has one thing to ask.

use crate::apply::routes::{read, table};
use crate::apply::{Netlink, links, neighbours};
use crate::cidr::Cidr;
use crate::config::NetConfig;
use crate::error::Result;
use crate::name_files;
use crate::plan::NsName;
use crate::world::{Claim, GATEWAY_NETWORK};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
};
use skep_types::{HostRoute, RouteKind};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;

/// Reads them, but for default routes and for what is on our own bridges. These are told by their names
/// or, where the network is not stored (the very first start may have been interrupted), by their mark.
pub fn of_host(
    netlink: &mut Netlink,
    bridges: &BTreeSet<String>,
    resolv_conf: &Path,
) -> Result<Vec<HostRoute>> {
    let namespace = NsName::Host.to_string();
    let others: BTreeMap<u32, String> = (links::read(netlink, &namespace)?.into_iter())
        .filter(|(name, link)| !bridges.contains(name) && !link.is_ours())
        .map(|(name, link)| (link.index, name))
        .collect();
    let messages = read(netlink, &namespace)?;
    let main = messages.iter().filter(|m| table(m) == u32::from(RouteHeader::RT_TABLE_MAIN));
    let routes = main.filter_map(|message| routed(message, &others)).collect();
    let addresses: Vec<(&str, Cidr)> = (links::read_addresses(netlink, &namespace)?.into_iter())
        .filter_map(|(index, addresses)| Some((others.get(&index)?.as_str(), addresses)))
        .flat_map(|(name, addresses)| addresses.into_iter().map(move |address| (name, address)))
        .collect();
    let servers = name_files::name_servers(resolv_conf).unwrap_or_else(|error| {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "cannot read the host's name servers"
        );
        Vec::new()
    });
    Ok(together(routes, &addresses, &servers))
}

/// Which names of the bridges that are always there somebody else has or will take.
pub fn claims(netlink: &mut Netlink, config: &NetConfig) -> Result<BTreeMap<String, Claim>> {
    let links = links::read(netlink, &NsName::Host.to_string())?;
    let names = [config.default_bridge.name.as_str(), GATEWAY_NETWORK];
    Ok(neighbours::claims(&links, names, neighbours::docker_is_installed()))
}

/// Whether the host has an interface of this name that does not bear our mark.
pub fn is_somebodys(netlink: &mut Netlink, name: &str) -> Result<bool> {
    let links = links::read(netlink, &NsName::Host.to_string())?;
    Ok(links.get(name).is_some_and(|link| !link.is_ours()))
}

/// A route with a destination. `others` are the links that are not our own bridges.
fn routed(message: &RouteMessage, others: &BTreeMap<u32, String>) -> Option<HostRoute> {
    let link = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    let destination = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(*address),
        _ => None,
    })?;
    let connected = message.header.protocol == RouteProtocol::Kernel
        && message.header.scope == RouteScope::Link;
    Some(HostRoute {
        destination,
        prefix: message.header.destination_prefix_length,
        interface: link.map_or(Some(String::new()), |link| others.get(&link).cloned())?,
        kind: if connected { RouteKind::Connected } else { RouteKind::Routed },
    })
}

/// The routes, and behind them what of the addresses no connected route speaks of, and the servers.
/// Loopback is left out: it leads nowhere.
fn together(
    mut routes: Vec<HostRoute>,
    addresses: &[(&str, Cidr)],
    servers: &[Ipv4Addr],
) -> Vec<HostRoute> {
    let covers = |route: &HostRoute, subnet: &Cidr| {
        route.kind == RouteKind::Connected
            && route.prefix <= subnet.prefix()
            && Cidr::new(route.destination, route.prefix)
                .is_some_and(|wide| wide.contains(subnet.addr()))
    };
    let addresses: BTreeSet<HostRoute> = (addresses.iter())
        .map(|(name, address)| (name, address.network()))
        .filter(|(_, s)| !s.addr().is_loopback() && !routes.iter().any(|route| covers(route, s)))
        .map(|(name, subnet)| HostRoute {
            destination: subnet.addr(),
            prefix: subnet.prefix(),
            interface: (*name).to_owned(),
            kind: RouteKind::Address,
        })
        .collect();
    let servers: BTreeSet<HostRoute> = (servers.iter())
        .filter(|server| !server.is_loopback())
        .map(|server| HostRoute {
            destination: *server,
            prefix: 32,
            interface: String::new(),
            kind: RouteKind::NameServer,
        })
        .collect();
    routes.extend(addresses);
    routes.extend(servers);
    routes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_servers_join_the_routes() {
        let route = |destination: [u8; 4], prefix, interface: &str, kind| {
            let (destination, interface) = (Ipv4Addr::from(destination), interface.to_owned());
            HostRoute { destination, prefix, interface, kind }
        };
        let address = |text: &str| -> Cidr { text.parse().unwrap() };
        let routes = vec![
            route([10, 77, 0, 0], 24, "eth0", RouteKind::Connected),
            route([10, 8, 0, 0], 16, "tun0", RouteKind::Routed),
        ];
        let addresses = [
            ("lo", address("127.0.0.1/8")),
            ("lo", address("10.9.9.1/32")),
            // The first has its route, the second lies in it.
            ("eth0", address("10.77.0.1/24")),
            ("eth0", address("10.77.0.200/32")),
            // Wider than the route there is.
            ("eth0", address("10.77.3.1/16")),
            // Two addresses of one subnet, without a route.
            ("eth1", address("10.3.0.1/24")),
            ("eth1", address("10.3.0.2/24")),
            // What somebody routes says nothing of neighbours.
            ("tun0", address("10.8.0.1/24")),
        ];
        let servers = [[127, 0, 0, 53], [10, 77, 0, 254], [192, 168, 1, 1], [10, 77, 0, 254]];
        let mut expected = routes.clone();
        expected.extend([
            route([10, 3, 0, 0], 24, "eth1", RouteKind::Address),
            route([10, 8, 0, 0], 24, "tun0", RouteKind::Address),
            route([10, 9, 9, 1], 32, "lo", RouteKind::Address),
            route([10, 77, 0, 0], 16, "eth0", RouteKind::Address),
            route([10, 77, 0, 254], 32, "", RouteKind::NameServer),
            route([192, 168, 1, 1], 32, "", RouteKind::NameServer),
        ]);
        assert_eq!(together(routes, &addresses, &servers.map(Ipv4Addr::from)), expected);
    }
}
