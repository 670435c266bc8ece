//! Signs that somebody else changed a namespace: the kernel tells of links, addresses,
//! routes and rules that go, and of every nftables transaction. They only say where to
//! look, and early: what is right is found by reading the kernel back, and whatever the
//! kernel fails to tell is found by the next verification.

use super::frame;
use crate::plan::NsName;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use skep_sys::netlink::{Listener as Socket, Protocol, namespace_id};
use skep_sys::netns::NetNs;
use skep_sys::seccomp::Instruction;
use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

/// `RTNLGRP_LINK`, `RTNLGRP_IPV4_IFADDR`, `RTNLGRP_IPV4_ROUTE`, `RTNLGRP_IPV4_RULE`.
const ROUTE_GROUPS: [u32; 4] = [1, 5, 7, 8];
/// `NFNLGRP_NFTABLES`.
const RULES_GROUPS: [u32; 1] = [7];

/// `RTM_NEWLINK`.
const NEW_LINK: u16 = 16;
/// `RTM_DELLINK`, `RTM_DELADDR`, `RTM_DELROUTE`, `RTM_DELRULE`.
const GONE: [u16; 4] = [17, 21, 25, 33];
/// `NFT_MSG_NEWGEN` of nfnetlink's subsystem for nftables: the end of a transaction, which the kernel
/// tells in a datagram of its own.
const NEW_GENERATION: u16 = (10 << 8) | 15;
/// Bytes of a netlink message's header, and where in it the type is; where a link's flags are.
const TYPE: u32 = 4;
const LINK_FLAGS: u32 = 16 + 8;
/// `IFF_UP`.
const UP: u32 = 1;

/// What the kernel told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sign {
    /// A link went, or a bridge went down.
    Link(String),
    /// An address, a route or a routing rule went.
    Routing,
    /// The nftables generation that began.
    Rules(u32),
    /// More happened than could be listened to.
    Missed,
}

/// Who is told.
pub type Listener = Arc<dyn Fn(NsName, Sign) + Send + Sync>;

/// One pair of sockets for all namespaces: the host's hears of each that has an id there. What nobody
/// would make a sign of is kept back by the kernel, so that a container that comes with dozens of
/// links, addresses and rules does not wake the daemon for each.
#[derive(Debug)]
pub struct Ears {
    places: Places,
    tasks: Vec<JoinHandle<()>>,
}

/// Namespaces by their ids in the host's.
type Places = Arc<Mutex<HashMap<i32, NsName>>>;

impl Drop for Ears {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Ears {
    /// Starts listening in the host's namespace.
    pub fn open(
        runtime: &tokio::runtime::Handle,
        host: &NetNs,
        listener: &Listener,
    ) -> io::Result<Self> {
        let places = Places::default();
        let sockets = host.run(|| {
            Ok::<_, io::Error>([
                (open(Protocol::NetlinkRoute, &ROUTE_GROUPS, &losses())?, routing_signs as Reader),
                (open(Protocol::NetlinkNetFilter, &RULES_GROUPS, &commits())?, rules_signs),
            ])
        })??;
        let _entered = runtime.enter();
        let mut tasks = Vec::new();
        for (socket, reader) in sockets {
            // Deprecated because a type could change the descriptor it gives; this one does not.
            #[expect(deprecated, reason = "the replacement is an unsafe function")]
            let socket = AsyncFd::with_interest(socket, Interest::READABLE)?;
            let (places, listener) = (Arc::clone(&places), Arc::clone(listener));
            tasks.push(runtime.spawn(listen(socket, reader, places, listener)));
        }
        Ok(Self { places, tasks })
    }

