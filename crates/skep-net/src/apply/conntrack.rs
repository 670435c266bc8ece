//! Connection tracking's memory of where flows lead. As long as packets come, the kernel
//! goes on sending them where the first one went. So entries that contradict the rules
//! are removed: of UDP, whose flows have no end, all, and of TCP those that nobody has
//! answered yet. A client whose first packet went to a host that had just died sends it
//! again, and only without the entry does that reach another backend. A TCP connection
//! that was answered ends with its backend.

use crate::model::Protocol;
use crate::plan::Flow;
use crate::trace::FlowKey;
use nix::ifaddrs::getifaddrs;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;

/// `NFNL_SUBSYS_CTNETLINK`.
const CONNTRACK: u16 = 1;
/// `IPCTNL_MSG_CT_GET`.
const GET: u16 = 1;
/// `IPCTNL_MSG_CT_DELETE`.
const DELETE: u16 = 2;
/// `NLMSG_ERROR`, which also acknowledges.
const ERROR: u16 = 2;
/// `NLMSG_DONE`.
const DONE: u16 = 3;
/// `NLM_F_REQUEST`, with `NLM_F_ACK` or `NLM_F_DUMP`.
const REQUEST_ACK: u16 = 1 | 4;
const REQUEST_DUMP: u16 = 1 | 0x300;
/// Attributes: `CTA_TUPLE_ORIG`, `CTA_TUPLE_REPLY`, `CTA_STATUS`, `CTA_ZONE`.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const STATUS: u16 = 3;
const ZONE: u16 = 18;
/// Protocol numbers.
const TCP: u8 = 6;
/// UDP's.
const UDP: u8 = 17;
/// `IPS_SEEN_REPLY`: packets came in both directions.
const ANSWERED: u32 = 2;
const AF_INET: u8 = 2;

/// One direction of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tuple {
    protocol: u8,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    destination_port: u16,
}

/// Counts the calling thread's namespace's TCP and UDP connections by where they were
/// for and who answers.
pub fn count() -> io::Result<BTreeMap<FlowKey, u64>> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&message(GET, REQUEST_DUMP, &[]), 0)?;
    let mut found = BTreeMap::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        for (kind, body) in messages(&datagram) {
            match kind {
                DONE => return Ok(found),
                ERROR => return acknowledged(body).map(|()| found),
                _ => {
                    if let Some(key) = flow(body) {
                        *found.entry(key).or_default() += 1;
                    }
                }
            }
        }
    }
}

fn flow(body: &[u8]) -> Option<FlowKey> {
    let attributes = body.get(4..)?;
    let first = tuple(attribute(attributes, ORIGINAL)?)?;
    let reply = tuple(attribute(attributes, REPLY)?)?;
    let protocol = match first.protocol {
        TCP => Protocol::Tcp,
        UDP => Protocol::Udp,
        _ => return None,
    };
    Some((protocol, first.destination, first.destination_port, reply.source))
}

/// Removes, in the calling thread's namespace, what contradicts `flows`. Returns how
/// many entries went.
pub fn flush(flows: &[Flow]) -> io::Result<usize> {
    if flows.is_empty() {
        return Ok(0);
    }
    // Only flows to any local address ask for them.
    let local = match flows.iter().any(|flow| flow.address.is_none()) {
        true => local_addresses()?,
        false => BTreeSet::new(),
    };
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&message(GET, REQUEST_DUMP, &[]), 0)?;
    let mut doomed = Vec::new();
    'dump: loop {
        let (datagram, _) = socket.recv_from_full()?;
        for (kind, body) in messages(&datagram) {
            match kind {
                DONE => break 'dump,
                ERROR => {
                    acknowledged(body)?;
                    break 'dump;
                }
                _ => doomed.extend(contradiction(body, flows, &local)),
            }
        }
    }
    let mut gone = 0;
    for key in doomed {
        socket.send(&message(DELETE, REQUEST_ACK, &key), 0)?;
        let (datagram, _) = socket.recv_from_full()?;
        for (kind, body) in messages(&datagram) {
            if kind == ERROR {
                match acknowledged(body) {
                    Ok(()) => gone += 1,
                    // It timed out in between.
                    Err(error) if error.raw_os_error() == Some(nix::libc::ENOENT) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(gone)
}

/// The key to delete an entry by, if it contradicts the rules.
fn contradiction(body: &[u8], flows: &[Flow], local: &BTreeSet<Ipv4Addr>) -> Option<Vec<u8>> {
    let attributes = body.get(4..)?;
    let original = attribute(attributes, ORIGINAL)?;
    let reply = tuple(attribute(attributes, REPLY)?)?;
    let first = tuple(original)?;
    let protocol = match first.protocol {
        UDP => Protocol::Udp,
        TCP if !answered(attributes)? => Protocol::Tcp,
        _ => return None,
    };
    let concerned = flows.iter().any(|flow| {
        let here = flow.protocol.is_none_or(|p| p == protocol)
            && flow.port.is_none_or(|port| port == first.destination_port)
            && match flow.address {
                Some(address) => address == first.destination,
                // Any local address. A TCP connection of the host's own is not to lose its entry
                // while the answer is on its way.
                None => {
                    local.contains(&first.destination)
                        && (reply.source != first.destination || protocol == Protocol::Udp)
                }
            };
        here && !flow.backends.contains(&reply.source)
    });
    if !concerned {
        return None;
    }
    let mut key = encode(ORIGINAL | 0x8000, original);
    if let Some(zone) = attribute(attributes, ZONE) {
        key.extend(encode(ZONE, zone));
    }
    Some(key)
}

/// The IPv4 addresses of the calling thread's namespace.
fn local_addresses() -> io::Result<BTreeSet<Ipv4Addr>> {
    let addresses = getifaddrs()?.filter_map(|one| Some(one.address?.as_sockaddr_in()?.ip()));
    Ok(addresses.collect())
}

fn answered(attributes: &[u8]) -> Option<bool> {
    let status = attribute(attributes, STATUS)?.try_into().ok().map(u32::from_be_bytes)?;
    Some(status & ANSWERED != 0)
}

fn tuple(nested: &[u8]) -> Option<Tuple> {
    let ip = attribute(nested, 1)?;
    let proto = attribute(nested, 2)?;
    let address = |kind| Some(Ipv4Addr::from(<[u8; 4]>::try_from(attribute(ip, kind)?).ok()?));
    Some(Tuple {
        protocol: *attribute(proto, 1)?.first()?,
        source: address(1)?,
        destination: address(2)?,
        destination_port: u16::from_be_bytes(attribute(proto, 3)?.try_into().ok()?),
    })
}

fn acknowledged(body: &[u8]) -> io::Result<()> {
    match body.get(..4).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "truncated netlink answer")),
    }
}

/// A netlink message with an nfnetlink header for IPv4.
fn message(kind: u16, flags: u16, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(20 + attributes.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&((CONNTRACK << 8) | kind).to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&1u32.to_ne_bytes());
    bytes.extend_from_slice(&0u32.to_ne_bytes());
    bytes.extend_from_slice(&[AF_INET, 0, 0, 0]);
    bytes.extend_from_slice(attributes);
    bytes
}

/// The messages of a datagram as (kind, body).
fn messages(mut datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(datagram.get(..4)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(datagram.get(4..6)?.try_into().ok()?);
        let body = datagram.get(16..length)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// The first attribute of a kind.
fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & 0x3fff;
        let value = bytes.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

fn encode(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
