//! A log as a stream.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use futures::future::BoxFuture;
use time::OffsetDateTime;
use tokio::sync::mpsc;

use super::LogError;
use super::cursor::Cursor;
use super::entry::LogEntry;
use super::watcher::{Changes, LogWatcher};
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
    /// Go on as the log grows.
    pub follow: Option<Follow>,
}

/// How to go on as the log grows.
pub struct Follow {
    /// Notices that it does; one for all logs.
    pub watcher: LogWatcher,
    /// Until this is done (typically: until the container has ended); everything that was written
    /// before that is still delivered.
    pub until: BoxFuture<'static, ()>,
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
    // The watch comes first: what is written after the last read is seen by one of the two.
    let (mut changes, mut ended) = match follow {
        Some(Follow { watcher, until }) => (Some(watch(&config, &watcher)?), Some(until)),
        None => (None, None),
    };
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
            let (Some(changes), Some(end)) = (&mut changes, &mut ended) else { return Ok(()) };
            tokio::select! {
                () = send.closed() => return Ok(()),
                () = end => ended = None,
                () = changes.next() => {}
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

fn watch(config: &JsonFileConfig, watcher: &LogWatcher) -> Result<Changes, LogError> {
    let failed = |source| LogError::Watch { path: config.path.clone(), source };
    let dir =
        config.path.parent().ok_or_else(|| failed(std::io::ErrorKind::InvalidInput.into()))?;
    watcher.follow(dir).map_err(failed)
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