    /// Hears of another namespace from now on, for as long as the result lives.
    pub fn hear(&self, host: &NetNs, ns: &NetNs, name: &NsName) -> io::Result<Heard> {
        let fd = ns.fd()?;
        let id = host.run(|| namespace_id(fd.as_fd()))??;
        lock(&self.places).insert(id, name.clone());
        Ok(Heard { places: Arc::clone(&self.places), id, name: name.clone() })
    }
}

/// A namespace that is heard of.
#[derive(Debug)]
pub struct Heard {
    places: Places,
    id: i32,
    name: NsName,
}

impl Drop for Heard {
    fn drop(&mut self) {
        let mut places = lock(&self.places);
        // The id may be another's already.
        if places.get(&self.id) == Some(&self.name) {
            places.remove(&self.id);
        }
    }
}

fn lock(places: &Places) -> std::sync::MutexGuard<'_, HashMap<i32, NsName>> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

type Reader = fn(&[u8]) -> Vec<Sign>;

fn open(protocol: Protocol, groups: &[u32], filter: &[Instruction]) -> io::Result<Socket> {
    let groups = groups.iter().fold(0, |all, group| all | 1 << (group - 1));
    Socket::open(protocol, groups, filter)
}

/// Lets through what goes, and links that are down.
fn losses() -> Vec<Instruction> {
    let mut program = vec![load(TYPE, 2)];
    for kind in GONE {
        program.extend([unless(in_host_order(kind), 1), KEEP]);
    }
    program.extend([unless(in_host_order(NEW_LINK), 3), load(LINK_FLAGS, 4)]);
    // Loaded in network order, the flag is in the first byte on a little endian machine.
    let up = u32::from_be_bytes(UP.to_ne_bytes());
    program.extend([instruction(0x45, 1, 0, up), KEEP, DROP]);
    program
}

/// Lets through the ends of transactions.
fn commits() -> Vec<Instruction> {
    vec![load(TYPE, 2), unless(in_host_order(NEW_GENERATION), 1), KEEP, DROP]
}

/// Classic BPF: the whole datagram, or nothing of it.
const KEEP: Instruction = instruction(0x06, 0, 0, u32::MAX);
const DROP: Instruction = instruction(0x06, 0, 0, 0);

/// Loads two or four bytes, as in network order.
const fn load(at: u32, bytes: u8) -> Instruction {
    instruction(if bytes == 2 { 0x28 } else { 0x20 }, 0, 0, at)
}

/// Skips `over` instructions unless what was loaded is `value`.
const fn unless(value: u32, over: u8) -> Instruction {
    instruction(0x15, 0, over, value)
}

const fn instruction(code: u16, jump_true: u8, jump_false: u8, value: u32) -> Instruction {
    Instruction { code, jump_true, jump_false, value }
}

/// What [`load`] makes of a number that the kernel wrote in the machine's order.
fn in_host_order(kind: u16) -> u32 {
    u16::from_be_bytes(kind.to_ne_bytes()).into()
}

async fn listen(socket: AsyncFd<Socket>, reader: Reader, places: Places, listener: Listener) {
    let mut buffer = vec![0; 32 << 10];
    loop {
        let received =
            socket.async_io(Interest::READABLE, |socket| socket.receive(&mut buffer)).await;
        match received {
            Ok((count, from)) => {
                let name = match from {
                    None => Some(NsName::Host),
                    Some(id) => lock(&places).get(&id).cloned(),
                };
                // Of no interest are namespaces of others, and those that are about to go.
                let Some(name) = name else { continue };
                let mut signs = reader(buffer.get(..count).unwrap_or_default());
                signs.dedup();
                signs.into_iter().for_each(|sign| listener(name.clone(), sign));
            }
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {
                listener(NsName::Host, Sign::Missed);
            }
            Err(error) => {
                tracing::warn!(%error, "no longer listening for changes; they are found at intervals");
                return;
            }
        }
    }
}

fn routing_signs(datagram: &[u8]) -> Vec<Sign> {
    frame::messages(datagram)
        .filter_map(|m| NetlinkMessage::<RouteNetlinkMessage>::deserialize(m.whole).ok())
        .filter_map(|message| match message.payload {
            NetlinkPayload::InnerMessage(inner) => routing_sign(inner),
            _ => None,
        })
        .collect()
}

fn routing_sign(message: RouteNetlinkMessage) -> Option<Sign> {
    match message {
        // A bridge tells of each port that leaves it the same way.
        RouteNetlinkMessage::DelLink(link)
            if link.header.interface_family != AddressFamily::Bridge =>
        {
            Some(Sign::Link(link_name(&link)?))
        }
        RouteNetlinkMessage::NewLink(link) => {
            let down = !link.header.flags.contains(LinkFlags::Up);
            (down && is_bridge(&link)).then(|| link_name(&link).map(Sign::Link)).flatten()
        }
        RouteNetlinkMessage::DelAddress(_)
        | RouteNetlinkMessage::DelRoute(_)
        | RouteNetlinkMessage::DelRule(_) => Some(Sign::Routing),
        _ => None,
    }
}

fn link_name(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

fn is_bridge(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.contains(&LinkInfo::Kind(InfoKind::Bridge)),
        _ => false,
    })
}

fn rules_signs(datagram: &[u8]) -> Vec<Sign> {
    frame::messages(datagram)
        .filter_map(|m| super::nft::generation_of(&m))
        .map(Sign::Rules)
        .collect()
}
