//! Routes and the rules that choose a table by mark. Ours are told from others' by
//! the protocol number that routes carry.

use super::links::Links;
use super::netlink::{Mode, Netlink};
use super::{Applied, refused};
use crate::cidr::Cidr;
use crate::error::Result;
use crate::plan::{MARK_BASE, MARK_MASK, RoutePlan};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// "Who made this route": a number that no routing daemon uses.
const PROTOCOL: u8 = 92;
/// Before the main table's rule, at 32766.
const PRIORITY: u32 = 100;

/// A route to a subnet that a link has an address of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connected {
    /// The subnet.
    pub subnet: Cidr,
    /// Index of the link.
    pub link: u32,
    /// The address there.
    pub source: Ipv4Addr,
}

/// Makes our default routes those of the plan, unless a table has another's, and the connected ones again that the
/// kernel made with their address and somebody took away.
pub fn routes(
    netlink: &mut Netlink,
    namespace: &str,
    wanted: &[RoutePlan],
    connected: &BTreeSet<Connected>,
    links: &Links,
) -> Applied {
    let mut changed = 0;
    let mut missing = connected.clone();
    let mut others = BTreeSet::new();
    let wanted_set: BTreeSet<(Ipv4Addr, u32, u32)> = wanted
        .iter()
        .filter_map(|r| Some((r.via, links.get(&r.interface)?.index, r.table)))
        .collect();
    let mut found = BTreeSet::new();
    for message in read(netlink, namespace)? {
        if table(&message) == u32::from(RouteHeader::RT_TABLE_MAIN) {
            missing.retain(|c| !leads_to(&message, c));
        }
        if message.header.protocol != RouteProtocol::from(PROTOCOL) {
            if message.header.destination_prefix_length == 0 {
                others.insert(table(&message));
            }
            continue;
        }
        let Some(route) = default_route(&message) else { continue };
        if wanted_set.contains(&route) {
            found.insert(route);
            continue;
        }
        match netlink.request(RouteNetlinkMessage::DelRoute(message), Mode::Change) {
            // It went with its interface, whose other end goes at the same time.
            Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => {}
            result => {
                let action = format!("remove the default route via {}", route.0);
                result.map_err(refused(namespace, action))?;
            }
        }
        changed += 1;
    }
    // Before the default routes, whose next hops they lead to.
    for Connected { subnet, link, source } in missing {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.protocol = RouteProtocol::Kernel;
        message.header.scope = RouteScope::Link;
        message.header.kind = RouteType::Unicast;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.destination_prefix_length = subnet.prefix();
        message.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(subnet.addr())));
        message.attributes.push(RouteAttribute::PrefSource(RouteAddress::Inet(source)));
        message.attributes.push(RouteAttribute::Oif(link));
        netlink
            .request(RouteNetlinkMessage::NewRoute(message), Mode::Replace)
            .map_err(refused(namespace, format!("add the route to {subnet}")))?;
        changed += 1;
    }
    // Where somebody else's default route stands in the place of ours, as a VPN in a
    // container puts it, that is meant.
    for &(via, index, table) in
        wanted_set.difference(&found).filter(|(_, _, table)| !others.contains(table))
    {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.protocol = RouteProtocol::from(PROTOCOL);
        message.header.scope = RouteScope::Universe;
        message.header.kind = RouteType::Unicast;
        message.header.table = u8::try_from(table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
        message.attributes.push(RouteAttribute::Table(table));
        message.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet(via)));
        message.attributes.push(RouteAttribute::Oif(index));
        netlink
            .request(RouteNetlinkMessage::NewRoute(message), Mode::Replace)
            .map_err(refused(namespace, format!("add a default route via {via}")))?;
        changed += 1;
    }
    Ok(changed)
}

/// Makes our rules those of the plan.
pub fn marks(netlink: &mut Netlink, namespace: &str, wanted: &[u32]) -> Applied {
    let mut request = RuleMessage::default();
    request.header.family = AddressFamily::Inet;
    let answers = netlink
        .dump(RouteNetlinkMessage::GetRule(request))
        .map_err(refused(namespace, "list routing rules"))?;
    let mut changed = 0;
    let mut found = BTreeSet::new();
    for answer in answers {
        let RouteNetlinkMessage::NewRule(message) = answer else { continue };
        let mark = message.attributes.iter().find_map(|a| match a {
            RuleAttribute::FwMark(mark) if mark & MARK_MASK == MARK_BASE => Some(*mark),
            _ => None,
        });
        let Some(mark) = mark else { continue };
        if wanted.contains(&mark) {
            found.insert(mark);
            continue;
        }
        netlink
            .request(RouteNetlinkMessage::DelRule(message), Mode::Change)
            .map_err(refused(namespace, format!("remove the routing rule of mark {mark:#x}")))?;
        changed += 1;
    }
    for mark in wanted.iter().filter(|m| !found.contains(*m)) {
        let mut message = RuleMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.action = RuleAction::ToTable;
        message.attributes.push(RuleAttribute::Table(*mark));
        message.attributes.push(RuleAttribute::FwMark(*mark));
        message.attributes.push(RuleAttribute::Priority(PRIORITY));
        netlink
            .request(RouteNetlinkMessage::NewRule(message), Mode::Create)
            .map_err(refused(namespace, format!("add a routing rule for mark {mark:#x}")))?;
        changed += 1;
    }
    Ok(changed)
}

/// The kernel's IPv4 routes of all tables.
pub fn read(netlink: &mut Netlink, namespace: &str) -> Result<Vec<RouteMessage>> {
    let mut request = RouteMessage::default();
    request.header.address_family = AddressFamily::Inet;
    let answers = netlink
        .dump(RouteNetlinkMessage::GetRoute(request))
        .map_err(refused(namespace, "list routes"))?;
    Ok(answers
        .into_iter()
        .filter_map(|a| match a {
            RouteNetlinkMessage::NewRoute(message) => Some(message),
            _ => None,
        })
        .collect())
}

/// The table a route is in.
pub fn table(message: &RouteMessage) -> u32 {
    message
        .attributes
        .iter()
        .find_map(|a| match a {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        })
        .unwrap_or_else(|| message.header.table.into())
}

fn leads_to(message: &RouteMessage, connected: &Connected) -> bool {
    message.header.destination_prefix_length == connected.subnet.prefix()
        && message.attributes.iter().any(|a| {
            matches!(a, RouteAttribute::Destination(RouteAddress::Inet(to)) if *to == connected.subnet.addr())
        })
        && message.attributes.iter().any(|a| matches!(a, RouteAttribute::Oif(i) if *i == connected.link))
}

fn default_route(message: &RouteMessage) -> Option<(Ipv4Addr, u32, u32)> {
    if message.header.destination_prefix_length != 0 {
        return None;
    }
    let (mut via, mut index) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => via = Some(*address),
            RouteAttribute::Oif(value) => index = Some(*value),
            _ => {}
        }
    }
    Some((via?, index?, table(message)))
}

/// Tries out a rule that chooses a table by mark, in a namespace that is thrown away.
pub fn probe(ns: &skep_sys::netns::NetNs) -> std::io::Result<()> {
    ns.run(|| {
        let mut netlink = Netlink::open(&Arc::default())?;
        marks(&mut netlink, "probe", &[MARK_BASE | 1]).map(|_| ()).map_err(std::io::Error::other)
    })?
}
