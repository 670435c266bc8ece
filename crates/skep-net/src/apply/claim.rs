//! One daemon for each host's network.
//!
//! Daemons that share a network namespace may see different files, so a lock on a file does not keep them apart.
//! Abstract addresses of Unix sockets belong to the network namespace and end with their process. But any user can
//! take one, and connect to one: neither a name nor who answers there says anything. So each daemon takes an address
//! that nobody can know, asks the kernel for all sockets whose address begins like it, and counts those of root.
//! Each takes its own before it looks, so of two that start at once at least one sees the other.
//!
//! What runs as the host's root in the host's network namespace can pretend to be a daemon, as in a container with
//! `--network host`.

use super::frame::{self, DONE, ERROR, REQUEST_DUMP};
use crate::error::{NetError, Result};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// How the addresses begin.
const PREFIX: &str = "skep-network";
/// How long a daemon that was killed may take to be gone.
const DYING: Duration = Duration::from_secs(3);
/// Shortest and longest pause between two looks: by chance, so that two that met do not meet again.
const POLL: std::ops::Range<u64> = 20..100;
const ROOT: u32 = 0;

/// `SOCK_DIAG_BY_FAMILY`, and of `linux/unix_diag.h` `UDIAG_SHOW_NAME`, `UDIAG_SHOW_UID` (since Linux 5.3),
/// `UNIX_DIAG_NAME` and `UNIX_DIAG_UID`.
const BY_FAMILY: u16 = 20;
const SHOW: u32 = 0x01 | 0x40;
const NAME: u16 = 0;
const USER: u16 = 7;
const AF_UNIX: u8 = 1;
/// Bytes of an answer before its attributes.
const HEADER: usize = 16;

/// The right to manage the network of the calling thread's namespace, for as long as it lives.
#[derive(Debug)]
pub struct HostClaim(#[expect(dead_code, reason = "held, not used")] OwnedFd);

impl HostClaim {
    /// Waits some seconds for a daemon that is just ending.
    ///
    /// # Errors
    /// If another daemon has it.
    pub fn take() -> Result<Self> {
        let deadline = Instant::now() + DYING;
        loop {
            let name = format!("{PREFIX}-{:016x}", rand::random::<u64>());
            let own = bound(&name).map_err(|source| NetError::HostClaim { source })?;
            let others = match addresses() {
                Ok(all) => all.into_iter().filter(|a| a.user == ROOT && a.name != name).count(),
                Err(error) => {
                    tracing::warn!(
                        %error,
                        "the kernel does not tell whether another daemon manages this host's network"
                    );
                    0
                }
            };
            if others == 0 {
                return Ok(Self(own));
            }
            drop(own);
            if Instant::now() >= deadline {
                return Err(NetError::HostManaged);
            }
            std::thread::sleep(Duration::from_millis(rand::random_range(POLL)));
        }
    }
}

/// A socket with this abstract address. It does not listen: nobody has to reach it.
fn bound(name: &str) -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(socket.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes())?)?;
    Ok(socket)
}

#[derive(Debug, PartialEq, Eq)]
struct Address {
    name: String,
    /// Who made the socket, as the calling thread's user namespace knows him.
    user: u32,
}

/// All abstract addresses that begin like ours in the calling thread's network namespace.
fn addresses() -> io::Result<Vec<Address>> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&request(), 0)?;
    let mut found = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        for message in frame::messages(&datagram) {
            match message.kind {
                DONE => return Ok(found),
                ERROR => {
                    let code = message.body.get(..4).and_then(|b| b.try_into().ok());
                    let code = code.map_or(0, i32::from_ne_bytes);
                    return Err(io::Error::from_raw_os_error(-code));
                }
                _ => found.extend(address(message.body)),
            }
        }
    }
}

/// Asks for all Unix sockets, with address and user.
fn request() -> Vec<u8> {
    let mut body = vec![AF_UNIX, 0, 0, 0];
    // Those in every state, whatever their number.
    for word in [u32::MAX, 0, SHOW, 0, 0] {
        body.extend(word.to_ne_bytes());
    }
    let length = u32::try_from(frame::HEADER + body.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(REQUEST_DUMP.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(body);
    bytes
}

/// What an answer says, if the address is one like ours.
fn address(body: &[u8]) -> Option<Address> {
    let attributes = body.get(HEADER..)?;
    // Abstract ones begin with a zero.
    let name = frame::attribute(attributes, NAME)?.strip_prefix(&[0])?;
    let name = str::from_utf8(name).ok().filter(|name| name.starts_with(PREFIX))?;
    let user = frame::attribute(attributes, USER)?.try_into().ok()?;
    Some(Address { name: name.to_owned(), user: u32::from_ne_bytes(user) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::{Uid, setfsuid};
    use skep_sys::netns::NetNs;

    #[test]
    fn the_kernel_tells_whose_an_address_is() {
        let host = NetNs::anonymous().unwrap();
        host.run(whose_an_address_is).unwrap();
    }

    fn whose_an_address_is() {
        let name = format!("{PREFIX}-test-{}", std::process::id());
        let other = format!("{name}-other");
        let [own, others] = [(&name, ROOT), (&other, 65534)].map(|(name, user)| {
            let name = name.clone();
            // The user of file systems, whose a socket is, is the thread's own.
            let made = std::thread::spawn(move || {
                setfsuid(Uid::from_raw(user));
                bound(&name).unwrap()
            });
            made.join().unwrap()
        });
        let of = |wanted: &str| {
            let all = addresses().unwrap();
            all.into_iter().find(|a| a.name == wanted).map(|found| found.user)
        };
        assert_eq!((of(&name), of(&other)), (Some(ROOT), Some(65534)));
        drop((own, others));
        assert_eq!((of(&name), of(&other)), (None, None));
    }

    #[test]
    fn answers_that_are_cut_short_or_others_say_nothing() {
        let answer = |name: &[u8], user: &[u8]| {
            let mut body = vec![0; HEADER];
            body.extend(frame::encode(NAME, name));
            body.extend(frame::encode(USER, user));
            body
        };
        let whole = answer(b"\0skep-network-1", &[1, 0, 0, 0]);
        let found =
            Address { name: "skep-network-1".to_owned(), user: u32::from_ne_bytes([1, 0, 0, 0]) };
        assert_eq!(address(&whole), Some(found));
        for cut in 0..whole.len() {
            assert_eq!(address(&whole[..cut]), None, "{cut}");
        }
        for (name, user) in [
            (&b"skep-network-1"[..], &[0u8; 4][..]),
            (b"\0other", &[0; 4]),
            (b"\0skep-network-\xff", &[0; 4]),
            (b"\0skep-network-1", &[0; 2]),
            (b"", &[0; 4]),
        ] {
            assert_eq!(address(&answer(name, user)), None, "{name:?}");
        }
    }
}
