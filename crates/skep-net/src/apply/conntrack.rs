//! Connection tracking's memory of where flows lead. As long as packets come, the kernel
//! goes on sending them where the first one went. So entries that contradict the rules
//! are removed: of UDP, whose flows have no end, all, and of TCP those that nobody has
//! answered yet. A client whose first packet went to a host that had just died sends it
//! again, and only without the entry does that reach another backend. A TCP connection
//! that was answered ends with its backend.
//!
//! The kernel has one table for all namespaces, and reading one namespace's entries means to look at all. So it is read
//! once for all flows of a change, and not at all where nothing can be in it that contradicts: see [`outdated`]
//! and [`is_empty`].

use super::frame::{self, NESTED, REQUEST_ACK, REQUEST_DUMP};
use super::nfnetlink::{Nfnetlink, Request};
use super::traffic::Traffic;
use crate::plan::Flow;
use crate::trace::FlowKey;
use nix::ifaddrs::getifaddrs;
use skep_types::Protocol;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// `NFNL_SUBSYS_CTNETLINK`.
const CONNTRACK: u16 = 1;
/// `IPCTNL_MSG_CT_GET`.
const GET: u16 = 1;
/// `IPCTNL_MSG_CT_DELETE`.
const DELETE: u16 = 2;
/// `IPCTNL_MSG_CT_GET_STATS`, and in its answer `CTA_STATS_GLOBAL_ENTRIES`.
const STATISTICS: u16 = 5;
const ENTRIES: u16 = 1;
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
pub fn count(traffic: &Arc<Traffic>) -> io::Result<BTreeMap<FlowKey, u64>> {
    let mut found = BTreeMap::new();
    dump(&mut Nfnetlink::open(traffic)?, |attributes| {
        if let Some(key) = flow(attributes) {
            *found.entry(key).or_default() += 1;
        }
    })?;
    Ok(found)
}

fn dump(netlink: &mut Nfnetlink, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let request = Request { subsystem: CONNTRACK, kind: GET, flags: REQUEST_DUMP, attributes: &[] };
    netlink.ask(&request, |_, attributes| each(attributes))
}

fn flow(attributes: &[u8]) -> Option<FlowKey> {
    let first = tuple(frame::attribute(attributes, ORIGINAL)?)?;
    let reply = tuple(frame::attribute(attributes, REPLY)?)?;
    let protocol = match first.protocol {
        TCP => Protocol::Tcp,
        UDP => Protocol::Udp,
        _ => return None,
    };
    Some((protocol, first.destination, first.destination_port, reply.source))
}

/// Whether the calling thread's namespace has no entry. One that cannot be asked may have some.
///
/// Not by `nf_conntrack_count` below `/proc/sys`: its name is looked for among those of all namespaces.
fn is_empty(netlink: &mut Nfnetlink) -> bool {
    let request =
        Request { subsystem: CONNTRACK, kind: STATISTICS, flags: REQUEST_ACK, attributes: &[] };
    let mut count = None;
    let asked = netlink.ask(&request, |_, attributes| {
        let bytes = frame::attribute(attributes, ENTRIES);
        count = bytes.and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    });
    asked.is_ok() && count == Some(0)
}

/// Those of `now` that entries may contradict which were made while `before` was in force: they led elsewhere, or
/// nowhere. Where a backend has only come in addition, none does.
pub fn outdated<'a, 'b>(
    before: impl Iterator<Item = &'b Flow>,
    now: impl Iterator<Item = &'a Flow>,
) -> Vec<&'a Flow> {
    let key = |flow: &Flow| (flow.protocol, flow.address, flow.port);
    let before: BTreeMap<_, &Flow> = before.map(|flow| (key(flow), flow)).collect();
    let same = |one: &Flow, other: &Flow| Arc::ptr_eq(&one.backends, &other.backends);
    let covered = |flow: &Flow| {
        before.get(&key(flow)).is_some_and(|old| {
            old.leads && (same(old, flow) || old.backends.is_subset(&flow.backends))
        })
    };
    now.filter(|flow| !covered(flow)).collect()
}

