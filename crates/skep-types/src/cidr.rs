use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// An IPv4 address with a prefix length, text form `10.0.1.5/24`. Whether it means an address on a link or a whole
/// subnet is up to the field that holds it; [`Cidr::network`] clears the host bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr(Ipv4Net);

/// Why a text is not an IPv4 prefix, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid CIDR address: {0}")]
pub struct ParseCidrError(String);

impl Cidr {
    /// `None` when the prefix length is over 32.
    pub const fn new(addr: Ipv4Addr, prefix: u8) -> Option<Self> {
        match Ipv4Net::new(addr, prefix) {
            Ok(net) => Some(Self(net)),
            Err(_) => None,
        }
    }

    /// One address, `/32`.
    pub const fn host(addr: Ipv4Addr) -> Self {
        Self(Ipv4Net::new_assert(addr, 32))
    }

    /// The address as written, host bits included.
    pub const fn addr(&self) -> Ipv4Addr {
        self.0.addr()
    }

    /// Prefix length, 0 to 32 included.
    pub const fn prefix(&self) -> u8 {
        self.0.prefix_len()
    }

    /// The netmask as a number.
    pub fn mask(&self) -> u32 {
        u32::from(self.0.netmask())
    }

    /// The subnet: host bits cleared.
    #[must_use]
    pub fn network(&self) -> Self {
        Self(self.0.trunc())
    }

    /// First address of the subnet, as a number.
    pub fn first(&self) -> u32 {
        u32::from(self.0.network())
    }

    /// Last address of the subnet (the broadcast address), included.
    pub fn last(&self) -> u32 {
        u32::from(self.0.broadcast())
    }

    /// The broadcast address.
    pub fn broadcast(&self) -> Ipv4Addr {
        self.0.broadcast()
    }

    /// Whether `addr` lies in the subnet, its first and last address included.
    pub fn contains(&self, addr: Ipv4Addr) -> bool {
        self.0.contains(&addr)
    }

    /// Whether the whole of the other subnet lies in this one.
    pub fn covers(&self, other: &Self) -> bool {
        self.0.contains(&other.0)
    }

    /// Whether the two subnets share an address: then one covers the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// Why no network can have this subnet, if none can: it has addresses that the kernel never takes for a
    /// host's. Link-local ones are, as with Docker, the user's business.
    pub fn unusable(&self) -> Option<&'static str> {
        let block = |a, prefix| Self(Ipv4Net::new_assert(Ipv4Addr::new(a, 0, 0, 0), prefix));
        let blocks = [
            (block(0, 8), "it has addresses of 0.0.0.0/8, which mean \"this host\""),
            (block(127, 8), "it has loopback addresses (127.0.0.0/8)"),
            (block(224, 4), "it has multicast addresses (224.0.0.0/4)"),
            (Self::host(Ipv4Addr::BROADCAST), "it has the address of all hosts, 255.255.255.255"),
        ];
        blocks.into_iter().find(|(block, _)| self.overlaps(block)).map(|(_, why)| why)
    }

    /// The same prefix length around another address.
    #[must_use]
    pub fn with_addr(&self, addr: Ipv4Addr) -> Self {
        Self::new(addr, self.prefix()).unwrap_or(*self)
    }

    /// How many subnets of prefix length `size` lie in this one; none when `size` is shorter than the own prefix, or
    /// over 32.
    pub fn subnets(&self, size: u8) -> u64 {
        match size.checked_sub(self.prefix()) {
            Some(bits) if size <= 32 => 1 << bits,
            _ => 0,
        }
    }

    /// The `n`th subnet of prefix length `size` inside this one, counted from 0; `None` past the last.
    pub fn subnet(&self, size: u8, n: u64) -> Option<Self> {
        if n >= self.subnets(size) {
            return None;
        }
        let start = u32::try_from(u64::from(self.first()) + (n << (32 - size))).ok()?;
        Self::new(Ipv4Addr::from(start), size)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Cidr {
    type Err = ParseCidrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| ParseCidrError(text.to_owned()))
    }
}

