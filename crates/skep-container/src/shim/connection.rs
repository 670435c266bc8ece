//! One control connection, as the shim sees it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use crate::proto::{FromShim, MAX_MESSAGE, Request};

/// Answers that may wait for a daemon that does not read, in bytes.
const MAX_QUEUE: usize = 8 << 20;

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: UnixStream,
    incoming: Vec<u8>,
    /// Descriptors that came along, in order.
    pub(super) fds: Vec<OwnedFd>,
    outgoing: VecDeque<Outgoing>,
    /// Whether it gets events.
    pub(super) subscribed: bool,
}

#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    /// To go with the first byte.
    fds: Vec<OwnedFd>,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> io::Result<Connection> {
        stream.set_nonblocking(true)?;
        Ok(Connection {
            stream,
            incoming: Vec::new(),
            fds: Vec::new(),
            outgoing: VecDeque::new(),
            subscribed: false,
        })
    }

    /// Takes in what has arrived. `Ok(false)` at the end of the stream.
    pub(super) fn read(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 8192];
        match skep_sys::scm::recv(self.stream.as_fd(), &mut chunk, &mut self.fds) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.incoming.extend_from_slice(&chunk[..count]);
                Ok(true)
            }
            Err(e)
                if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
            {
                Ok(true)
            }
            Err(e) => Err(e),
        }
    }

    /// The next complete request.
    pub(super) fn request(&mut self) -> io::Result<Option<Request>> {
        let Some(len) = self.incoming.first_chunk::<4>() else { return Ok(None) };
        let len = u32::from_le_bytes(*len) as usize;
        if len > MAX_MESSAGE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if self.incoming.len() < 4 + len {
            return Ok(None);
        }
        let rest = self.incoming.split_off(4 + len);
        let message = std::mem::replace(&mut self.incoming, rest);
        Ok(Some(serde_json::from_slice(&message[4..])?))
    }

    /// Queues a message and writes what the socket takes.
    pub(super) fn send(&mut self, message: &FromShim, fds: Vec<OwnedFd>) -> io::Result<()> {
        let mut bytes = vec![0; 4];
        serde_json::to_writer(&mut bytes, message)?;
        let len = u32::try_from(bytes.len() - 4).map_err(|_| io::ErrorKind::InvalidData)?;
        bytes[..4].copy_from_slice(&len.to_le_bytes());
        self.outgoing.push_back(Outgoing { bytes, sent: 0, fds });
        if self.outgoing.iter().map(|o| o.bytes.len()).sum::<usize>() > MAX_QUEUE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.flush()
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        while let Some(first) = self.outgoing.front_mut() {
            let fds: Vec<_> = first.fds.iter().map(AsFd::as_fd).collect();
            match skep_sys::scm::send(self.stream.as_fd(), &first.bytes[first.sent..], &fds) {
                Ok(count) => {
                    first.fds = Vec::new();
                    first.sent += count;
                    if first.sent == first.bytes.len() {
                        self.outgoing.pop_front();
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    pub(super) fn wants_write(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Turns into raw parts: the stream, bytes not yet sent, bytes received and not yet used.
    pub(super) fn into_parts(self) -> (UnixStream, Vec<u8>, Vec<u8>) {
        let unsent =
            self.outgoing.into_iter().flat_map(|o| o.bytes.into_iter().skip(o.sent)).collect();
        (self.stream, unsent, self.incoming)
    }
}