/// Removes, in the calling thread's namespace, what contradicts `flows`. Returns how
/// many entries went.
pub fn flush(traffic: &Arc<Traffic>, flows: &[&Flow]) -> io::Result<usize> {
    if flows.is_empty() {
        return Ok(0);
    }
    let mut netlink = Nfnetlink::open(traffic)?;
    if is_empty(&mut netlink) {
        return Ok(0);
    }
    let index = Index::of(flows)?;
    let mut doomed = Vec::new();
    dump(&mut netlink, |attributes| doomed.extend(index.contradiction(attributes)))?;
    let mut gone = 0;
    for key in doomed {
        let request =
            Request { subsystem: CONNTRACK, kind: DELETE, flags: REQUEST_ACK, attributes: &key };
        match netlink.ask(&request, |_, _| {}) {
            Ok(()) => gone += 1,
            // It timed out in between.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(gone)
}

/// Flows by where they are for.
struct Index<'a> {
    at: BTreeMap<Ipv4Addr, Vec<&'a Flow>>,
    /// To any local address, by port.
    anywhere: BTreeMap<Option<u16>, Vec<&'a Flow>>,
    /// The namespace's addresses, where they are asked for.
    local: BTreeSet<Ipv4Addr>,
}

impl<'a> Index<'a> {
    fn of(flows: &[&'a Flow]) -> io::Result<Self> {
        let (mut at, mut anywhere) =
            (BTreeMap::<_, Vec<&Flow>>::new(), BTreeMap::<_, Vec<&Flow>>::new());
        for &flow in flows {
            match flow.address {
                Some(address) => at.entry(address).or_default().push(flow),
                None => anywhere.entry(flow.port).or_default().push(flow),
            }
        }
        let local = if anywhere.is_empty() { BTreeSet::new() } else { local_addresses()? };
        Ok(Self { at, anywhere, local })
    }

    /// The key to delete an entry by, if it contradicts one of the flows.
    fn contradiction(&self, attributes: &[u8]) -> Option<Vec<u8>> {
        let original = frame::attribute(attributes, ORIGINAL)?;
        let reply = tuple(frame::attribute(attributes, REPLY)?)?;
        let first = tuple(original)?;
        let protocol = match first.protocol {
            UDP => Protocol::Udp,
            TCP if !answered(attributes)? => Protocol::Tcp,
            _ => return None,
        };
        // A TCP connection of the host's own is not to lose its entry while the answer is on its way.
        let to_us = self.local.contains(&first.destination)
            && (reply.source != first.destination || protocol == Protocol::Udp);
        let port = first.destination_port;
        let anywhere = [Some(port), None].into_iter().filter_map(|port| self.anywhere.get(&port));
        let mut candidates = (self.at.get(&first.destination).into_iter())
            .chain(anywhere.filter(|_| to_us))
            .flatten();
        let concerned = candidates.any(|flow| {
            flow.protocol.is_none_or(|p| p == protocol)
                && flow.port.is_none_or(|p| p == port)
                && !flow.backends.contains(&reply.source)
        });
        if !concerned {
            return None;
        }
        let mut key = frame::encode(ORIGINAL | NESTED, original);
        if let Some(zone) = frame::attribute(attributes, ZONE) {
            key.extend(frame::encode(ZONE, zone));
        }
        Some(key)
    }
}

/// The IPv4 addresses of the calling thread's namespace.
fn local_addresses() -> io::Result<BTreeSet<Ipv4Addr>> {
    let addresses = getifaddrs()?.filter_map(|one| Some(one.address?.as_sockaddr_in()?.ip()));
    Ok(addresses.collect())
}

fn answered(attributes: &[u8]) -> Option<bool> {
    let status = frame::attribute(attributes, STATUS)?.try_into().ok().map(u32::from_be_bytes)?;
    Some(status & ANSWERED != 0)
}

fn tuple(nested: &[u8]) -> Option<Tuple> {
    let ip = frame::attribute(nested, 1)?;
    let proto = frame::attribute(nested, 2)?;
    let address =
        |kind| Some(Ipv4Addr::from(<[u8; 4]>::try_from(frame::attribute(ip, kind)?).ok()?));
    Some(Tuple {
        protocol: *frame::attribute(proto, 1)?.first()?,
        source: address(1)?,
        destination: address(2)?,
        destination_port: u16::from_be_bytes(frame::attribute(proto, 3)?.try_into().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(port: u16, leads: bool, backends: &[u8]) -> Flow {
        let backends =
            Arc::new(backends.iter().map(|last| Ipv4Addr::new(10, 0, 0, *last)).collect());
        Flow { protocol: None, address: None, port: Some(port), leads, backends }
    }

    #[test]
    fn only_what_entries_may_contradict_is_looked_for() {
        for (before, now, looked_for) in [
            // A backend more.
            (vec![flow(80, true, &[1])], flow(80, true, &[1, 2]), false),
            (vec![flow(80, true, &[1])], flow(80, true, &[1]), false),
            // One less, or another.
            (vec![flow(80, true, &[1, 2])], flow(80, true, &[1]), true),
            (vec![flow(80, true, &[1])], flow(80, true, &[2]), true),
            // None took anything before: what came was let through as it was.
            (vec![flow(80, false, &[])], flow(80, true, &[1]), true),
            (vec![flow(80, false, &[1])], flow(80, true, &[1]), true),
            (vec![flow(81, true, &[1])], flow(80, true, &[1]), true),
            (vec![], flow(80, true, &[1]), true),
        ] {
            let now = [now];
            assert_eq!(
                !outdated(before.iter(), now.iter()).is_empty(),
                looked_for,
                "{before:?} to {now:?}"
            );
        }
    }
}
