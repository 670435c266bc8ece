//! A blocking rtnetlink client. A netlink socket belongs to the namespace it was
//! opened in, so one that was opened inside can be used from any thread.

use super::frame;
use super::traffic::Traffic;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::io;
use std::sync::Arc;

/// How a request treats what exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Change or delete.
    Change,
    /// Make; existing is `EEXIST`.
    Create,
    /// Make, or replace what exists.
    Replace,
}

/// A connection to the kernel's routing family in one namespace.
pub struct Netlink {
    /// `None` while it rests.
    socket: Option<Socket>,
    sequence: u32,
    traffic: Arc<Traffic>,
}

impl Netlink {
    /// Opens one in the calling thread's namespace.
    pub fn open(traffic: &Arc<Traffic>) -> io::Result<Self> {
        Ok(Self { socket: Some(connected()?), sequence: 0, traffic: Arc::clone(traffic) })
    }

    /// Where what goes over it is counted.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Gives its descriptor back until it is used again; that must then be inside the namespace.
    pub fn rest(&mut self) {
        self.socket = None;
    }

    /// Sends one request and waits for the kernel's verdict.
    pub fn request(&mut self, message: RouteNetlinkMessage, mode: Mode) -> io::Result<()> {
        let extra = match mode {
            Mode::Change => 0,
            Mode::Create => NLM_F_CREATE | NLM_F_EXCL,
            Mode::Replace => NLM_F_CREATE | NLM_F_REPLACE,
        };
        self.send(message, NLM_F_REQUEST | NLM_F_ACK | extra)?;
        loop {
            for payload in self.receive()? {
                if let NetlinkPayload::Error(error) = payload {
                    return match error.code {
                        None => Ok(()),
                        Some(_) => Err(error.to_io()),
                    };
                }
            }
        }
    }

    /// Asks for one object.
    pub fn get(&mut self, message: RouteNetlinkMessage) -> io::Result<RouteNetlinkMessage> {
        // With an acknowledgement, for an answer of a shape unknown to the parser would be waited for in vain.
        self.send(message, NLM_F_REQUEST | NLM_F_ACK)?;
        let mut found = None;
        loop {
            for payload in self.receive()? {
                match payload {
                    NetlinkPayload::InnerMessage(message) => found = Some(message),
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(error.to_io());
                    }
                    NetlinkPayload::Error(_) => {
                        let unread = "the kernel's answer cannot be understood";
                        return found
                            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, unread));
                    }
                    _ => {}
                }
            }
        }
    }

    /// Asks for everything of a kind.
    pub fn dump(&mut self, message: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.send(message, NLM_F_REQUEST | NLM_F_DUMP)?;
        let mut found = Vec::new();
        loop {
            for payload in self.receive()? {
                match payload {
                    NetlinkPayload::InnerMessage(message) => found.push(message),
                    NetlinkPayload::Done(_) => return Ok(found),
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(error.to_io());
                    }
                    _ => {}
                }
            }
        }
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
        packet.finalize();
        let mut buffer = vec![0; packet.buffer_len()];
        packet.serialize(&mut buffer);
        let socket = match &mut self.socket {
            Some(socket) => socket,
            resting => resting.insert(connected()?),
        };
        socket.send(&buffer, 0)?;
        self.traffic.request(flags & NLM_F_DUMP == NLM_F_DUMP);
        Ok(())
    }

    /// The next datagram's messages that answer the current request. Messages of a
    /// shape unknown to the parser are passed over: a link of a foreign kind must
    /// not keep us from seeing our own.
    fn receive(&mut self) -> io::Result<Vec<NetlinkPayload<RouteNetlinkMessage>>> {
        let socket = self.socket.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let (datagram, _) = socket.recv_from_full()?;
        let mut payloads = Vec::new();
        for message in frame::messages(&datagram).filter(|m| m.sequence == self.sequence) {
            self.traffic.answer(message.whole.len());
            match NetlinkMessage::<RouteNetlinkMessage>::deserialize(message.whole) {
                Ok(message) => {
                    let link = matches!(
                        message.payload,
                        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(_))
                    );
                    if link {
                        self.traffic.link();
                    }
                    payloads.push(message.payload);
                }
                Err(error) => tracing::debug!(%error, "passed over a netlink message"),
            }
        }
        Ok(payloads)
    }
}

fn connected() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    // Room for the dump of a host with a thousand links.
    socket.set_rx_buf_sz(1 << 20)?;
    Ok(socket)
}
