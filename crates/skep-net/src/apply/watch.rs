//! Signs that somebody else changed a namespace: the kernel tells of links, addresses,
//! routes and rules that go, and of every nftables transaction. They only say where to
//! look, and early: what is right is found by reading the kernel back, and whatever the
//! kernel fails to tell is found by the next verification.

use crate::plan::NsName;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use rtnetlink::sys::{AsyncSocket as _, AsyncSocketExt as _, TokioSocket};
use skep_sys::netns::NetNs;
use std::io;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// `RTNLGRP_LINK`, `RTNLGRP_IPV4_IFADDR`, `RTNLGRP_IPV4_ROUTE`, `RTNLGRP_IPV4_RULE`.
const ROUTE_GROUPS: [u32; 4] = [1, 5, 7, 8];
/// `NFNLGRP_NFTABLES`.
const NFTABLES_GROUP: u32 = 7;

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

/// Listens for as long as it lives.
#[derive(Debug)]
pub struct Watch {
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Watch {
    /// Starts listening in a namespace. Needs a tokio runtime.
    pub fn start(
        runtime: &tokio::runtime::Handle,
        ns: &NetNs,
        name: &NsName,
        listener: &Listener,
    ) -> io::Result<Self> {
        let (route, rules) = ns.run(|| {
            let _entered = runtime.enter();
            Ok::<_, io::Error>((
                open(NETLINK_ROUTE, &ROUTE_GROUPS)?,
                open(NETLINK_NETFILTER, &[NFTABLES_GROUP])?,
            ))
        })??;
        let tasks = [(route, routing_signs as Reader), (rules, rules_signs as Reader)]
            .into_iter()
            .map(|(socket, reader)| {
                runtime.spawn(listen(socket, reader, name.clone(), Arc::clone(listener)))
            })
            .collect();
        Ok(Self { tasks })
    }
}

type Reader = fn(&[u8]) -> Vec<Sign>;

fn open(protocol: isize, groups: &[u32]) -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(protocol)?;
    socket.socket_mut().bind_auto()?;
    for group in groups {
        socket.socket_mut().add_membership(*group)?;
    }
    Ok(socket)
}

async fn listen(socket: TokioSocket, reader: Reader, name: NsName, listener: Listener) {
    loop {
        match socket.recv_from_full().await {
            Ok((datagram, _)) => {
                let mut signs = reader(&datagram);
                signs.dedup();
                signs.into_iter().for_each(|sign| listener(name.clone(), sign));
            }
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {
                listener(name.clone(), Sign::Missed);
            }
            Err(error) => {
                tracing::warn!(namespace = %name, %error, "no longer listening for changes; they are found at intervals");
                return;
            }
        }
    }
}

/// The netlink messages of a datagram, headers included.
fn messages(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = rest.get(..4)?.try_into().ok().map(u32::from_ne_bytes)? as usize;
        let message = rest.get(..length).filter(|m| m.len() >= 16)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

fn routing_signs(datagram: &[u8]) -> Vec<Sign> {
    messages(datagram)
        .filter_map(|bytes| NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes).ok())
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
    messages(datagram).filter_map(super::nft::generation_of).map(Sign::Rules).collect()
}
