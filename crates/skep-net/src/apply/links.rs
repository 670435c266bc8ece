//! Links and their addresses: bridges, VXLAN devices, cables.

use super::netlink::{Mode, Netlink};
use super::{Applied, refused};
use crate::cidr::{Cidr, Mac};
use crate::error::{NetError, Result};
use crate::plan::{ALIAS, BridgePlan, CablePlan, VxlanPlan};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::{
    BridgePortState, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth,
    InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Number of the group of links that are about to be removed.
const DOOMED: u32 = 0x5ce0;
/// How long a VXLAN device waits for its id to become free.
const LEFTOVER: Duration = Duration::from_millis(500);
/// Between two attempts at that.
const LEFTOVER_POLL: Duration = Duration::from_millis(20);
/// Bytes of an Ethernet frame without jumbo frames.
pub const ETHERNET_MTU: u16 = 1500;

/// A link as the kernel has it.
#[derive(Debug, Clone, Default)]
pub struct Link {
    pub index: u32,
    pub up: bool,
    pub mtu: u32,
    pub mac: Vec<u8>,
    pub master: Option<u32>,
    pub alias: String,
    pub kind: Option<InfoKind>,
    pub isolated: bool,
    /// Id, port and local address of a VXLAN device.
    pub vxlan: (u32, u16, Option<IpAddr>),
    /// A carrier, as far as the kind of link knows.
    pub carrier: bool,
    /// Index of the link below or at the other end, which may be in another namespace.
    pub lower: Option<u32>,
    pub counts: Counts,
}

/// Packets since the link was made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub received: u64,
    pub sent: u64,
    pub dropped: u64,
}

impl Link {
    /// Whether it bears our mark: no other is ever changed or removed.
    pub fn is_ours(&self) -> bool {
        self.alias.starts_with(ALIAS)
    }
}

/// The links of a namespace by name.
pub type Links = BTreeMap<String, Link>;

/// Reads the links.
pub fn read(netlink: &mut Netlink, namespace: &str) -> Result<Links> {
    let answers = netlink
        .dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))
        .map_err(refused(namespace, "list links"))?;
    let mut links = Links::new();
    for answer in answers {
        if let RouteNetlinkMessage::NewLink(message) = answer {
            let (name, link) = parse(message);
            links.insert(name, link);
        }
    }
    Ok(links)
}

/// Reads one link by its name; `None` where there is none. Costs the same however many others there are.
pub fn get(netlink: &mut Netlink, namespace: &str, name: &str) -> Result<Option<Link>> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    get_one(netlink, namespace, message, name)
}

/// Reads one link by its index.
fn get_by_index(netlink: &mut Netlink, namespace: &str, index: u32) -> Result<Option<Link>> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    get_one(netlink, namespace, message, &format!("number {index}"))
}

fn get_one(
    netlink: &mut Netlink,
    namespace: &str,
    message: LinkMessage,
    what: &str,
) -> Result<Option<Link>> {
    match netlink.get(RouteNetlinkMessage::GetLink(message)) {
        Ok(RouteNetlinkMessage::NewLink(message)) => Ok(Some(parse(message).1)),
        Ok(_) => Ok(None),
        Err(error) if error.raw_os_error() == Some(nix::libc::ENODEV) => Ok(None),
        Err(source) => Err(refused(namespace, format!("read link {what}"))(source)),
    }
}

/// Reads a link again after a change.
fn refresh(netlink: &mut Netlink, namespace: &str, name: &str, links: &mut Links) -> Result<()> {
    match get(netlink, namespace, name)? {
        Some(link) => links.insert(name.to_owned(), link),
        None => links.remove(name),
    };
    Ok(())
}

