//! One control connection: numbered requests out, replies and events in.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::fs::{Mode, OFlags};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::proto::{Command, Event, FromShim, MAX_MESSAGE, Refusal, Reply, Request, SOCKET};

/// Events kept for a slow subscriber before it misses some. A container has few.
const EVENT_BACKLOG: usize = 64;

type Answer = Result<Reply, Refusal>;

/// Shared by all clones of a handle. Two tasks serve it, which end with the connection.
#[derive(Debug)]
pub(super) struct Connection {
    next: AtomicU64,
    outgoing: mpsc::UnboundedSender<Vec<u8>>,
    shared: Arc<Shared>,
}

/// Why a request got no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    Refused(Refusal),
    Gone,
    Encode(serde_json::Error),
}

/// What the connection's task hands out.
#[derive(Debug)]
struct Shared {
    /// By request number; `None` once the connection has ended, so that nobody waits for ever.
    waiters: Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>,
    /// Made for the first who listens: hardly anybody does, and it holds room for all it may keep.
    events: OnceLock<broadcast::Sender<Event>>,
}

impl Shared {
    fn with<T>(
        &self,
        f: impl FnOnce(&mut Option<HashMap<u64, oneshot::Sender<Answer>>>) -> T,
    ) -> T {
        f(&mut self.waiters.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Connects to the shim of a bundle. Goes through a descriptor of the directory because a unix
/// socket's address is limited to 107 bytes and a bundle's path is not.
pub(super) async fn open(bundle: &Path) -> io::Result<UnixStream> {
    let dir = open_bundle(bundle)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd())).await
}

/// Opens the folder, and nothing else that has its name.
pub(super) fn open_bundle(bundle: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(bundle, flags, Mode::empty())?)
}

/// Whether a connection failed because no shim listens.
pub(super) fn is_gone(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
    )
}

impl Connection {
    /// Takes over a fresh connection.
    pub(super) fn new(stream: UnixStream) -> Arc<Self> {
        let (read, write) = stream.into_split();
        let (outgoing, queue) = mpsc::unbounded_channel();
        let shared =
            Arc::new(Shared { waiters: Mutex::new(Some(HashMap::new())), events: OnceLock::new() });
        let connection =
            Arc::new(Connection { next: AtomicU64::new(1), outgoing, shared: shared.clone() });
        tokio::spawn(send_all(queue, write));
        tokio::spawn(async move {
            if let Err(error) = receive_all(read, &shared).await {
                tracing::debug!(%error, "control connection to a shim ended");
            }
            shared.with(Option::take);
        });
        connection
    }

    /// Asks and waits for the answer. Cancel safe: a dropped call's request still takes effect, its
    /// answer is thrown away.
    pub(super) async fn ask(&self, body: Command) -> Result<Reply, NoAnswer> {
        let seq = self.next.fetch_add(1, Ordering::Relaxed);
        let message = encode(&Request { seq, body }).map_err(NoAnswer::Encode)?;
        let (answer, waiting) = oneshot::channel();
        let open =
            self.shared.with(|waiters| waiters.as_mut().map(|w| w.insert(seq, answer)).is_some());
        if !open || self.outgoing.send(message).is_err() {
            return Err(NoAnswer::Gone);
        }
        match waiting.await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(refusal)) => Err(NoAnswer::Refused(refusal)),
            Err(_) => Err(NoAnswer::Gone),
        }
    }

    pub(super) fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.get_or_init(|| broadcast::channel(EVENT_BACKLOG).0).subscribe()
    }
}

/// A message as it goes over the wire.
pub(super) fn encode(request: &Request) -> Result<Vec<u8>, serde_json::Error> {
    let mut message = vec![0; 4];
    serde_json::to_writer(&mut message, request)?;
    let len = u32::try_from(message.len() - 4).unwrap_or(u32::MAX);
    message[..4].copy_from_slice(&len.to_le_bytes());
    Ok(message)
}

async fn send_all(mut queue: mpsc::UnboundedReceiver<Vec<u8>>, mut write: OwnedWriteHalf) {
    while let Some(message) = queue.recv().await {
        if let Err(error) = write.write_all(&message).await {
            // The receiving side sees the end as well and tells the waiters.
            tracing::debug!(%error, "could not write to a shim");
            return;
        }
    }
}

async fn receive_all(mut read: OwnedReadHalf, shared: &Shared) -> io::Result<()> {
    while let Some(message) = read_message(&mut read).await? {
        match message {
            FromShim::Reply { seq, result } => {
                let waiter = shared.with(|waiters| waiters.as_mut().and_then(|w| w.remove(&seq)));
                if let Some(waiter) = waiter {
                    // A waiter that was dropped no longer wants the answer.
                    let _ = waiter.send(result);
                }
            }
            FromShim::Event { event } => {
                if let Some(events) = shared.events.get() {
                    // Fails only when nobody listens any more.
                    let _ = events.send(event);
                }
            }
        }
    }
    Ok(())
}

/// Reads one message; `None` at the end of the stream.
pub(super) async fn read_message(
    read: &mut (impl tokio::io::AsyncRead + Unpin),
) -> io::Result<Option<FromShim>> {
    let mut len = [0; 4];
    match read.read_exact(&mut len).await {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let len = u32::from_le_bytes(len) as usize;
    if len > MAX_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("message of {len} bytes")));
    }
    let mut body = vec![0; len];
    read.read_exact(&mut body).await?;
    Ok(Some(serde_json::from_slice(&body)?))
}
