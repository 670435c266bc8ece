//! The kernel's state of one namespace, as data.

use super::rules::Tables;
use crate::cidr::{Cidr, Mac};
use skep_types::Protocol;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// The kernel's state of one namespace at one moment.
#[derive(Debug, Clone, Default)]
pub struct Live {
    pub links: Vec<LiveLink>,
    /// Addresses by link index.
    pub addresses: Vec<(u32, Cidr)>,
    pub routes: Vec<LiveRoute>,
    /// Ordered by priority.
    pub policies: Vec<Policy>,
    pub neighbours: Vec<Neighbour>,
    pub forwarding: Vec<Forwarding>,
    pub switching: Vec<Switching>,
    pub tables: Tables,
    pub sockets: Vec<Listening>,
    /// Connections by original destination and by who answers.
    pub flows: BTreeMap<FlowKey, u64>,
    /// Whether packets for others are forwarded.
    pub forwards: bool,
}

/// Protocol, original destination and port, and the address that answers.
pub type FlowKey = (Protocol, Ipv4Addr, u16, Ipv4Addr);

/// An interface.
#[derive(Debug, Clone, Default)]
pub struct LiveLink {
    pub index: u32,
    pub name: String,
    /// Set up by the administrator.
    pub up: bool,
    /// A carrier, as far as the kind of link knows.
    pub carrier: bool,
    pub bridge: bool,
    pub mtu: u32,
    pub mac: Option<Mac>,
    pub master: Option<u32>,
    /// Index of the other end of a cable, in the other namespace.
    pub peer: Option<u32>,
    /// Id, UDP port and local address of a VXLAN device.
    pub vxlan: Option<(u32, u16, Option<IpAddr>)>,
    pub received: u64,
    pub sent: u64,
    pub dropped: u64,
}

/// A route.
#[derive(Debug, Clone)]
pub struct LiveRoute {
    pub table: u32,
    pub destination: Cidr,
    pub via: Option<Ipv4Addr>,
    pub link: Option<u32>,
    pub source: Option<Ipv4Addr>,
    pub metric: u32,
    pub kind: RouteKind,
}

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    Unicast,
    Local,
    /// Refuses or swallows.
    Closed,
    /// Broadcast, multicast and the like: not for our packets.
    Other,
}

/// A rule that chooses a routing table.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    pub priority: u32,
    pub table: u32,
    /// Mark and mask.
    pub mark: Option<(u32, u32)>,
    /// Whether it looks at more than the mark, which is not judged here.
    pub particular: bool,
}

/// A neighbour entry.
#[derive(Debug, Clone)]
pub struct Neighbour {
    pub link: u32,
    pub address: Ipv4Addr,
    pub mac: Option<Mac>,
    /// `permanent`, `reachable`, `stale`, `failed` and so on.
    pub state: &'static str,
}

/// A forwarding entry of a VXLAN device.
#[derive(Debug, Clone)]
pub struct Forwarding {
    pub link: u32,
    pub mac: Mac,
    pub node: IpAddr,
}

/// An entry of a bridge's forwarding table.
#[derive(Debug, Clone)]
pub struct Switching {
    pub bridge: u32,
    pub mac: Mac,
    /// The port, or the bridge itself.
    pub port: u32,
    pub entry: Entry,
    /// Packets from elsewhere do not move it.
    pub sticky: bool,
}

/// How an entry came into a bridge's forwarding table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// For an address of the bridge's own: packets for it are for the bridge's namespace.
    Own,
    /// Made, and there until it is taken away.
    Lasting,
    /// From a packet that came in over the port.
    Learnt,
}

/// A socket that takes connections or packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    pub protocol: Protocol,
    pub address: IpAddr,
    pub port: u16,
}

/// What the routing tables say.
#[derive(Debug, Clone)]
pub struct Hit<'a> {
    pub route: &'a LiveRoute,
}

impl Live {
    /// A link by name.
    pub fn link(&self, name: &str) -> Option<&LiveLink> {
        self.links.iter().find(|l| l.name == name)
    }

    /// A link by index.
    pub fn link_at(&self, index: u32) -> Option<&LiveLink> {
        self.links.iter().find(|l| l.index == index)
    }

    /// Whether the namespace itself has the address.
    pub fn is_local(&self, address: Ipv4Addr) -> bool {
        address.is_loopback() || self.addresses.iter().any(|(_, a)| a.addr() == address)
    }

    /// The link that has an address.
    pub fn owner(&self, address: Ipv4Addr) -> Option<&LiveLink> {
        let (index, _) = self.addresses.iter().find(|(_, a)| a.addr() == address)?;
        self.link_at(*index)
    }

    /// The first address of a link.
    pub fn address_of(&self, link: &str) -> Option<Ipv4Addr> {
        let index = self.link(link)?.index;
        self.addresses.iter().find(|(i, _)| *i == index).map(|(_, a)| a.addr())
    }

    /// Looks up a route. An unknown destination (`None`) takes default routes only.
    pub fn route(&self, to: Option<Ipv4Addr>, mark: u32) -> Option<Hit<'_>> {
        let policies = self.policies.iter().filter(|p| {
            !p.particular && p.mark.is_none_or(|(value, mask)| mark & mask == value & mask)
        });
        for policy in policies {
            let best = self
                .routes
                .iter()
                .filter(|r| r.table == policy.table && r.kind != RouteKind::Other)
                .filter(|r| match to {
                    Some(to) => r.destination.contains(to),
                    None => r.destination.prefix() == 0,
                })
                .max_by_key(|r| (r.destination.prefix(), std::cmp::Reverse(r.metric)));
            if let Some(route) = best {
                return Some(Hit { route });
            }
        }
        None
    }

    /// The neighbour entry of an address on a link.
    pub fn neighbour(&self, link: u32, address: Ipv4Addr) -> Option<&Neighbour> {
        self.neighbours.iter().find(|n| n.link == link && n.address == address)
    }

    /// What a bridge's forwarding table has for an Ethernet address.
    pub fn switching(&self, bridge: u32, mac: Mac) -> Option<&Switching> {
        self.switching.iter().find(|s| s.bridge == bridge && s.mac == mac)
    }

    /// Sockets of a protocol on a port.
    pub fn listening(
        &self,
        protocol: Protocol,
        port: u16,
    ) -> impl Iterator<Item = &Listening> + '_ {
        self.sockets.iter().filter(move |s| s.protocol == protocol && s.port == port)
    }

    /// Remembered connections to a destination, answered by `by` or by anybody.
    pub fn connections(
        &self,
        protocol: Protocol,
        to: Ipv4Addr,
        port: u16,
        by: Option<Ipv4Addr>,
    ) -> u64 {
        self.flows
            .iter()
            .filter(|((p, address, n, answers), _)| {
                *p == protocol && *address == to && *n == port && by.is_none_or(|by| by == *answers)
            })
            .map(|(_, count)| count)
            .sum()
    }
}

impl LiveLink {
    /// Whether packets pass.
    pub fn passes(&self) -> bool {
        self.up && self.carrier
    }
}

impl Listening {
    /// Whether a packet to this address reaches the socket. A socket on `::` takes
    /// IPv4 as well, unless its owner said otherwise, which the kernel does not show.
    pub fn takes(&self, address: Ipv4Addr) -> bool {
        match self.address {
            IpAddr::V4(own) => own.is_unspecified() || own == address,
            IpAddr::V6(own) => {
                own.is_unspecified() || own.to_ipv4_mapped().is_some_and(|own| own == address)
            }
        }
    }
}
