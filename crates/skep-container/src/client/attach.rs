//! An attached client's streams.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::frame::{
    self, HEADER, KIND_CLOSE_STDIN, KIND_STDERR, KIND_STDIN, KIND_STDOUT, StdStream,
};

/// Which streams to attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachOptions {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

impl AttachOptions {
    /// All three.
    pub const ALL: AttachOptions = AttachOptions { stdin: true, stdout: true, stderr: true };
}

/// Both directions of an attached client.
#[derive(Debug)]
pub struct Attached {
    pub stdin: AttachStdin,
    pub output: OutputStream,
}

impl Attached {
    pub(super) fn new(stream: UnixStream) -> Self {
        let (read, write) = stream.into_split();
        Attached {
            stdin: AttachStdin { write, pending: BytesMut::new(), closed: false },
            output: OutputStream { read, buffer: BytesMut::new() },
        }
    }
}

/// Writes to the process's standard input (or terminal).
///
/// `shutdown` says that no more will come: the process sees the end of its input if it is an exec
/// process, or if the container was created with `stdin_once`, and has no terminal. Just dropping
/// this says nothing to the process, so that the death of the daemon does not look like an end of
/// input. When input was not attached, or the process has ended, bytes are thrown away.
#[derive(Debug)]
pub struct AttachStdin {
    write: OwnedWriteHalf,
    /// Encoded and not yet written.
    pending: BytesMut,
    closed: bool,
}

impl AttachStdin {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let written = ready!(Pin::new(&mut self.write).poll_write(cx, &self.pending))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for AttachStdin {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(this.poll_drain(cx))?;
        let len = data.len().min(frame::MAX_BODY);
        this.pending.extend_from_slice(&frame::header(KIND_STDIN, len));
        this.pending.extend_from_slice(&data[..len]);
        match this.poll_drain(cx) {
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            _ => Poll::Ready(Ok(len)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_drain(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.closed {
            this.closed = true;
            this.pending.extend_from_slice(&frame::header(KIND_CLOSE_STDIN, 0));
        }
        this.poll_drain(cx)
    }
}

/// Output of the process as (stream, bytes), in the order in which the shim read it. Ends when all
/// processes that hold the output have closed it (or two seconds after the attached one ended).
#[derive(Debug)]
pub struct OutputStream {
    read: OwnedReadHalf,
    buffer: BytesMut,
}

impl OutputStream {
    /// Takes one complete frame off the buffer.
    fn next_frame(&mut self) -> io::Result<Option<(StdStream, Bytes)>> {
        let Some(header) = self.buffer.first_chunk::<HEADER>() else { return Ok(None) };
        let (kind, len) = frame::parse(*header)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "output frame too long"))?;
        if self.buffer.len() < HEADER + len {
            return Ok(None);
        }
        let stream = match kind {
            KIND_STDOUT => StdStream::Stdout,
            KIND_STDERR => StdStream::Stderr,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "unknown output frame")),
        };
        self.buffer.advance(HEADER);
        Ok(Some((stream, self.buffer.split_to(len).freeze())))
    }
}

impl Stream for OutputStream {
    type Item = io::Result<(StdStream, Bytes)>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(frame) = this.next_frame().transpose() {
                return Poll::Ready(Some(frame));
            }
            let mut chunk = [0; 8192];
            let mut read = ReadBuf::new(&mut chunk);
            match ready!(Pin::new(&mut this.read).poll_read(cx, &mut read)) {
                // The shim dropping us (or dying) with unread input of ours in flight shows as a reset.
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Poll::Ready(None),
                Err(e) => return Poll::Ready(Some(Err(e))),
                Ok(()) if read.filled().is_empty() => return Poll::Ready(None),
                Ok(()) => this.buffer.extend_from_slice(read.filled()),
            }
        }
    }
}
