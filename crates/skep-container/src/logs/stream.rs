//! A log as a stream.

use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use futures::future::BoxFuture;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use time::OffsetDateTime;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::LogError;
use super::cursor::Cursor;
use super::entry::LogEntry;
use crate::blocking::blocking;
use crate::proto::JsonFileConfig;

/// Batches read ahead of a slow consumer.
const AHEAD: usize = 2;

/// What to read.
#[derive(Default)]
pub struct ReadOptions {
    /// Only the last so many entries (of those written so far); `None`: all.
    pub tail: Option<usize>,
    /// Only entries at or after this time. Applies after `tail`, as Docker does.
    pub since: Option<OffsetDateTime>,
    /// Only entries at or before this time.
    pub until: Option<OffsetDateTime>,
    /// Go on as the log grows, until this is done (typically: until the container has ended);
    /// everything that was written before that is still delivered.
    pub follow: Option<BoxFuture<'static, ()>>,
}

/// Entries, oldest first. Ends after an error. Dropping it ends the reading.
#[derive(Debug)]
pub struct LogStream {
    batches: mpsc::Receiver<Result<Vec<LogEntry>, LogError>>,
    current: std::vec::IntoIter<LogEntry>,
}

/// Reads a log through all its rotated files. Needs a tokio runtime.
pub fn read(config: &JsonFileConfig, options: ReadOptions) -> LogStream {
    let (send, batches) = mpsc::channel(AHEAD);
    let config = config.clone();
    tokio::spawn(async move {
        if let Err(error) = run(config, options, &send).await {
            // Nobody to tell if the stream was dropped.
            let _ = send.send(Err(error)).await;
        }
    });
    LogStream { batches, current: Vec::new().into_iter() }
}

async fn run(
    config: JsonFileConfig,
    options: ReadOptions,
    send: &mpsc::Sender<Result<Vec<LogEntry>, LogError>>,
) -> Result<(), LogError> {
    let ReadOptions { tail, since, until, follow } = options;
    let path = config.path.clone();
    // The watch comes first: what is written after the last read is seen by one of the two.
    let watch = match &follow {
        Some(_) => Some(watch(&config)?),
        None => None,
    };
    let mut ended = follow;
    let mut cursor = blocking(move || Cursor::open(config, tail)).await?;
    loop {
        let (back, batch) = blocking(move || {
            let batch = cursor.batch();
            (cursor, batch)
        })
        .await;
        cursor = back;
        let mut batch = batch?;
        if batch.is_empty() {
            let (Some(watch), Some(end)) = (&watch, &mut ended) else { return Ok(()) };
            tokio::select! {
                () = send.closed() => return Ok(()),
                () = end => ended = None,
                changed = watch.readable() => match changed {
                    Ok(mut guard) => {
                        drain(watch.get_ref());
                        guard.clear_ready();
                    }
                    Err(source) => return Err(LogError::Watch { path, source }),
                },
            }
            continue;
        }
        let past_end =
            until.is_some_and(|until| batch.last().is_some_and(|entry| entry.time > until));
        batch.retain(|e| {
            since.is_none_or(|since| e.time >= since) && until.is_none_or(|until| e.time <= until)
        });
        if !batch.is_empty() && send.send(Ok(batch)).await.is_err() {
            return Ok(());
        }
        if past_end {
            return Ok(());
        }
    }
}

/// Watches the directory, since files come and go.
fn watch(config: &JsonFileConfig) -> Result<AsyncFd<OwnedFd>, LogError> {
    let failed = |source| LogError::Watch { path: config.path.clone(), source };
    let dir =
        config.path.parent().ok_or_else(|| failed(std::io::ErrorKind::InvalidInput.into()))?;
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
        .map_err(|e| failed(e.into()))?;
    let events = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
    inotify.add_watch(dir, events).map_err(|e| failed(e.into()))?;
    // Deprecated because a type could change the descriptor it gives; an owned one does not.
    #[expect(deprecated, reason = "the replacement is an unsafe function")]
    AsyncFd::new(OwnedFd::from(inotify)).map_err(failed)
}

/// Takes off all that the watch has seen; what it was does not matter.
fn drain(watch: &OwnedFd) {
    let mut events = [0; 4096];
    while nix::unistd::read(watch, &mut events).is_ok_and(|count| count > 0) {}
}

impl Stream for LogStream {
    type Item = Result<LogEntry, LogError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(entry) = this.current.next() {
                return Poll::Ready(Some(Ok(entry)));
            }
            match std::task::ready!(this.batches.poll_recv(cx)) {
                Some(Ok(batch)) => this.current = batch.into_iter(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}
