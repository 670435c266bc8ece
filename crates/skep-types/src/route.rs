use std::fmt;
use std::net::Ipv4Addr;

use crate::Cidr;

/// Routes with shorter prefixes are ways out and not destinations: the default route, its halves
/// `0.0.0.0/1` and `128.0.0.0/1`, and what else a VPN that takes everything cuts the world into.
const SHORTEST: u8 = 8;

/// A place that a host reaches and that is not one of our networks, which a network's subnet must not
/// collide with.
///
/// Between a route and a subnet the longer prefix wins, everywhere. So a subnet hides what it has in
/// common with a wider route, and a route hides what it has in common with a wider subnet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostRoute {
    /// First address.
    pub destination: Ipv4Addr,
    /// Prefix length, 0 to 32 included.
    pub prefix: u8,
    /// Name of the link; empty for routes without one and with several, and for name servers.
    pub interface: String,
    /// How the host comes by it.
    pub kind: RouteKind,
}

/// Where a host's route comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteKind {
    /// Somebody routes it.
    Routed,
    /// The subnet of an interface, where neighbours are, with its route in the main table.
    Connected,
    /// The subnet of an address that has no such route: one on loopback, one whose routes are in other
    /// tables, one of an interface that is down.
    Address,
    /// A name server.
    NameServer,
}

impl HostRoute {
    /// Whether a subnet has addresses in common with the route's destination. Never with a way out.
    pub fn touches(&self, subnet: Ipv4Addr, prefix: u8) -> bool {
        let common = |address| Cidr::new(address, self.prefix.min(prefix));
        let both = common(self.destination).zip(common(subnet));
        self.prefix >= SHORTEST && both.is_some_and(|(own, other)| own.overlaps(&other))
    }

    /// Whether a subnet may not be used because of the route: it covers the whole destination, or
    /// takes addresses from an interface's neighbours. Another route that is wider than the subnet,
    /// such as `10.0.0.0/8` to a VPN, says that some of it is used there and not that all of it is;
    /// then the choice is the user's. So it is with a name server, as with Docker: it may be
    /// meant to be in that network.
    pub fn forbids(&self, subnet: Ipv4Addr, prefix: u8) -> bool {
        self.touches(subnet, prefix)
            && match self.kind {
                RouteKind::Connected | RouteKind::Address => true,
                RouteKind::Routed => self.prefix >= prefix,
                RouteKind::NameServer => false,
            }
    }

    /// Whether nobody but a user may choose a subnet: the route forbids it, or it holds a name server, without
    /// which the host knows no names.
    pub fn reserves(&self, subnet: Ipv4Addr, prefix: u8) -> bool {
        self.forbids(subnet, prefix)
            || self.kind == RouteKind::NameServer && self.touches(subnet, prefix)
    }
}

impl fmt::Display for HostRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { destination, prefix, interface, kind } = self;
        match kind {
            RouteKind::NameServer => write!(f, "this host's name server {destination}"),
            RouteKind::Address => {
                write!(f, "this host's address in {destination}/{prefix} on {interface}")
            }
            RouteKind::Routed | RouteKind::Connected => {
                write!(f, "this host's route to {destination}/{prefix}")?;
                if interface.is_empty() { Ok(()) } else { write!(f, " over {interface}") }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_collides() {
        let (eth, vpn) = (RouteKind::Connected, RouteKind::Routed);
        let (own, dns) = (RouteKind::Address, RouteKind::NameServer);
        // Route, its kind; subnet; touches, reserves, forbids.
        let cases = [
            ("0.0.0.0/0", vpn, "172.17.0.0/16", false, false, false),
            ("0.0.0.0/1", vpn, "10.0.0.0/24", false, false, false),
            ("128.0.0.0/1", vpn, "172.17.0.0/16", false, false, false),
            ("8.0.0.0/7", eth, "8.0.1.0/24", false, false, false),
            ("10.0.0.0/8", vpn, "10.0.1.0/24", true, false, false),
            ("10.0.0.0/8", eth, "10.0.1.0/24", true, true, true),
            ("10.0.0.0/8", own, "10.0.1.0/24", true, true, true),
            ("10.0.0.0/8", vpn, "10.0.0.0/8", true, true, true),
            ("10.0.0.0/8", eth, "11.0.0.0/8", false, false, false),
            ("10.0.1.0/24", vpn, "10.0.0.0/16", true, true, true),
            ("10.0.1.0/24", vpn, "10.0.1.0/24", true, true, true),
            ("10.0.1.0/24", vpn, "10.0.1.128/25", true, false, false),
            ("10.0.1.0/24", eth, "10.0.1.128/25", true, true, true),
            ("10.0.1.0/24", own, "10.0.1.128/25", true, true, true),
            ("10.0.1.0/24", eth, "10.0.2.0/24", false, false, false),
            ("10.0.1.7/32", vpn, "10.0.1.0/24", true, true, true),
            ("10.0.1.7/32", vpn, "10.0.1.8/32", false, false, false),
            ("10.0.1.7/32", own, "10.0.1.0/24", true, true, true),
            ("10.0.1.7/32", own, "10.0.2.0/24", false, false, false),
            ("10.0.1.7/32", dns, "10.0.1.0/24", true, true, false),
            ("10.0.1.7/32", dns, "10.0.1.7/32", true, true, false),
            ("10.0.1.7/32", dns, "10.0.2.0/24", false, false, false),
        ];
        let parse = |text: &str| -> (Ipv4Addr, u8) {
            let (address, prefix) = text.split_once('/').unwrap();
            (address.parse().unwrap(), prefix.parse().unwrap())
        };
        for (route, kind, subnet, touches, reserves, forbids) in cases {
            let (destination, prefix) = parse(route);
            let found = HostRoute { destination, prefix, interface: String::new(), kind };
            let (address, length) = parse(subnet);
            assert_eq!(found.touches(address, length), touches, "{route} {kind:?} {subnet}");
            assert_eq!(found.reserves(address, length), reserves, "{route} {kind:?} {subnet}");
            assert_eq!(found.forbids(address, length), forbids, "{route} {kind:?} {subnet}");
        }
    }

    #[test]
    fn each_kind_has_its_words() {
        let route = |kind, interface: &str| {
            let (destination, interface) = (Ipv4Addr::new(10, 0, 1, 0), interface.to_owned());
            HostRoute { destination, prefix: 24, interface, kind }.to_string()
        };
        assert_eq!(route(RouteKind::Routed, ""), "this host's route to 10.0.1.0/24");
        assert_eq!(route(RouteKind::Routed, "tun0"), "this host's route to 10.0.1.0/24 over tun0");
        assert_eq!(
            route(RouteKind::Connected, "eth1"),
            "this host's route to 10.0.1.0/24 over eth1"
        );
        assert_eq!(route(RouteKind::Address, "lo"), "this host's address in 10.0.1.0/24 on lo");
        assert_eq!(route(RouteKind::NameServer, ""), "this host's name server 10.0.1.0");
    }
}