fn parse(message: LinkMessage) -> (String, Link) {
    let mut name = String::new();
    let mut link = Link {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        carrier: message.header.flags.contains(LinkFlags::LowerUp),
        ..Link::default()
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(value) => name = value,
            LinkAttribute::Mtu(value) => link.mtu = value,
            LinkAttribute::Address(value) => link.mac = value,
            LinkAttribute::Controller(value) => link.master = (value != 0).then_some(value),
            LinkAttribute::IfAlias(value) => link.alias = value,
            LinkAttribute::Link(lower) => link.lower = Some(lower),
            LinkAttribute::Stats64(stats) => {
                link.counts = Counts {
                    received: stats.rx_packets,
                    sent: stats.tx_packets,
                    dropped: stats.rx_dropped.saturating_add(stats.tx_dropped),
                };
            }
            LinkAttribute::LinkInfo(infos) => {
                infos.into_iter().for_each(|info| parse_info(&mut link, info))
            }
            _ => {}
        }
    }
    (name, link)
}

fn parse_info(link: &mut Link, info: LinkInfo) {
    match info {
        LinkInfo::Kind(kind) => link.kind = Some(kind),
        LinkInfo::Data(InfoData::Vxlan(values)) => {
            for value in values {
                match value {
                    InfoVxlan::Id(id) => link.vxlan.0 = id,
                    InfoVxlan::Port(port) => link.vxlan.1 = port,
                    InfoVxlan::Local(address) => link.vxlan.2 = Some(address.into()),
                    InfoVxlan::Local6(address) => link.vxlan.2 = Some(address.into()),
                    _ => {}
                }
            }
        }
        LinkInfo::PortData(InfoPortData::BridgePort(values)) => {
            link.isolated = values.iter().any(|v| matches!(v, InfoBridgePort::Isolated(true)));
        }
        _ => {}
    }
}

/// Reads the IPv4 addresses by link index.
pub fn read_addresses(
    netlink: &mut Netlink,
    namespace: &str,
) -> Result<BTreeMap<u32, BTreeSet<Cidr>>> {
    let mut found: BTreeMap<u32, BTreeSet<Cidr>> = BTreeMap::new();
    for (index, address) in list_addresses(netlink, namespace)? {
        found.entry(index).or_default().insert(address);
    }
    Ok(found)
}

/// The same with link indexes in the kernel's order: of several addresses of a link the first is the one that it sends
/// from.
pub fn list_addresses(netlink: &mut Netlink, namespace: &str) -> Result<Vec<(u32, Cidr)>> {
    let mut request = AddressMessage::default();
    request.header.family = AddressFamily::Inet;
    let answers = netlink
        .dump(RouteNetlinkMessage::GetAddress(request))
        .map_err(refused(namespace, "list addresses"))?;
    let mut found = Vec::new();
    for answer in answers {
        let RouteNetlinkMessage::NewAddress(message) = answer else { continue };
        if message.header.family != AddressFamily::Inet {
            continue;
        }
        let local = message.attributes.iter().find_map(|a| match a {
            AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
            _ => None,
        });
        if let Some(address) = local.and_then(|a| Cidr::new(a, message.header.prefix_len)) {
            found.push((message.header.index, address));
        }
    }
    Ok(found)
}

/// Adds and removes addresses until the link has exactly these.
pub fn addresses(
    netlink: &mut Netlink,
    namespace: &str,
    link: (&str, u32),
    wanted: &BTreeSet<Cidr>,
    found: &BTreeSet<Cidr>,
) -> Applied {
    let (name, index) = link;
    let mut changed = 0;
    for address in found.difference(wanted) {
        let message = RouteNetlinkMessage::DelAddress(address_message(index, *address));
        netlink
            .request(message, Mode::Change)
            .map_err(refused(namespace, format!("remove address {address} from {name}")))?;
        changed += 1;
    }
    // Subnets first: removing a first address of a subnet takes its others along,
    // so whatever went with one is added again here.
    let mut missing: Vec<&Cidr> = wanted.difference(found).collect();
    missing.sort_by_key(|a| a.prefix());
    for address in missing {
        let message = RouteNetlinkMessage::NewAddress(address_message(index, *address));
        netlink
            .request(message, Mode::Replace)
            .map_err(refused(namespace, format!("add address {address} to {name}")))?;
        changed += 1;
    }
    Ok(changed)
}

