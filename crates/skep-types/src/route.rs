use std::fmt;
use std::net::Ipv4Addr;

/// Routes with shorter prefixes are ways out and not destinations: the default route, its halves
/// `0.0.0.0/1` and `128.0.0.0/1`, and what else a VPN that takes everything cuts the world into.
const SHORTEST: u8 = 8;

/// A route of a host to a place that is not one of our networks, which a network's subnet must not
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
    /// Name of the link; empty for routes without one and with several.
    pub interface: String,
    /// Whether the destination is an interface's own subnet, where neighbours are, and not what
    /// somebody routes there.
    pub connected: bool,
}

impl HostRoute {
    /// Whether a subnet has addresses in common with the route's destination. Never with a way out.
    pub fn touches(&self, subnet: Ipv4Addr, prefix: u8) -> bool {
        let common = self.prefix.min(prefix);
        let mask = u32::MAX.checked_shl(32 - u32::from(common.min(32))).unwrap_or(0);
        self.prefix >= SHORTEST && (u32::from(self.destination) ^ u32::from(subnet)) & mask == 0
    }

    /// Whether a subnet may not be used because of the route: it covers the whole destination, or
    /// takes addresses from an interface's neighbours. Another route that is wider than the subnet,
    /// such as `10.0.0.0/8` to a VPN, says that some of it is used there and not that all of it is;
    /// then the choice is the user's.
    pub fn forbids(&self, subnet: Ipv4Addr, prefix: u8) -> bool {
        self.touches(subnet, prefix) && (self.connected || self.prefix >= prefix)
    }
}

impl fmt::Display for HostRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this host's route to {}/{}", self.destination, self.prefix)?;
        if self.interface.is_empty() { Ok(()) } else { write!(f, " over {}", self.interface) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_collides() {
        // Route, whether it is an interface's subnet; subnet; touches, forbids.
        let cases = [
            ("0.0.0.0/0", false, "172.17.0.0/16", false, false),
            ("0.0.0.0/1", false, "10.0.0.0/24", false, false),
            ("128.0.0.0/1", false, "172.17.0.0/16", false, false),
            ("8.0.0.0/7", true, "8.0.1.0/24", false, false),
            ("10.0.0.0/8", false, "10.0.1.0/24", true, false),
            ("10.0.0.0/8", true, "10.0.1.0/24", true, true),
            ("10.0.0.0/8", false, "10.0.0.0/8", true, true),
            ("10.0.0.0/8", true, "11.0.0.0/8", false, false),
            ("10.0.1.0/24", false, "10.0.0.0/16", true, true),
            ("10.0.1.0/24", false, "10.0.1.0/24", true, true),
            ("10.0.1.0/24", false, "10.0.1.128/25", true, false),
            ("10.0.1.0/24", true, "10.0.1.128/25", true, true),
            ("10.0.1.0/24", true, "10.0.2.0/24", false, false),
            ("10.0.1.7/32", false, "10.0.1.0/24", true, true),
            ("10.0.1.7/32", false, "10.0.1.8/32", false, false),
        ];
        let parse = |text: &str| -> (Ipv4Addr, u8) {
            let (address, prefix) = text.split_once('/').unwrap();
            (address.parse().unwrap(), prefix.parse().unwrap())
        };
        for (route, connected, subnet, touches, forbids) in cases {
            let (destination, prefix) = parse(route);
            let found = HostRoute { destination, prefix, interface: String::new(), connected };
            let (address, length) = parse(subnet);
            assert_eq!(found.touches(address, length), touches, "{route} {connected} {subnet}");
            assert_eq!(found.forbids(address, length), forbids, "{route} {connected} {subnet}");
        }
    }
}
