//! Listening to a netlink family in many network namespaces with one socket.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::libc;
use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockType, bind, setsockopt, socket,
};

use crate::seccomp::Instruction;

pub use nix::sys::socket::SockProtocol as Protocol;

/// `NETLINK_LISTEN_ALL_NSID`: the option, and the control message that says whence.
const LISTEN_ALL_NSID: i32 = 8;
/// `RTM_NEWNSID`, `RTM_GETNSID`, and their attributes `NETNSA_NSID` and `NETNSA_FD`.
const NEW_ID: u16 = 88;
const GET_ID: u16 = 90;
const ID: u16 = 1;
const FD: u16 = 3;
/// `NLMSG_ERROR`, and `NLM_F_REQUEST` with and without `NLM_F_ACK`.
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
const REQUEST_ACK: u16 = 1 | 4;
/// Bytes of a message's header, and of what follows it before the attributes.
const HEADER: usize = 16;
const FAMILY: usize = 4;

/// What may wait to be read. Bursts are as long as many containers are started at once.
const BUFFER: usize = 8 << 20;

/// A socket that hears what the kernel announces in its own namespace and in every other that has an
/// id there (rtnetlink's `RTM_NEWNSID`; ids come and go with namespaces). Does not block.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
}

impl Listener {
    /// Opens one in the calling thread's network namespace for multicast groups 1 to 32, of which
    /// bit `n - 1` of `groups` is group `n`. What `filter`, a classic BPF program over a datagram,
    /// returns 0 for is never queued, and wakes nobody.
    ///
    /// Needs CAP_NET_BROADCAST to hear of other namespaces; without, they are silent.
    pub fn open(protocol: Protocol, groups: u32, filter: &[Instruction]) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        attach_filter(fd.as_fd(), filter)?;
        // Without CAP_NET_ADMIN a burst is cut short, and that is told.
        let _ = setsockopt(&fd, RcvBufForce, &BUFFER);
        option(fd.as_fd(), libc::SOL_NETLINK, LISTEN_ALL_NSID, &1i32)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(Self { fd })
    }

    /// The next datagram: its length (what does not fit into `buffer` is cut off) and the id of the
    /// namespace it comes from, `None` for the socket's own. `WouldBlock` when there is none,
    /// `ENOBUFS` once after some were lost.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Option<i32>)> {
        let mut vector =
            libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // Aligned as control messages must be, and with room for one number and more.
        let mut control = [0u64; 16];
        // SAFETY: all zeroes is a valid `msghdr`.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = &raw mut vector;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&control) as _;
        // SAFETY: `header` points to one vector over `buffer` and to `control`, all alive and
        // writable for the length of the call.
        let count = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &raw mut header, 0) };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        let mut namespace = None;
        // SAFETY: the kernel has filled `control` and set its length in `header`; the macros walk it
        // within that length.
        unsafe {
            let mut part = libc::CMSG_FIRSTHDR(&raw const header);
            while let Some(message) = part.as_ref() {
                if message.cmsg_level == libc::SOL_NETLINK && message.cmsg_type == LISTEN_ALL_NSID {
                    namespace = Some(libc::CMSG_DATA(part).cast::<i32>().read_unaligned());
                }
                part = libc::CMSG_NXTHDR(&raw const header, part);
            }
        }
        Ok((count.min(buffer.len()), namespace))
    }
}