fn address_message(index: u32, address: Cidr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = address.prefix();
    message.header.index = index;
    message.header.scope = AddressScope::Universe;
    message.attributes.push(AddressAttribute::Local(address.addr().into()));
    message.attributes.push(AddressAttribute::Address(address.addr().into()));
    let broadcast = if address.prefix() == 32 { address.addr() } else { address.broadcast() };
    message.attributes.push(AddressAttribute::Broadcast(broadcast));
    message
}

/// Removes a link by index.
pub fn remove(netlink: &mut Netlink, namespace: &str, name: &str, index: u32) -> Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    match netlink.request(RouteNetlinkMessage::DelLink(message), Mode::Change) {
        // The other end of a cable may have gone first.
        Err(error) if error.raw_os_error() == Some(nix::libc::ENODEV) => Ok(()),
        result => result.map_err(refused(namespace, format!("remove link {name}"))),
    }
}

/// Removes several links at the cost of one: the kernel removes a group of links
/// together.
pub fn remove_together(netlink: &mut Netlink, namespace: &str, indexes: &[u32]) -> Result<()> {
    if let [only] = indexes {
        return remove(netlink, namespace, &format!("number {only}"), *only);
    }
    for index in indexes {
        let mut message = LinkMessage::default();
        message.header.index = *index;
        message.attributes.push(LinkAttribute::Group(DOOMED));
        match netlink.request(RouteNetlinkMessage::NewLink(message), Mode::Change) {
            Err(error) if error.raw_os_error() == Some(nix::libc::ENODEV) => {}
            result => result
                .map_err(refused(namespace, format!("mark link number {index} for removal")))?,
        }
    }
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::Group(DOOMED));
    match netlink.request(RouteNetlinkMessage::DelLink(message), Mode::Change) {
        // All of them went by themselves.
        Err(error) if error.raw_os_error() == Some(nix::libc::ENODEV) => Ok(()),
        result => result.map_err(refused(namespace, "remove a group of links")),
    }
}

/// Stops a bridge port from forwarding and makes the bridge forget what was behind it.
pub fn silence(netlink: &mut Netlink, namespace: &str, name: &str, link: &Link) -> Result<()> {
    let settings = vec![InfoBridgePort::State(BridgePortState::Disabled), InfoBridgePort::Flush];
    let infos = vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(settings)),
    ];
    let link = Link { up: true, ..link.clone() };
    match adjust(netlink, namespace, (name, &link), vec![LinkAttribute::LinkInfo(infos)]) {
        // It went with the namespace at its other end, which is as silent.
        Err(NetError::Netlink { source, .. })
            if source.raw_os_error() == Some(nix::libc::ENODEV) =>
        {
            Ok(())
        }
        result => result.map(|_| ()),
    }
}

/// Brings a link up and gives it attributes that differ.
fn adjust(
    netlink: &mut Netlink,
    namespace: &str,
    (name, link): (&str, &Link),
    attributes: Vec<LinkAttribute>,
) -> Applied {
    if attributes.is_empty() && link.up {
        return Ok(0);
    }
    let mut message = LinkMessage::default();
    message.header.index = link.index;
    if !link.up {
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
    }
    message.attributes = attributes;
    // NEWLINK rather than SETLINK: only it takes a bridge port's own settings.
    netlink
        .request(RouteNetlinkMessage::NewLink(message), Mode::Change)
        .map_err(refused(namespace, format!("change link {name}")))?;
    Ok(1)
}

fn kind(kind: InfoKind, data: Option<InfoData>) -> LinkAttribute {
    let mut infos = vec![LinkInfo::Kind(kind)];
    infos.extend(data.map(LinkInfo::Data));
    LinkAttribute::LinkInfo(infos)
}

