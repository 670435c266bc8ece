//! IPv4 prefixes and Ethernet addresses, the two value types every plan is made of.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An IPv4 address with a prefix length, text form `10.0.1.5/24`. Whether it
/// means an address on a link or a whole subnet is up to the field that holds it;
/// [`Cidr::network`] clears the host bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    addr: Ipv4Addr,
    prefix: u8,
}

/// Why a text is not an IPv4 prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid CIDR address: {0}")]
pub struct ParseCidrError(String);

impl Cidr {
    /// `None` when the prefix length is over 32.
    pub const fn new(addr: Ipv4Addr, prefix: u8) -> Option<Self> {
        if prefix > 32 { None } else { Some(Self { addr, prefix }) }
    }

    /// One address, `/32`.
    pub const fn host(addr: Ipv4Addr) -> Self {
        Self { addr, prefix: 32 }
    }

    /// The address as written, host bits included.
    pub const fn addr(&self) -> Ipv4Addr {
        self.addr
    }

    /// Prefix length, 0 to 32 included.
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The netmask as a number.
    pub const fn mask(&self) -> u32 {
        if self.prefix == 0 { 0 } else { u32::MAX << (32 - self.prefix) }
    }

    /// The subnet: host bits cleared.
    pub fn network(&self) -> Self {
        Self { addr: Ipv4Addr::from(u32::from(self.addr) & self.mask()), prefix: self.prefix }
    }

    /// First address of the subnet, as a number.
    pub fn first(&self) -> u32 {
        u32::from(self.addr) & self.mask()
    }

    /// Last address of the subnet (the broadcast address), included.
    pub fn last(&self) -> u32 {
        self.first() | !self.mask()
    }

    /// The broadcast address.
    pub fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.last())
    }

    /// Whether `addr` lies in the subnet, its first and last address included.
    pub fn contains(&self, addr: Ipv4Addr) -> bool {
        u32::from(addr) & self.mask() == self.first()
    }

    /// Whether the two subnets share an address.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.first() <= other.last() && other.first() <= self.last()
    }

    /// The same prefix length around another address.
    pub fn with_addr(&self, addr: Ipv4Addr) -> Self {
        Self { addr, prefix: self.prefix }
    }

    /// The `n`th subnet of length `size` inside this one, `None` past the end
    /// or when `size` is shorter than the own prefix.
    pub fn subnet(&self, size: u8, n: u32) -> Option<Self> {
        if size < self.prefix || size > 32 {
            return None;
        }
        let step = 1u64 << (32 - size);
        let start = u64::from(self.first()) + step * u64::from(n);
        let start = u32::try_from(start).ok()?;
        (start <= self.last()).then_some(Self { addr: Ipv4Addr::from(start), prefix: size })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
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
        let bad = || ParseCidrError(text.to_owned());
        let (addr, prefix) = text.split_once('/').ok_or_else(bad)?;
        let addr = addr.parse().map_err(|_| bad())?;
        let prefix = prefix.parse().map_err(|_| bad())?;
        Self::new(addr, prefix).ok_or_else(bad)
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

/// An Ethernet address, text form `02:42:0a:00:01:05`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// Why a text is not an Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid MAC address: {0}")]
pub struct ParseMacError(String);

impl Mac {
    /// Docker's address of an endpoint: `02:42` and the four IPv4 bytes.
    pub const fn of(addr: Ipv4Addr) -> Self {
        let [a, b, c, d] = addr.octets();
        Self([0x02, 0x42, a, b, c, d])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseMacError(text.to_owned());
        let mut bytes = [0u8; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(bad)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        // A multicast bit in the first byte names a group, which no interface may have.
        if parts.next().is_some() || bytes[0] & 1 == 1 {
            return Err(bad());
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_are_cut_in_order_and_end() {
        let pool: Cidr = "172.20.0.0/14".parse().unwrap();
        assert_eq!(pool.subnet(16, 3).unwrap().to_string(), "172.23.0.0/16");
        assert_eq!(pool.subnet(16, 4), None);
        assert_eq!(pool.subnet(8, 0), None);
    }

    #[test]
    fn overlap_counts_containment_both_ways() {
        let wide: Cidr = "10.0.0.0/8".parse().unwrap();
        let narrow: Cidr = "10.3.1.0/24".parse().unwrap();
        let other: Cidr = "11.0.0.0/8".parse().unwrap();
        assert!(wide.overlaps(&narrow) && narrow.overlaps(&wide));
        assert!(!wide.overlaps(&other));
    }

    #[test]
    fn mac_follows_the_address() {
        assert_eq!(Mac::of("10.0.1.5".parse().unwrap()).to_string(), "02:42:0a:00:01:05");
        assert!("01:42:0a:00:01:05".parse::<Mac>().is_err());
        assert!("02:42:0a:00:01".parse::<Mac>().is_err());
    }
}
