//! Remote endpoints on a VXLAN device: permanent neighbour and forwarding entries; and none of others
//! on the bridge above.

use super::netlink::{Mode, Netlink};
use super::{Applied, refused};
use crate::cidr::Mac;
use crate::error::Result;
use crate::plan::VxlanPlan;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// An entry: for an address (neighbour) or for a node (forwarding), by Ethernet address.
type Entry = (IpAddr, Mac);

/// What the kernel of a namespace has, read once for all its devices.
pub struct Entries {
    neighbours: Vec<NeighbourMessage>,
    forwarding: Vec<NeighbourMessage>,
}

impl Entries {
    /// Reads them.
    pub fn read(netlink: &mut Netlink, namespace: &str) -> Result<Self> {
        Ok(Self {
            neighbours: list(netlink, namespace, AddressFamily::Inet)?,
            forwarding: list(netlink, namespace, AddressFamily::Bridge)?,
        })
    }
}

/// Makes the device's entries those of the plan.
pub fn apply(
    netlink: &mut Netlink,
    namespace: &str,
    index: u32,
    plan: &VxlanPlan,
    entries: &Entries,
) -> Applied {
    let mut changed = 0;
    for (family, wanted, entries) in [
        (AddressFamily::Inet, plan.neighbours(), &entries.neighbours),
        (AddressFamily::Bridge, plan.nodes(), &entries.forwarding),
    ] {
        let found = permanent(entries, family, index);
        changed += differ(netlink, namespace, (&plan.name, index), family, &found, &wanted)?;
    }
    Ok(changed)
}

/// Brings the device's entries from one plan to another, without reading them.
pub fn change(
    netlink: &mut Netlink,
    namespace: &str,
    index: u32,
    before: &VxlanPlan,
    plan: &VxlanPlan,
) -> Applied {
    let mut changed = 0;
    for (family, found, wanted) in [
        (AddressFamily::Inet, before.neighbours(), plan.neighbours()),
        (AddressFamily::Bridge, before.nodes(), plan.nodes()),
    ] {
        changed += differ(netlink, namespace, (&plan.name, index), family, &found, &wanted)?;
    }
    Ok(changed)
}

/// Removes and enters until there are exactly the wanted ones.
fn differ(
    netlink: &mut Netlink,
    namespace: &str,
    (name, index): (&str, u32),
    family: AddressFamily,
    found: &BTreeSet<Entry>,
    wanted: &BTreeSet<Entry>,
) -> Applied {
    let mut changed = 0;
    for entry in found.difference(wanted) {
        let message = RouteNetlinkMessage::DelNeighbour(message(family, index, *entry));
        match netlink.request(message, Mode::Change) {
            // Somebody else was faster.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOENT) => {}
            result => result.map_err(refused(
                namespace,
                format!("forget {} at {} on {name}", entry.1, entry.0),
            ))?,
        }
        changed += 1;
        if family == AddressFamily::Bridge {
            forget_learnt(netlink, namespace, index, entry.1)?;
        }
    }
    for entry in wanted.difference(found) {
        let message = RouteNetlinkMessage::NewNeighbour(message(family, index, *entry));
        netlink
            .request(message, Mode::Replace)
            .map_err(refused(namespace, format!("enter {} at {} on {name}", entry.1, entry.0)))?;
        changed += 1;
    }
    Ok(changed)
}

impl VxlanPlan {
    /// Who has an address.
    fn neighbours(&self) -> BTreeSet<Entry> {
        self.peers.iter().map(|(ip, mac, _)| (IpAddr::V4(*ip), *mac)).collect()
    }

    /// On which node an Ethernet address is.
    fn nodes(&self) -> BTreeSet<Entry> {
        self.peers.iter().map(|(_, mac, node)| (*node, *mac)).collect()
    }
}