/// Brings loopback up.
pub fn loopback(netlink: &mut Netlink, namespace: &str, links: &Links) -> Applied {
    match links.get("lo") {
        Some(link) => adjust(netlink, namespace, ("lo", link), Vec::new()),
        None => Ok(0),
    }
}

/// Makes a bridge as planned. One that exists and is not ours is used as it is.
pub fn bridge(
    netlink: &mut Netlink,
    namespace: &str,
    plan: &BridgePlan,
    links: &mut Links,
) -> Applied {
    let mut changed = 0;
    if !links.contains_key(&plan.name) {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(plan.name.clone()));
        message.attributes.push(LinkAttribute::Mtu(plan.mtu.into()));
        // Fixed, or the bridge would take the lowest of its ports' and change with them.
        if let Some(address) = plan.addresses.first() {
            message.attributes.push(LinkAttribute::Address(Mac::of(address.addr()).0.to_vec()));
        }
        message.attributes.push(kind(InfoKind::Bridge, None));
        netlink
            .request(RouteNetlinkMessage::NewLink(message), Mode::Create)
            .map_err(refused(namespace, format!("make bridge {}", plan.name)))?;
        changed += 1;
        refresh(netlink, namespace, &plan.name, links)?;
        if !plan.alias.is_empty()
            && let Some(link) = links.get_mut(&plan.name)
        {
            adjust(
                netlink,
                namespace,
                (&plan.name, link),
                vec![LinkAttribute::IfAlias(plan.alias.clone())],
            )?;
            link.alias.clone_from(&plan.alias);
            link.up = true;
        }
    }
    if let Some(link) = links.get(&plan.name) {
        let mut attributes = Vec::new();
        if link.mtu != u32::from(plan.mtu) {
            attributes.push(LinkAttribute::Mtu(plan.mtu.into()));
        }
        changed += adjust(netlink, namespace, (&plan.name, link), attributes)?;
    }
    Ok(changed)
}

/// Makes a VXLAN device as planned: created from the host's namespace, where its
/// packets travel, into this one.
pub fn vxlan(
    netlink: &mut Netlink,
    host: &mut Netlink,
    target: BorrowedFd<'_>,
    namespace: &str,
    plan: &VxlanPlan,
    links: &mut Links,
) -> Applied {
    let mut changed = 0;
    let wrong =
        links.get(&plan.name).filter(|l| l.vxlan != (plan.vni, plan.port, Some(plan.local)));
    if let Some(link) = wrong {
        remove(netlink, namespace, &plan.name, link.index)?;
        links.remove(&plan.name);
    }
    if !links.contains_key(&plan.name) {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(plan.name.clone()));
        message.attributes.push(LinkAttribute::NetNsFd(target.as_raw_fd()));
        message.attributes.push(LinkAttribute::Mtu(plan.mtu.into()));
        let local = match plan.local {
            IpAddr::V4(address) => InfoVxlan::Local(address),
            IpAddr::V6(address) => InfoVxlan::Local6(address),
        };
        // Proxy: address resolution is answered here from the peers' records, for
        // broadcasts are not carried. No learning: what a packet claims must not
        // outlive or override a record.
        let data = vec![
            InfoVxlan::Id(plan.vni),
            local,
            InfoVxlan::Port(plan.port),
            InfoVxlan::Learning(false),
            InfoVxlan::Proxy(true),
        ];
        message.attributes.push(kind(InfoKind::Vxlan, Some(InfoData::Vxlan(data))));
        create_tunnel(host, &message).map_err(|source| match source.raw_os_error() {
            Some(nix::libc::EEXIST | nix::libc::EADDRINUSE) => {
                NetError::VxlanOfAnother { vni: plan.vni, port: plan.port }
            }
            _ => refused(
                namespace,
                format!("make VXLAN device {} with id {}", plan.name, plan.vni),
            )(source),
        })?;
        changed += 1;
        refresh(netlink, namespace, &plan.name, links)?;
    }
    let bridge = links.get(&plan.bridge).map(|l| l.index);
    if let Some(link) = links.get(&plan.name) {
        let mut attributes = Vec::new();
        if link.mtu != u32::from(plan.mtu) {
            attributes.push(LinkAttribute::Mtu(plan.mtu.into()));
        }
        if let (Some(bridge), true) = (bridge, link.master != bridge) {
            attributes.push(LinkAttribute::Controller(bridge));
        }
        changed += adjust(netlink, namespace, (&plan.name, link), attributes)?;
    }
    Ok(changed)
}

