use std::collections::BTreeMap;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use super::AddressError;

/// A network interface of the host with its addresses, in the kernel's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub name: String,
    pub up: bool,
    pub loopback: bool,
    /// Made by this daemon: its addresses are not the host's own.
    pub ours: bool,
    pub addresses: Vec<IpAddr>,
}

/// The interfaces of this network namespace, by name.
pub(crate) fn host_links(is_ours: &dyn Fn(&str) -> bool) -> Result<Vec<Link>, AddressError> {
    let mut links: BTreeMap<String, Link> = BTreeMap::new();
    let all = getifaddrs().map_err(|e| AddressError::Links(e.to_string()))?;
    for entry in all {
        let name = entry.interface_name;
        let link = links.entry(name.clone()).or_insert_with(|| Link {
            up: entry.flags.contains(InterfaceFlags::IFF_UP),
            loopback: entry.flags.contains(InterfaceFlags::IFF_LOOPBACK),
            ours: is_ours(&name),
            name,
            addresses: Vec::new(),
        });
        let Some(address) = entry.address else { continue };
        if let Some(v4) = address.as_sockaddr_in() {
            link.addresses.push(IpAddr::V4(v4.ip()));
        } else if let Some(v6) = address.as_sockaddr_in6() {
            link.addresses.push(IpAddr::V6(v6.ip()));
        }
    }
    Ok(links.into_values().collect())
}
