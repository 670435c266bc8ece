use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, LogState, OptionalSend, RaftLogReader, StorageIOError};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use skep_sys::files::open_own;
use thiserror::Error;
use tokio::sync::watch;

use super::layout;
use super::seal::{SealError, Sealer};
use super::types::{Entry, LogId, StorageError, TypeConfig, Vote};
use super::words::in_words;

/// Entries by index, sealed.
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
/// JSON: [`FORMAT`], [`VOTE`], [`PURGED`].
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// Format of everything in the file; absent in the first files, which count as 0.
const FORMAT: &str = "format";
const NEWEST: u32 = 1;
const VOTE: &str = "vote";
const PURGED: &str = "purged";

/// The log is read back rarely (restart, a slow follower), so a small cache is enough.
const CACHE_BYTES: usize = 1 << 20;
/// Entries kept in memory: what was just appended is read once more to be applied and sent.
const RECENT: usize = 64;

/// Why the log on disk could not be used.
#[derive(Debug, Error)]
pub enum LogError {
    #[error("cannot {action} the raft log {}", path.display())]
    Db {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: Box<redb::Error>,
    },
    #[error("raft log entry {index} cannot be opened")]
    Seal {
        index: u64,
        #[source]
        source: SealError,
    },
    #[error(
        "the raft log {} has format {format}, made by a newer version of skep; this one knows formats up to {NEWEST}",
        path.display()
    )]
    Newer { path: PathBuf, format: u32 },
    #[error("raft log record {key} is not valid")]
    Format {
        key: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("the thread that writes the raft log was lost")]
    Lost,
}

/// The raft log in a redb file. Every write is synced before it is reported done.
#[derive(Clone)]
pub(crate) struct LogStore {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    db: Database,
    sealer: Arc<Sealer>,
    recent: Mutex<VecDeque<Entry>>,
    appended: Arc<AtomicU64>,
    /// Last field, so that it is dropped after the database: watchers then know the file is closed.
    closed: watch::Sender<()>,
}

impl LogStore {
    /// Opens or makes the file.
    pub fn open(path: &Path, sealer: Arc<Sealer>) -> Result<Self, LogError> {
        let at = |action: &'static str| {
            let path = path.to_owned();
            move |source: redb::Error| LogError::Db { action, path, source: Box::new(source) }
        };
        let file = open_own(path, 0o600).map_err(|e| at("open")(redb::Error::Io(e)))?;
        let db = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create_file(file)
            .map_err(|e| at("open")(e.into()))?;
        let made = (|| -> Result<(), redb::Error> {
            // One that is there is not written to, so that it can be opened when there is no room. The
            // tables are made in one transaction.
            match db.begin_read()?.open_table(META) {
                Ok(_) => return Ok(()),
                Err(TableError::TableDoesNotExist(_)) => {}
                Err(error) => return Err(error.into()),
            }
            let write = db.begin_write()?;
            write.open_table(LOG)?;
            write.open_table(META)?;
            write.commit()?;
            Ok(())
        })();
        made.map_err(at("prepare"))?;
        // Then an election can be written down on a full disk: what is replaced within the file needs no
        // new room.
        if let Err(error) = skep_sys::files::fill_holes(path) {
            tracing::debug!(%error, path = %path.display(), "cannot reserve room for the raft log");
        }
        let recent = Mutex::new(VecDeque::with_capacity(RECENT));
        let closed = watch::Sender::new(());
        let appended = Arc::default();
        let inner = Inner { path: path.to_owned(), db, sealer, recent, appended, closed };
        match inner.get_meta::<u32>(FORMAT)? {
            Some(format) if format > NEWEST => {
                return Err(LogError::Newer { path: path.to_owned(), format });
            }
            Some(_) => {}
            None => inner.write("prepare", |write| {
                write.open_table(META)?.insert(FORMAT, NEWEST.to_string().as_bytes())?;
                Ok(())
            })?,
        }
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Nothing was ever written to it.
    pub fn is_blank(&self) -> Result<bool, LogError> {
        let first = (|| -> Result<_, redb::Error> {
            let read = self.inner.db.begin_read()?;
            Ok(read.open_table(LOG)?.first()?.is_some())
        })()
        .map_err(self.inner.db_error("read"))?;
        Ok(!first && self.inner.get_meta::<layout::Vote>(VOTE)?.is_none())
    }

