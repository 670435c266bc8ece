//! Bridges between blocking readers and writers and asynchronous bodies.

use std::io::{self, Read};

use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use skep_image::ChunkWriter;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

use crate::error::EngineError;
use crate::options::ByteStream;

const CHUNK: usize = 64 << 10;
/// Chunks under way: enough to keep both sides busy, few enough to bound memory.
const IN_FLIGHT: usize = 4;

/// What a blocking task writes, as a body.
pub fn written<F>(produce: F) -> ByteStream
where
    F: FnOnce(&mut ChunkWriter) -> io::Result<()> + Send + 'static,
{
    bytes(skep_image::ByteStream::spawn(produce))
}

/// The image room's stream with this crate's errors.
pub fn bytes(stream: skep_image::ByteStream) -> ByteStream {
    stream.map(|item| item.map_err(|e| EngineError::system("the stream broke off", e))).boxed()
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
