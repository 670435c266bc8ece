//! One attached client.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::frame::{self, HEADER, KIND_CLOSE_STDIN, KIND_STDIN, StdStream};

/// Output that may wait for one client, in bytes. Beyond it the process's output is not read.
const MAX_QUEUE: usize = 256 * 1024;
/// A client that blocks the process and takes nothing for this long is cut off.
const STALL_LIMIT: Duration = Duration::from_secs(60);
/// Input is read in pieces of this size.
const READ: usize = 8 * 1024;

#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: UnixStream,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    queue: VecDeque<u8>,
    incoming: Vec<u8>,
    /// The client will send no more.
    input_ended: bool,
    /// When it last took something, or had nothing to take.
    progress: Instant,
}

/// What a client says to the process.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    Bytes(Vec<u8>),
    Close,
}

impl Client {
    /// `sent` goes out first; `received` is what came in already.
    pub(super) fn new(
        stream: UnixStream,
        streams: (bool, bool, bool),
        sent: Vec<u8>,
        received: Vec<u8>,
    ) -> Client {
        let (stdin, stdout, stderr) = streams;
        Client {
            stream,
            stdin,
            stdout,
            stderr,
            queue: sent.into(),
            incoming: received,
            input_ended: false,
            progress: Instant::now(),
        }
    }

    /// Queues output, if the client wants this stream.
    pub(super) fn push(&mut self, stream: StdStream, output: &[u8]) {
        let wanted = match stream {
            StdStream::Stdout => self.stdout,
            StdStream::Stderr => self.stderr,
        };
        if !wanted {
            return;
        }
        if self.queue.is_empty() {
            self.progress = Instant::now();
        }
        for body in output.chunks(frame::MAX_BODY) {
            self.queue.extend(frame::header(stream.kind(), body.len()));
            self.queue.extend(body);
        }
    }

    /// Writes what the socket takes. An error means that the client is gone.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while !self.queue.is_empty() {
            match self.stream.write(self.queue.as_slices().0) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.queue.drain(..count);
                    self.progress = Instant::now();
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        // Memory of a burst is not kept.
        self.queue.shrink_to(0);
        Ok(())
    }

    /// Reads and decodes input. An error means that the client is gone or talks nonsense.
    pub(super) fn read(&mut self) -> io::Result<Vec<Input>> {
        let mut chunk = [0; READ];
        match self.stream.read(&mut chunk) {
            Ok(0) => self.input_ended = true,
            Ok(count) => self.incoming.extend_from_slice(&chunk[..count]),
            Err(e)
                if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(e) => return Err(e),
        }
        if self.input_ended && !(self.stdout || self.stderr) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.decode()
    }

    /// The complete frames received so far.
    pub(super) fn decode(&mut self) -> io::Result<Vec<Input>> {
        let mut inputs = Vec::new();
        let mut rest = self.incoming.as_slice();
        while let Some(header) = rest.first_chunk::<HEADER>() {
            let (kind, len) = frame::parse(*header).ok_or(io::ErrorKind::InvalidData)?;
            let Some(body) = rest.get(HEADER..HEADER + len) else { break };
            match kind {
                KIND_STDIN if self.stdin => inputs.push(Input::Bytes(body.to_vec())),
                KIND_STDIN => {}
                KIND_CLOSE_STDIN if self.stdin => inputs.push(Input::Close),
                KIND_CLOSE_STDIN => {}
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
            rest = &rest[HEADER + len..];
        }
        self.incoming = rest.to_vec();
        Ok(inputs)
    }

    pub(super) fn wants_read(&self) -> bool {
        !self.input_ended
    }

    pub(super) fn wants_write(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether the process must wait for it.
    pub(super) fn is_full(&self) -> bool {
        self.queue.len() > MAX_QUEUE
    }

    /// When it is to be cut off if nothing changes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.is_full().then(|| self.progress + STALL_LIMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Client, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("pair");
        ours.set_nonblocking(true).expect("nonblocking");
        (Client::new(ours, (true, true, false), Vec::new(), Vec::new()), theirs)
    }

    #[test]
    fn a_slow_client_fills_up_and_recovers() {
        let (mut client, mut theirs) = pair();
        let chunk = vec![7; 16 * 1024];
        while !client.is_full() {
            client.push(StdStream::Stdout, &chunk);
            client.push(StdStream::Stderr, &chunk);
            client.flush().expect("flush");
        }
        assert!(client.deadline().is_some());
        let mut total = 0;
        let mut buffer = vec![0; 1 << 20];
        theirs.set_read_timeout(Some(Duration::from_millis(100))).expect("timeout");
        while client.wants_write() {
            total += theirs.read(&mut buffer).expect("read");
            client.flush().expect("flush");
        }
        assert!(total > MAX_QUEUE);
        assert!(client.deadline().is_none());
    }

    #[test]
    fn input_arrives_in_pieces() {
        let (mut client, mut theirs) = pair();
        theirs.write_all(&frame::header(KIND_STDIN, 5)[..3]).expect("write");
        assert_eq!(client.read().expect("read"), []);
        theirs.write_all(&frame::header(KIND_STDIN, 5)[3..]).expect("write");
        theirs.write_all(b"hello").expect("write");
        theirs.write_all(&frame::header(KIND_CLOSE_STDIN, 0)).expect("write");
        assert_eq!(client.read().expect("read"), [Input::Bytes(b"hello".to_vec()), Input::Close]);
        drop(theirs);
        client.read().expect("read");
        assert!(!client.wants_read());
    }
}
