//! Reading a namespace for a trace: links, addresses, routes, neighbours, rules,
//! sockets, connections. Changes nothing.

use super::links::{self, Link};
use super::netlink::Netlink;
use super::nft::Nft;
use super::{conntrack, peers, refused, routes};
use crate::cidr::{Cidr, Mac};
use crate::error::{NetError, Result};
use crate::sockets;
use crate::trace::{
    Entry, Forwarding, Listening, Live, LiveLink, LiveRoute, Neighbour, Policy, RouteKind,
    Switching, Tables,
};
use rtnetlink::packet_route::link::InfoKind;
use rtnetlink::packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::packet_route::rule::{RuleAttribute, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use skep_types::Protocol;
use std::net::{IpAddr, Ipv4Addr};

/// Reads the calling thread's namespace.
pub fn survey(nft: &Nft, namespace: &str) -> Result<Live> {
    let traffic = &nft.traffic;
    let mut netlink = Netlink::open(traffic).map_err(refused(namespace, "open netlink"))?;
    let (json, annotated) = nft.listings(namespace)?;
    let tables = Tables::parse(&json, &annotated)
        .map_err(|source| NetError::NftListing { namespace: namespace.to_owned(), source })?;
    let mut live = Live {
        tables,
        links: links(&mut netlink, namespace)?,
        addresses: links::list_addresses(&mut netlink, namespace)?,
        routes: routes(&mut netlink, namespace)?,
        policies: policies(&mut netlink, namespace)?,
        sockets: listening(),
        flows: conntrack::count(traffic).map_err(refused(namespace, "list connections"))?,
        forwards: std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward")
            .is_ok_and(|text| text.trim() == "1"),
        ..Live::default()
    };
    for family in [AddressFamily::Inet, AddressFamily::Bridge] {
        neighbours(&mut netlink, namespace, family, &mut live)?;
    }
    Ok(live)
}

fn links(netlink: &mut Netlink, namespace: &str) -> Result<Vec<LiveLink>> {
    Ok(links::read(netlink, namespace)?.into_iter().map(link).collect())
}

fn link((name, link): (String, Link)) -> LiveLink {
    let vxlan = matches!(link.kind, Some(InfoKind::Vxlan)).then_some(link.vxlan);
    LiveLink {
        index: link.index,
        name,
        up: link.up,
        carrier: link.carrier,
        bridge: matches!(link.kind, Some(InfoKind::Bridge)),
        mtu: link.mtu,
        mac: <[u8; 6]>::try_from(link.mac).ok().map(Mac),
        master: link.master,
        // What is below a VXLAN device is in another namespace and no other end of anything.
        peer: link.lower.filter(|_| vxlan.is_none()),
        vxlan,
        received: link.counts.received,
        sent: link.counts.sent,
        dropped: link.counts.dropped,
    }
}

fn routes(netlink: &mut Netlink, namespace: &str) -> Result<Vec<LiveRoute>> {
    Ok(routes::read(netlink, namespace)?.iter().filter_map(route).collect())
}

fn route(message: &RouteMessage) -> Option<LiveRoute> {
    let kind = match message.header.kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::Local => RouteKind::Local,
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit => RouteKind::Closed,
        _ => RouteKind::Other,
    };
    let mut table = u32::from(message.header.table);
    let mut destination = Ipv4Addr::UNSPECIFIED;
    let (mut via, mut link, mut source, mut metric) = (None, None, None, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = *address,
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => via = Some(*address),
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::PrefSource(RouteAddress::Inet(address)) => source = Some(*address),
            RouteAttribute::Priority(number) => metric = *number,
            _ => {}
        }
    }
    let destination = Cidr::new(destination, message.header.destination_prefix_length)?;
    Some(LiveRoute { table, destination, via, link, source, metric, kind })
}