/// The id by which the calling thread's network namespace knows another; it is given one if it has
/// none. It is free for others once the other namespace is gone.
pub fn namespace_id(other: BorrowedFd<'_>) -> io::Result<i32> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let route = socket(AddressFamily::Netlink, SockType::Raw, flags, Protocol::NetlinkRoute)?;
    let fd = (FD, other.as_raw_fd());
    // Minus one: whichever is free.
    match ask(&route, NEW_ID, REQUEST_ACK, &[fd, (ID, -1)]) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let answer = ask(&route, GET_ID, REQUEST, &[fd])?;
    let mut attributes = answer.get(HEADER + FAMILY..).unwrap_or_default();
    while let (Some(length), Some(kind)) = (number(attributes, 0), number(attributes, 2)) {
        if kind == ID {
            let value = attributes.get(4..8).and_then(|b| b.try_into().ok());
            let id = value.map(i32::from_ne_bytes).filter(|id| *id >= 0);
            return id.ok_or_else(|| io::ErrorKind::NotFound.into());
        }
        attributes =
            attributes.get(usize::from(length.max(4)).next_multiple_of(4)..).unwrap_or(&[]);
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// Sends one request with numbers as attributes; the first answer, or the kernel's refusal.
fn ask(route: &OwnedFd, kind: u16, flags: u16, attributes: &[(u16, i32)]) -> io::Result<Vec<u8>> {
    let mut message = vec![0; HEADER + FAMILY];
    for (kind, value) in attributes {
        message.extend(8u16.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(value.to_ne_bytes());
    }
    let length =
        u32::try_from(message.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message[4..6].copy_from_slice(&kind.to_ne_bytes());
    message[6..8].copy_from_slice(&flags.to_ne_bytes());
    nix::sys::socket::send(route.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answer = vec![0; 4096];
    let count = nix::sys::socket::recv(route.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    answer.truncate(count);
    if number(&answer, 4) == Some(ERROR) {
        let code = answer.get(HEADER..HEADER + 4).and_then(|b| b.try_into().ok());
        match code.map(i32::from_ne_bytes) {
            Some(0) => {}
            Some(code) => return Err(io::Error::from_raw_os_error(-code)),
            None => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    Ok(answer)
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.fd.as_raw_fd()
    }
}

fn attach_filter(socket: BorrowedFd<'_>, program: &[Instruction]) -> io::Result<()> {
    let len = u16::try_from(program.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "filter too long"))?;
    let mut code: Vec<libc::sock_filter> = program
        .iter()
        .map(|i| libc::sock_filter { code: i.code, jt: i.jump_true, jf: i.jump_false, k: i.value })
        .collect();
    let program = libc::sock_fprog { len, filter: code.as_mut_ptr() };
    option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

fn option<T>(socket: BorrowedFd<'_>, level: i32, name: i32, value: &T) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of::<T>())
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: `value` is alive and of the size that is told; the kernel copies it, and of a filter
    // the instructions it points to, which the caller keeps alive.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (value as *const T).cast(), size)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::NetNs;

    /// `RTMGRP_LINK`.
    const LINKS: u32 = 1;
    /// `RTM_DELLINK`.
    const DEL_LINK: u16 = 17;

    /// Keeps only messages of one kind: the kernel loads in network order.
    fn only(kind: u16) -> [Instruction; 4] {
        let i =
            |code, jump_true, jump_false, value| Instruction { code, jump_true, jump_false, value };
        let kind = u32::from(u16::from_be_bytes(kind.to_ne_bytes()));
        [i(0x28, 0, 0, 4), i(0x15, 0, 1, kind), i(0x06, 0, 0, u32::MAX), i(0x06, 0, 0, 0)]
    }

    fn ip(ns: &NetNs, args: &[&str]) {
        let done = ns
            .run(|| std::process::Command::new("ip").args(args).status())
            .expect("enter")
            .expect("run ip");
        assert!(done.success(), "{args:?}");
    }

    #[test]
    fn one_socket_hears_of_other_namespaces_and_only_what_is_let_through() {
        let own = NetNs::anonymous().expect("a namespace");
        let (first, second) = (NetNs::anonymous().expect("one"), NetNs::anonymous().expect("two"));
        let (listener, ids) = own
            .run(|| {
                let listener = Listener::open(Protocol::NetlinkRoute, LINKS, &only(DEL_LINK));
                let id = |ns: &NetNs| namespace_id(ns.fd().expect("fd").as_fd()).expect("an id");
                let ids = [&first, &second].map(id);
                // A second time it has one.
                assert_eq!(id(&first), ids[0]);
                (listener.expect("listen"), ids)
            })
            .expect("enter");
        assert_ne!(ids[0], ids[1]);
        for ns in [&second, &own, &first] {
            ip(ns, &["link", "add", "d0", "type", "bridge"]);
            ip(ns, &["link", "del", "d0"]);
        }
        let mut buffer = [0; 8192];
        let heard: Vec<_> = std::iter::from_fn(|| listener.receive(&mut buffer).ok())
            .map(|(count, from)| (count > HEADER, from))
            .collect();
        assert_eq!(heard, [(true, Some(ids[1])), (true, None), (true, Some(ids[0]))]);
        let end = listener.receive(&mut buffer).expect_err("nothing left");
        assert_eq!(end.kind(), io::ErrorKind::WouldBlock);
    }
}