/// Removes lasting entries that somebody made in the forwarding tables of an overlay's bridges. A bridge
/// learns by itself who is behind its ports, and has of itself one lasting entry at each link, for that
/// link's own Ethernet address; any other leads packets astray for good. `links` are the links to look
/// at, by index: what is at a port that is going goes with it.
pub fn unlearn(
    netlink: &mut Netlink,
    namespace: &str,
    links: &BTreeMap<u32, Mac>,
    entries: &Entries,
) -> Applied {
    let mut changed = 0;
    for message in &entries.forwarding {
        let Some(bridge) = bridge_of(message) else { continue };
        let lasting =
            matches!(message.header.state, NeighbourState::Permanent | NeighbourState::Noarp);
        let (_, Some(mac)) = who(message) else { continue };
        let strange = links.get(&message.header.ifindex).is_some_and(|own| *own != mac);
        if !lasting || !strange {
            continue;
        }
        let mut doomed = NeighbourMessage::default();
        doomed.header.family = AddressFamily::Bridge;
        doomed.header.ifindex = message.header.ifindex;
        // A port's entry is asked of its bridge, the bridge's own of itself.
        doomed.header.flags = if bridge == message.header.ifindex {
            NeighbourFlags::Own
        } else {
            NeighbourFlags::Controller
        };
        doomed.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
        match netlink.request(RouteNetlinkMessage::DelNeighbour(doomed), Mode::Change) {
            // It went by itself, or its link did.
            Err(error)
                if matches!(error.raw_os_error(), Some(nix::libc::ENOENT | nix::libc::ENODEV)) => {}
            result => {
                result.map_err(refused(namespace, format!("remove the lasting entry of {mac}")))?;
                changed += 1;
            }
        }
    }
    Ok(changed)
}

/// The bridge above has learnt from packets that the address is behind the device;
/// without this it would go on believing so for minutes.
fn forget_learnt(netlink: &mut Netlink, namespace: &str, index: u32, mac: Mac) -> Result<()> {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    message.header.flags = NeighbourFlags::Controller;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    match netlink.request(RouteNetlinkMessage::DelNeighbour(message), Mode::Change) {
        // Nothing was learnt.
        Err(error) if error.raw_os_error() == Some(nix::libc::ENOENT) => Ok(()),
        result => result.map_err(refused(namespace, format!("forget that {mac} was seen"))),
    }
}

/// The lasting entries of a device.
fn permanent(entries: &[NeighbourMessage], family: AddressFamily, index: u32) -> BTreeSet<Entry> {
    let own = entries.iter().filter(|message| {
        message.header.ifindex == index
            && message.header.family == family
            && message.header.state == NeighbourState::Permanent
    });
    own.filter_map(|message| match who(message) {
        (Some(address), Some(mac)) => Some((address, mac)),
        _ => None,
    })
    .collect()
}

/// The kernel's neighbour entries (family inet) or forwarding entries (family bridge) of all devices.
pub(super) fn list(
    netlink: &mut Netlink,
    namespace: &str,
    family: AddressFamily,
) -> Result<Vec<NeighbourMessage>> {
    let mut request = NeighbourMessage::default();
    request.header.family = family;
    let answers = netlink
        .dump(RouteNetlinkMessage::GetNeighbour(request))
        .map_err(refused(namespace, "list neighbours"))?;
    let messages = answers.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewNeighbour(message) => Some(message),
        _ => None,
    });
    Ok(messages.collect())
}

/// The bridge in whose forwarding table an entry is; none for those of other devices.
pub(super) fn bridge_of(message: &NeighbourMessage) -> Option<u32> {
    message.attributes.iter().find_map(|a| match a {
        NeighbourAttribute::Controller(bridge) => Some(*bridge),
        _ => None,
    })
}

/// The address and the Ethernet address that an entry ties together.
pub(super) fn who(message: &NeighbourMessage) -> (Option<IpAddr>, Option<Mac>) {
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => {
                address = Some(IpAddr::V4(*a))
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(a)) => {
                address = Some(IpAddr::V6(*a))
            }
            // A forwarding entry's destination has no family; its length tells.
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => address = ip(bytes),
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac);
            }
            _ => {}
        }
    }
    (address, mac)
}

/// An address by its length.
fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(four));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

fn message(family: AddressFamily, index: u32, (address, mac): Entry) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    if family == AddressFamily::Bridge {
        message.header.flags = NeighbourFlags::Own;
    }
    let destination = match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    };
    message.attributes.push(NeighbourAttribute::Destination(destination));
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    message
}