impl Serialize for Cidr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn texts() {
        for text in ["10.0.1.5/24", "0.0.0.0/0", "255.255.255.255/32"] {
            assert_eq!(cidr(text).to_string(), text);
            assert_eq!(serde_json::to_string(&cidr(text)).unwrap(), format!("\"{text}\""));
        }
        for bad in [
            "",
            "10.0.0.0",
            "10.0.0/8",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "x/8",
            "fd00::/64",
        ] {
            let refused = bad.parse::<Cidr>().map_err(|e| e.to_string());
            assert_eq!(refused, Err(format!("invalid CIDR address: {bad}")));
        }
        assert_eq!(Cidr::new(Ipv4Addr::LOCALHOST, 33), None);
    }

    #[test]
    fn what_lies_in_a_subnet() {
        // As written; its network, first and last address, mask.
        for (text, network, first, last, mask) in [
            ("10.0.1.5/24", "10.0.1.0/24", "10.0.1.0", "10.0.1.255", 0xffff_ff00_u32),
            ("10.0.1.5/32", "10.0.1.5/32", "10.0.1.5", "10.0.1.5", u32::MAX),
            ("10.0.1.5/31", "10.0.1.4/31", "10.0.1.4", "10.0.1.5", u32::MAX - 1),
            ("10.0.1.5/0", "0.0.0.0/0", "0.0.0.0", "255.255.255.255", 0),
        ] {
            let it = cidr(text);
            let (first, last): (Ipv4Addr, Ipv4Addr) =
                (first.parse().unwrap(), last.parse().unwrap());
            assert_eq!(it.network(), cidr(network));
            assert_eq!((it.first(), it.last(), it.mask()), (first.into(), last.into(), mask));
            assert!(it.contains(first) && it.contains(last) && it.broadcast() == last);
            let after = u32::from(last).checked_add(1).map(Ipv4Addr::from);
            assert!(after.is_none_or(|after| !it.contains(after)));
        }
        assert_eq!(cidr("10.0.1.0/24").with_addr(Ipv4Addr::LOCALHOST), cidr("127.0.0.1/24"));
        assert_eq!(Cidr::host(Ipv4Addr::LOCALHOST), cidr("127.0.0.1/32"));
    }

    #[test]
    fn subnets_overlap_where_one_covers_the_other() {
        for (one, other, covers, overlaps) in [
            ("10.0.0.0/8", "10.3.1.0/24", true, true),
            ("10.3.1.0/24", "10.0.0.0/8", false, true),
            ("10.0.0.0/8", "11.0.0.0/8", false, false),
            ("10.0.0.7/24", "10.0.0.9/24", true, true),
            ("0.0.0.0/0", "10.0.0.0/8", true, true),
            ("10.0.0.0/25", "10.0.0.128/25", false, false),
        ] {
            let (one, other) = (cidr(one), cidr(other));
            assert_eq!((one.covers(&other), one.overlaps(&other)), (covers, overlaps));
            assert_eq!(other.overlaps(&one), overlaps, "{one} {other}");
        }
    }

    #[test]
    fn what_no_network_can_have() {
        for (text, why) in [
            ("127.0.0.0/8", Some("loopback")),
            ("127.1.2.0/24", Some("loopback")),
            ("0.0.0.0/8", Some("this host")),
            ("0.0.0.0/0", Some("this host")),
            ("64.0.0.0/2", Some("loopback")),
            ("224.0.0.0/4", Some("multicast")),
            ("239.255.0.0/16", Some("multicast")),
            ("240.0.0.0/4", Some("all hosts")),
            ("255.255.255.0/24", Some("all hosts")),
            ("240.1.0.0/16", None),
            ("169.254.0.0/16", None),
            ("126.0.0.0/8", None),
            ("128.0.0.0/8", None),
            ("10.0.0.0/8", None),
        ] {
            let found = cidr(text).unusable();
            assert_eq!(found.is_some(), why.is_some(), "{text}: {found:?}");
            assert!(found.unwrap_or("").contains(why.unwrap_or("")), "{text}: {found:?}");
        }
    }

    #[test]
    fn subnets_are_cut_in_order_and_end() {
        for (pool, size, count, number, piece) in [
            ("172.20.0.0/14", 16, 4, 3, Some("172.23.0.0/16")),
            ("172.20.0.0/14", 16, 4, 4, None),
            ("172.20.0.0/14", 8, 0, 0, None),
            ("172.20.0.0/14", 33, 0, 0, None),
            ("10.1.2.3/8", 24, 65536, 1, Some("10.0.1.0/24")),
            ("10.0.0.0/24", 24, 1, 0, Some("10.0.0.0/24")),
            ("0.0.0.0/0", 32, 1 << 32, (1 << 32) - 1, Some("255.255.255.255/32")),
            ("0.0.0.0/0", 0, 1, 0, Some("0.0.0.0/0")),
            ("0.0.0.0/0", 0, 1, 1, None),
            ("255.0.0.0/8", 16, 256, 256, None),
        ] {
            assert_eq!(cidr(pool).subnets(size), count, "{pool} {size}");
            assert_eq!(cidr(pool).subnet(size, number), piece.map(cidr), "{pool} {size} {number}");
        }
    }
}