/// A device of a namespace that nobody pins or runs in any more holds its VXLAN id until
/// the kernel has taken the namespace apart, which takes it some tens of milliseconds.
fn create_tunnel(host: &mut Netlink, message: &LinkMessage) -> std::io::Result<()> {
    let deadline = Instant::now() + LEFTOVER;
    loop {
        let message = RouteNetlinkMessage::NewLink(message.clone());
        match host.request(message, Mode::Create) {
            Err(error)
                if error.raw_os_error() == Some(nix::libc::EEXIST) && Instant::now() < deadline =>
            {
                std::thread::sleep(LEFTOVER_POLL);
            }
            result => return result,
        }
    }
}

/// Removes all VXLAN devices of a namespace.
pub fn remove_vxlans(netlink: &mut Netlink, namespace: &str) -> Result<()> {
    for (name, link) in read(netlink, namespace)? {
        if matches!(link.kind, Some(InfoKind::Vxlan)) {
            remove(netlink, namespace, &name, link.index)?;
        }
    }
    Ok(())
}

/// The two ends of a cable while it is being laid.
pub struct CableEnds<'a> {
    /// The namespace with the interface.
    pub inner: &'a mut Netlink,
    /// Its handle, for the kernel to put the interface into.
    pub inner_ns: BorrowedFd<'a>,
    /// Its links.
    pub links: &'a mut Links,
    /// The namespace with the bridge.
    pub outer: &'a mut Netlink,
    /// The port there, as far as there is one.
    pub port: Option<Link>,
}

/// Lays a cable as planned. Returns what was changed and whether the port is new.
pub fn cable(ends: &mut CableEnds<'_>, namespace: &str, plan: &CablePlan) -> Result<(usize, bool)> {
    let mut changed = 0;
    let port_ns = plan.port_ns.to_string();
    // An interface without our port at its other end is from another life.
    let halves =
        (ends.links.get(&plan.interface).map(|l| l.index), ends.port.as_ref().map(|l| l.index));
    let whole = matches!(halves, (Some(_), Some(_)));
    if !whole {
        if let (Some(index), _) = halves {
            remove(ends.inner, namespace, &plan.interface, index)?;
        }
        if let (_, Some(index)) = halves {
            remove(ends.outer, &port_ns, &plan.port, index)?;
        }
        lay(ends, namespace, plan)?;
        refresh(ends.inner, namespace, &plan.interface, ends.links)?;
        ends.port = get(ends.outer, &port_ns, &plan.port)?;
        changed += 1;
    }
    if let Some(link) = ends.links.get(&plan.interface) {
        let mut attributes = Vec::new();
        if link.mac != plan.mac.0 {
            attributes.push(LinkAttribute::Address(plan.mac.0.to_vec()));
        }
        if link.mtu != u32::from(plan.mtu) {
            attributes.push(LinkAttribute::Mtu(plan.mtu.into()));
        }
        changed += adjust(ends.inner, namespace, (&plan.interface, link), attributes)?;
    }
    Ok((changed, !whole))
}