fn policies(netlink: &mut Netlink, namespace: &str) -> Result<Vec<Policy>> {
    let mut request = RuleMessage::default();
    request.header.family = AddressFamily::Inet;
    let answers = netlink
        .dump(RouteNetlinkMessage::GetRule(request))
        .map_err(refused(namespace, "list routing rules"))?;
    let mut found: Vec<Policy> = answers
        .into_iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewRule(message) => Some(policy(&message)),
            _ => None,
        })
        .collect();
    found.sort_by_key(|p| p.priority);
    Ok(found)
}

fn policy(message: &RuleMessage) -> Policy {
    let mut policy = Policy {
        table: message.header.table.into(),
        particular: message.header.src_len > 0 || message.header.dst_len > 0,
        ..Policy::default()
    };
    let (mut mark, mut mask) = (None, u32::MAX);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(number) => policy.priority = *number,
            RuleAttribute::Table(number) => policy.table = *number,
            RuleAttribute::FwMark(number) => mark = Some(*number),
            RuleAttribute::FwMask(number) => mask = *number,
            RuleAttribute::SuppressPrefixLen(_)
            | RuleAttribute::SuppressIfGroup(_)
            | RuleAttribute::Protocol(_) => {}
            _ => policy.particular = true,
        }
    }
    policy.mark = mark.map(|mark| (mark, mask));
    policy
}

fn neighbours(
    netlink: &mut Netlink,
    namespace: &str,
    family: AddressFamily,
    live: &mut Live,
) -> Result<()> {
    for message in peers::list(netlink, namespace, family)? {
        let (address, mac) = peers::who(&message);
        let link = message.header.ifindex;
        match (family, address, mac) {
            (AddressFamily::Inet, Some(IpAddr::V4(address)), mac) => {
                let state = state(message.header.state);
                live.neighbours.push(Neighbour { link, address, mac, state });
            }
            (AddressFamily::Bridge, Some(node), Some(mac)) => {
                live.forwarding.push(Forwarding { link, mac, node });
            }
            (AddressFamily::Bridge, None, Some(mac)) => {
                live.switching.extend(switching(&message, mac));
            }
            _ => {}
        }
    }
    Ok(())
}

/// An entry of a bridge's forwarding table. Those of VLANs do not count: no bridge of ours tells them apart,
/// and one that does not looks at those without only.
fn switching(message: &NeighbourMessage, mac: Mac) -> Option<Switching> {
    let bridge = peers::bridge_of(message)?;
    let of_vlan = |a: &NeighbourAttribute| matches!(a, NeighbourAttribute::Vlan(id) if *id != 0);
    if message.attributes.iter().any(of_vlan) {
        return None;
    }
    // The kernel's `fdb_to_nud`: an address of the bridge's own is permanent, another that lasts is noarp.
    let entry = match message.header.state {
        NeighbourState::Permanent => Entry::Own,
        NeighbourState::Noarp => Entry::Lasting,
        _ => Entry::Learnt,
    };
    let sticky = message.header.flags.contains(NeighbourFlags::Sticky);
    Some(Switching { bridge, mac, port: message.header.ifindex, entry, sticky })
}

fn state(state: NeighbourState) -> &'static str {
    match state {
        NeighbourState::Incomplete => "incomplete",
        NeighbourState::Reachable => "reachable",
        NeighbourState::Stale => "stale",
        NeighbourState::Delay => "delay",
        NeighbourState::Probe => "probe",
        NeighbourState::Failed => "failed",
        NeighbourState::Noarp => "noarp",
        NeighbourState::Permanent => "permanent",
        _ => "none",
    }
}

/// Sockets that take connections or packets from anybody.
fn listening() -> Vec<Listening> {
    let mut found = Vec::new();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for open in sockets::list(protocol).into_iter().filter(|socket| socket.open) {
            let socket = Listening { protocol, address: open.address, port: open.port };
            if !found.contains(&socket) {
                found.push(socket);
            }
        }
    }
    found
}
