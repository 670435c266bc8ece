//! Bridges between blocking readers and writers and asynchronous bodies.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

use crate::error::{EngineError, Result};
use crate::options::ByteStream;

const CHUNK: usize = 64 << 10;
/// Chunks under way: enough to keep both sides busy, few enough to bound memory.
const IN_FLIGHT: usize = 4;

/// A stream, and a writer for a blocking task that fills it.
pub fn pipe() -> (ByteStream, ChunkWriter) {
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    let stream = futures::stream::unfold(
        receiver,
        |mut receiver: mpsc::Receiver<Result<Bytes>>| async move {
            receiver.recv().await.map(|item| (item, receiver))
        },
    );
    (stream.boxed(), ChunkWriter { sender, buffer: BytesMut::new() })
}

/// The writing end of [`pipe`]. Blocks while the reader is slow; fails once it has gone.
pub struct ChunkWriter {
    sender: mpsc::Sender<Result<Bytes>>,
    buffer: BytesMut,
}

impl ChunkWriter {
    /// Sends what is left, or the error, so that a body cut short is never taken for a whole one.
    pub fn finish(mut self, result: io::Result<()>) {
        if let Err(error) = result.and_then(|()| self.flush()) {
            // A reader that left needs no error.
            let _ =
                self.sender.blocking_send(Err(EngineError::system("the stream broke off", error)));
        }
    }
}

impl Write for ChunkWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let n = data.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&data[..n]);
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
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the reader left"))
    }
}

/// A reader for a blocking task, fed from an asynchronous source by a task of its own.
pub fn reader<R: AsyncRead + Send + Unpin + 'static>(mut source: R) -> ChunkReader {
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    tokio::spawn(async move {
        loop {
            let mut buffer = BytesMut::with_capacity(CHUNK);
            let item = match source.read_buf(&mut buffer).await {
                Ok(0) => return,
                Ok(_) => Ok(buffer.freeze()),
                Err(error) => Err(error),
            };
            let last = item.is_err();
            if sender.send(item).await.is_err() || last {
                return;
            }
        }
    });
    ChunkReader { receiver, current: Bytes::new() }
}

/// The reading end of [`reader`].
pub struct ChunkReader {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Read for ChunkReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.current.is_empty() {
            match self.receiver.blocking_recv() {
                None => return Ok(0),
                Some(item) => self.current = item?,
            }
        }
        let n = out.len().min(self.current.len());
        out[..n].copy_from_slice(&self.current[..n]);
        self.current.advance(n);
        Ok(n)
    }
}