/// Sets up the port's end: bridge, isolation, size, up. Fails where the bridge is missing: a cable to nowhere is none.
pub fn port(outer: &mut Netlink, link: Option<&Link>, plan: &CablePlan) -> Applied {
    let port_ns = plan.port_ns.to_string();
    let Some(link) = link else { return Ok(0) };
    let Some(bridge) = get(outer, &port_ns, &plan.bridge)? else {
        return Err(refused(&port_ns, format!("find bridge {} for {}", plan.bridge, plan.port))(
            std::io::Error::from_raw_os_error(nix::libc::ENODEV),
        ));
    };
    let mut changed = 0;
    let mut attributes = Vec::new();
    let moved = link.master != Some(bridge.index);
    if moved {
        attributes.push(LinkAttribute::Controller(bridge.index));
    }
    if link.mtu != u32::from(plan.mtu) {
        attributes.push(LinkAttribute::Mtu(plan.mtu.into()));
    }
    changed += adjust(outer, &port_ns, (&plan.port, link), attributes)?;
    // A separate request: a port's settings exist only once it is one.
    if link.isolated != plan.isolated || (moved && plan.isolated) {
        let setting = InfoPortData::BridgePort(vec![InfoBridgePort::Isolated(plan.isolated)]);
        let infos = vec![LinkInfo::PortKind(InfoPortKind::Bridge), LinkInfo::PortData(setting)];
        let link = Link { up: true, ..link.clone() };
        changed +=
            adjust(outer, &port_ns, (&plan.port, &link), vec![LinkAttribute::LinkInfo(infos)])?;
    }
    Ok(changed)
}

fn lay(ends: &mut CableEnds<'_>, namespace: &str, plan: &CablePlan) -> Result<()> {
    let mut peer = LinkMessage::default();
    // Neither end goes up here: while they are being made they are not yet a pair,
    // and the kernel refuses (ENOTCONN).
    peer.attributes.push(LinkAttribute::IfName(plan.interface.clone()));
    peer.attributes.push(LinkAttribute::Address(plan.mac.0.to_vec()));
    peer.attributes.push(LinkAttribute::Mtu(plan.mtu.into()));
    peer.attributes.push(LinkAttribute::NetNsFd(ends.inner_ns.as_raw_fd()));
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(plan.port.clone()));
    message.attributes.push(LinkAttribute::Mtu(plan.mtu.into()));
    message.attributes.push(kind(InfoKind::Veth, Some(InfoData::Veth(InfoVeth::Peer(peer)))));
    ends.outer.request(RouteNetlinkMessage::NewLink(message), Mode::Create).map_err(refused(
        namespace,
        format!("make interface {} with port {}", plan.interface, plan.port),
    ))
}

/// MTU of the link that has an address, in the namespace of `netlink`.
pub fn mtu_of(netlink: &mut Netlink, namespace: &str, address: Ipv4Addr) -> Result<Option<u32>> {
    let owners = read_addresses(netlink, namespace)?;
    let index = owners.iter().find(|(_, a)| a.iter().any(|a| a.addr() == address));
    let Some((index, _)) = index else { return Ok(None) };
    Ok(get_by_index(netlink, namespace, *index)?.map(|link| link.mtu))
}

/// Tries out the kinds of links we make, in a namespace that is thrown away.
pub fn probe(
    ns: &skep_sys::netns::NetNs,
) -> Vec<(&'static str, &'static str, std::io::Result<()>)> {
    let vxlan = InfoData::Vxlan(vec![InfoVxlan::Id(1), InfoVxlan::Port(4789)]);
    let kinds = [
        ("bridge", "local networks and overlays", InfoKind::Bridge, None),
        ("veth", "every container's network", InfoKind::Veth, None),
        ("vxlan", "overlay networks", InfoKind::Vxlan, Some(vxlan)),
    ];
    kinds
        .into_iter()
        .map(|(name, disables, info, data)| {
            let made = ns.run(|| {
                let mut message = LinkMessage::default();
                message.attributes.push(LinkAttribute::IfName(format!("p{name}")));
                message.attributes.push(kind(info, data));
                Netlink::open(&Arc::default())?
                    .request(RouteNetlinkMessage::NewLink(message), Mode::Create)
            });
            (name, disables, made.and_then(|made| made))
        })
        .collect()
}
