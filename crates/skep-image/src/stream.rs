//! Bridges between blocking writers and asynchronous bodies.

use std::{
    io::{self, Write},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use tokio::sync::mpsc;

const CHUNK: usize = 64 << 10;
/// Chunks under way: enough to keep both sides busy, few enough to bound memory.
const IN_FLIGHT: usize = 4;

/// Bytes made by a blocking task, for HTTP bodies. An error in the middle is an item, so that a
/// truncated body is never taken for a whole one. Dropping it ends the task.
#[derive(Debug)]
pub struct ByteStream(mpsc::Receiver<io::Result<Bytes>>);

impl ByteStream {
    /// Runs `produce` on the blocking pool and streams what it writes. Must be called inside a tokio
    /// runtime.
    pub fn spawn<F>(produce: F) -> Self
    where
        F: FnOnce(&mut ChunkWriter) -> io::Result<()> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(IN_FLIGHT);
        tokio::task::spawn_blocking(move || {
            let mut writer = ChunkWriter { sender, buffer: BytesMut::new() };
            let result = produce(&mut writer).and_then(|()| writer.flush());
            if let Err(error) = result {
                // A reader that left needs no error.
                let _gone = writer.sender.blocking_send(Err(error));
            }
        });
        Self(receiver)
    }
}

impl Stream for ByteStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

/// The writing end of a [`ByteStream`]. Blocks while the reader is slow; fails once it has gone.
pub struct ChunkWriter {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: BytesMut,
}

impl Write for ChunkWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = buf.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&buf[..n]);
        if self.buffer.len() == CHUNK {
            self.flush()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = self.buffer.split().freeze();
        self.sender
            .blocking_send(Ok(chunk))
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the reader of the stream left"))
    }
}
