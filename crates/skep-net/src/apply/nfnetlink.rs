//! A blocking client of the kernel's netfilter families, for what is asked of them: nftables' generation, and
//! connections.

use super::closing;
use super::frame::{self, DONE, ERROR, REQUEST_DUMP};
use super::traffic::Traffic;
use nix::sys::socket::{setsockopt, sockopt::SndBufForce};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use std::io;
use std::sync::Arc;

/// Bytes of the header behind netlink's.
pub const HEADER: usize = 4;
/// `NFPROTO_IPV4`.
pub const AF_INET: u8 = 2;

/// Bytes that a socket takes at once as it is.
const SEND_BUFFER: usize = 64 << 10;

/// A question, for IPv4.
pub struct Request<'a> {
    /// `NFNL_SUBSYS_*`.
    pub subsystem: u16,
    /// The message's type within it.
    pub kind: u16,
    /// [`frame::REQUEST_ACK`] or [`frame::REQUEST_DUMP`].
    pub flags: u16,
    /// Attributes.
    pub attributes: &'a [u8],
}

impl Request<'_> {
    fn encode(&self, sequence: u32) -> Vec<u8> {
        let length = frame::HEADER + HEADER + self.attributes.len();
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
        bytes.extend_from_slice(&((self.subsystem << 8) | self.kind).to_ne_bytes());
        bytes.extend_from_slice(&self.flags.to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(&[AF_INET, 0, 0, 0]);
        bytes.extend_from_slice(self.attributes);
        bytes
    }
}

/// A connection of the namespace that it was opened in.
pub struct Nfnetlink {
    /// `None` once it is on its way to be closed.
    socket: Option<Socket>,
    sequence: u32,
    traffic: Arc<Traffic>,
}

impl Nfnetlink {
    /// Opens one in the calling thread's namespace.
    pub fn open(traffic: &Arc<Traffic>) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket: Some(socket), sequence: 0, traffic: Arc::clone(traffic) })
    }

    /// Asks, and gives each message of the answer to `each`, as type and what follows both headers, until the kernel
    /// says that there are no more.
    pub fn ask(
        &mut self,
        request: &Request<'_>,
        mut each: impl FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let socket = self.socket.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        socket.send(&request.encode(self.sequence), 0)?;
        self.traffic.request(request.flags == REQUEST_DUMP);
        loop {
            let (datagram, _) = socket.recv_from_full()?;
            for message in frame::messages(&datagram).filter(|m| m.sequence == self.sequence) {
                self.traffic.answer(message.whole.len());
                match message.kind {
                    DONE => return Ok(()),
                    ERROR => return acknowledged(message.body),
                    kind => {
                        if let Some(body) = message.body.get(HEADER..) {
                            each(kind, body);
                        }
                    }
                }
            }
        }
    }

    /// Sends a transaction, of which each message bears the number that `encode` is given and one at least asks to be
    /// acknowledged. The error is the first that the kernel found; it has then done nothing.
    pub fn transact(&mut self, encode: impl FnOnce(u32) -> Vec<u8>) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let batch = encode(self.sequence);
        // Room for all of it, as the kernel takes only whole transactions.
        let socket = self.socket.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        if batch.len() > SEND_BUFFER {
            setsockopt(socket, SndBufForce, &(batch.len() * 2))?;
        }
        socket.send(&batch, 0)?;
        self.traffic.request(false);
        // The kernel has worked on it before the sending returned.
        let mut verdict = Err(io::ErrorKind::UnexpectedEof.into());
        socket.set_non_blocking(true)?;
        loop {
            let datagram = match socket.recv_from_full() {
                Ok((datagram, _)) => datagram,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return verdict,
                Err(error) => return Err(error),
            };
            for message in frame::messages(&datagram).filter(|m| m.kind == ERROR) {
                self.traffic.answer(message.whole.len());
                acknowledged(message.body)?;
                verdict = Ok(());
            }
        }
    }
}

impl Drop for Nfnetlink {
    fn drop(&mut self) {
        if let Some(socket) = self.socket.take() {
            closing::later(socket);
        }
    }
}

fn acknowledged(body: &[u8]) -> io::Result<()> {
    match body.get(..4).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "truncated netlink answer")),
    }
}