    /// Bytes of entries appended since the file was opened.
    pub fn appended_bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.inner.appended)
    }

    /// Ends (its sender is gone) once the file is closed.
    pub fn closed(&self) -> watch::Receiver<()> {
        self.inner.closed.subscribe()
    }

    /// Appends outside of raft, before it is started.
    pub async fn append_synced(&mut self, entry: Entry) -> Result<(), StorageError> {
        let done = self.blocking(move |inner| inner.append(&[entry])).await;
        done.map_err(|e| StorageIOError::write_logs(any(&e)).into())
    }

    /// Runs `work` where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        let inner = self.inner.clone();
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(result) => result,
            Err(_) => Err(LogError::Lost),
        }
    }
}

impl Inner {
    fn db_error(&self, action: &'static str) -> impl FnOnce(redb::Error) -> LogError {
        let path = self.path.clone();
        move |source| LogError::Db { action, path, source: Box::new(source) }
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.recent.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn encode(&self, entry: &Entry) -> Result<Vec<u8>, LogError> {
        let index = entry.log_id.index;
        let plain = serde_json::to_vec(&layout::Entry::from(entry))
            .map_err(|source| LogError::Format { key: index.to_string(), source })?;
        self.sealer.seal(&place(index), &plain).map_err(|source| LogError::Seal { index, source })
    }

    fn decode(&self, index: u64, sealed: &[u8]) -> Result<Entry, LogError> {
        let plain = self
            .sealer
            .open(&place(index), sealed)
            .map_err(|source| LogError::Seal { index, source })?;
        let entry: layout::Entry<'_> = serde_json::from_slice(&plain)
            .map_err(|source| LogError::Format { key: index.to_string(), source })?;
        Ok(entry.into())
    }

    fn write(
        &self,
        action: &'static str,
        work: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), LogError> {
        (|| {
            let write = self.db.begin_write()?;
            work(&write)?;
            write.commit()?;
            Ok(())
        })()
        .map_err(self.db_error(action))
    }

    fn get_meta<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<Option<T>, LogError> {
        let bytes = (|| -> Result<_, redb::Error> {
            let read = self.db.begin_read()?;
            Ok(read.open_table(META)?.get(key)?.map(|value| value.value().to_vec()))
        })()
        .map_err(self.db_error("read"))?;
        bytes
            .map(|bytes| serde_json::from_slice(&bytes))
            .transpose()
            .map_err(|source| LogError::Format { key: key.to_owned(), source })
    }

    fn append(&self, entries: &[Entry]) -> Result<(), LogError> {
        let mut sealed = Vec::with_capacity(entries.len());
        for entry in entries {
            sealed.push((entry.log_id.index, self.encode(entry)?));
        }
        self.write("append to", |write| {
            let mut log = write.open_table(LOG)?;
            for (index, bytes) in &sealed {
                log.insert(index, bytes.as_slice())?;
            }
            Ok(())
        })?;
        let bytes: usize = sealed.iter().map(|(_, bytes)| bytes.len()).sum();
        self.appended.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(())
    }

    fn read(&self, range: (Bound<u64>, Bound<u64>)) -> Result<Vec<Entry>, LogError> {
        let rows = (|| -> Result<_, redb::Error> {
            let read = self.db.begin_read()?;
            let log = read.open_table(LOG)?;
            let mut rows = Vec::new();
            for row in log.range::<u64>(range)? {
                let (index, bytes) = row?;
                rows.push((index.value(), bytes.value().to_vec()));
            }
            Ok(rows)
        })()
        .map_err(self.db_error("read"))?;
        rows.iter().map(|(index, bytes)| self.decode(*index, bytes)).collect()
    }

    /// The range from memory, if memory has all of it.
    fn read_recent(&self, range: &(Bound<u64>, Bound<u64>)) -> Option<Vec<Entry>> {
        let start = match range.0 {
            Bound::Included(n) => n,
            Bound::Excluded(n) => n.checked_add(1)?,
            Bound::Unbounded => return None,
        };
        let recent = self.recent();
        if recent.front()?.log_id.index > start {
            return None;
        }
        Some(recent.iter().filter(|e| range.contains(&e.log_id.index)).cloned().collect())
    }
}

/// What a sealed entry is bound to.
fn place(index: u64) -> Vec<u8> {
    [b"skep raft log ".as_slice(), &index.to_be_bytes()].concat()
}

fn any(error: &LogError) -> AnyError {
    in_words(error)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let range = (range.start_bound().cloned(), range.end_bound().cloned());
        if let Some(entries) = self.inner.read_recent(&range) {
            return Ok(entries);
        }
        let read = self.blocking(move |inner| inner.read(range)).await;
        read.map_err(|e| StorageIOError::read_logs(any(&e)).into())
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let state = self.blocking(|inner| {
            let purged: Option<layout::LogId> = inner.get_meta(PURGED)?;
            let purged = purged.map(LogId::from);
            let last = (|| -> Result<_, redb::Error> {
                let read = inner.db.begin_read()?;
                let log = read.open_table(LOG)?;
                Ok(log.last()?.map(|(index, bytes)| (index.value(), bytes.value().to_vec())))
            })()
            .map_err(inner.db_error("read"))?;
            let last = match last {
                Some((index, bytes)) => Some(inner.decode(index, &bytes)?.log_id),
                None => purged,
            };
            Ok(LogState { last_purged_log_id: purged, last_log_id: last })
        });
        state.await.map_err(|e| StorageIOError::read_logs(any(&e)).into())
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let vote = *vote;
        let saved = self.blocking(move |inner| {
            let bytes = serde_json::to_vec(&layout::Vote::from(vote))
                .map_err(|source| LogError::Format { key: VOTE.to_owned(), source })?;
            inner.write("save the vote in", |write| {
                write.open_table(META)?.insert(VOTE, bytes.as_slice())?;
                Ok(())
            })
        });
        saved.await.map_err(|e| StorageIOError::write_vote(any(&e)).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        let vote = self.blocking(|inner| inner.get_meta::<layout::Vote>(VOTE)).await;
        vote.map(|vote| vote.map(Vote::from)).map_err(|e| StorageIOError::read_vote(any(&e)).into())
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let written = self.blocking(move |inner| {
            inner.append(&entries)?;
            let mut recent = inner.recent();
            recent.extend(entries);
            let excess = recent.len().saturating_sub(RECENT);
            recent.drain(..excess);
            Ok(())
        });
        match written.await {
            Ok(()) => {
                callback.log_io_completed(Ok(()));
                Ok(())
            }
            Err(error) => {
                let storage = StorageIOError::write_logs(any(&error)).into();
                callback.log_io_completed(Err(io::Error::other(error)));
                Err(storage)
            }
        }
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let done = self.blocking(move |inner| {
            inner.recent().retain(|entry| entry.log_id.index < log_id.index);
            inner.write("truncate", |write| {
                write.open_table(LOG)?.retain_in(log_id.index.., |_, _| false)?;
                Ok(())
            })
        });
        done.await.map_err(|e| StorageIOError::write_logs(any(&e)).into())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let done = self.blocking(move |inner| {
            let bytes = serde_json::to_vec(&layout::LogId::from(log_id))
                .map_err(|source| LogError::Format { key: PURGED.to_owned(), source })?;
            inner.recent().retain(|entry| entry.log_id.index > log_id.index);
            inner.write("purge", |write| {
                write.open_table(META)?.insert(PURGED, bytes.as_slice())?;
                write.open_table(LOG)?.retain_in(..=log_id.index, |_, _| false)?;
                Ok(())
            })
        });
        done.await.map_err(|e| StorageIOError::write_logs(any(&e)).into())
    }
}
