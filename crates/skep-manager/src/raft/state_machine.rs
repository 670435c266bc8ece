use std::io::Cursor;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use openraft::storage::RaftStateMachine;
use openraft::{AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, StorageIOError};
use skep_control::{Store, StoreSnapshot};
use skep_types::Repeated;

use super::snapshot::{SnapshotError, SnapshotFile};
use super::types::{
    Entry, LogId, Snapshot, SnapshotMeta, StorageError, StoredMembership, TypeConfig,
};
use super::words::in_words;
use crate::store::{StoreCell, TransactionError, TransactionResult};

/// Pause before a snapshot that could not be written is written again.
const SNAPSHOT_RETRY: Duration = Duration::from_secs(2);

/// Applies committed entries to the store. The store lives in memory: it is the last snapshot plus
/// the log after it, read again at every start.
pub(crate) struct StateMachine {
    cell: StoreCell,
    file: SnapshotFile,
    last_applied: Option<LogId>,
    membership: StoredMembership,
    /// Gone with this machine: snapshots that are under way then end.
    alive: Arc<()>,
}

impl StateMachine {
    /// Loads the last snapshot into a fresh cell. Blocks.
    pub fn open(file: SnapshotFile) -> Result<(Self, StoreCell), StateMachineError> {
        let (store, last_applied, membership) =
            match file.load().map_err(StateMachineError::Snapshot)? {
                Some(snapshot) => (
                    decode(snapshot.snapshot.get_ref())?,
                    snapshot.meta.last_log_id,
                    snapshot.meta.last_membership,
                ),
                None => (Store::default(), None, StoredMembership::default()),
            };
        let cell = StoreCell::new(store);
        Ok((Self { cell: cell.clone(), file, last_applied, membership, alive: Arc::new(()) }, cell))
    }
}

/// Why the state could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum StateMachineError {
    #[error("cannot load the swarm's state")]
    Snapshot(#[source] SnapshotError),
    #[error("the swarm's state in the snapshot is not valid")]
    Decode(#[source] serde_json::Error),
}

fn decode(json: &[u8]) -> Result<Store, StateMachineError> {
    let snapshot: StoreSnapshot =
        serde_json::from_slice(json).map_err(StateMachineError::Decode)?;
    Ok(Store::from(snapshot))
}

/// A view of the store, to be written out beside the ongoing work.
pub(crate) struct SnapshotBuilder {
    store: Store,
    file: SnapshotFile,
    last_applied: Option<LogId>,
    membership: StoredMembership,
    alive: Weak<()>,
}

impl SnapshotBuilder {
    /// Writes the snapshot. Raft would end for good on an error, and can wait: so a disk that refuses is
    /// tried again for as long as raft runs.
    async fn save(&self, meta: &SnapshotMeta) -> Result<String, AnyError> {
        let mut trouble = Repeated::default();
        loop {
            let (store, file, meta) = (self.store.clone(), self.file.clone(), meta.clone());
            let written = tokio::task::spawn_blocking(move || {
                let json = serde_json::to_string(&store.snapshot()).map_err(|e| in_words(&e))?;
                Ok(file.save(&meta, json.clone()).map(|()| json))
            });
            let error = match written.await {
                Ok(Ok(Ok(json))) => return Ok(json),
                Ok(Ok(Err(error))) => error,
                Ok(Err(error)) => return Err(error),
                Err(error) => return Err(in_words(&error)),
            };
            if self.alive.strong_count() == 0 {
                return Err(in_words(&error));
            }
            let error = skep_types::report(&error);
            if let Some(failures) = trouble.failed(Instant::now(), &error) {
                tracing::error!(error, failures, "cannot write a snapshot of the swarm's state");
            }
            tokio::time::sleep(SNAPSHOT_RETRY).await;
        }
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        let meta = SnapshotMeta {
            last_log_id: self.last_applied,
            last_membership: self.membership.clone(),
            snapshot_id: match self.last_applied {
                Some(id) => format!("{}-{}", id.leader_id, id.index),
                None => "empty".to_owned(),
            },
        };
        let failed = |e: AnyError| StorageIOError::write_snapshot(Some(meta.signature()), e);
        let json = self.save(&meta).await.map_err(failed)?;
        Ok(Snapshot { meta, snapshot: Box::new(Cursor::new(json.into_bytes())) })
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Vec<TransactionResult>>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut store = self.cell.read();
        let mut changes = Vec::new();
        let mut answers = Vec::new();
        for entry in entries {
            self.last_applied = Some(entry.log_id);
            let mut results = Vec::new();
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                }
                EntryPayload::Normal(command) => {
                    for transaction in command.transactions {
                        // Versions count transactions, not entries, since an entry holds several.
                        let index = store.index() + 1;
                        results.push(
                            match store.apply(index, transaction.time, transaction.actions) {
                                Ok(change) => {
                                    changes.push(Arc::new(change));
                                    Ok(index)
                                }
                                Err(e) => Err(TransactionError(e.to_string())),
                            },
                        );
                    }
                }
            }
            answers.push(results);
        }
        if !changes.is_empty() {
            self.cell.advance(store, changes);
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            store: self.cell.read(),
            file: self.file.clone(),
            last_applied: self.last_applied,
            membership: self.membership.clone(),
            alive: Arc::downgrade(&self.alive),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let bytes = snapshot.into_inner();
        let bad = |e: AnyError| StorageIOError::read_snapshot(Some(meta.signature()), e);
        let store = decode(&bytes).map_err(|e| bad(in_words(&e)))?;
        let json = String::from_utf8(bytes).map_err(|e| bad(in_words(&e)))?;
        let (file, kept) = (self.file.clone(), meta.clone());
        let saved = tokio::task::spawn_blocking(move || file.save(&kept, json)).await;
        let failed = |e: AnyError| StorageIOError::write_snapshot(Some(meta.signature()), e);
        match saved {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return Err(failed(in_words(&e)).into()),
            Err(e) => return Err(failed(in_words(&e)).into()),
        }
        self.last_applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.cell.replace(store);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        let file = self.file.clone();
        let failed = |e: AnyError| StorageIOError::read_snapshot(None, e);
        match tokio::task::spawn_blocking(move || file.load()).await {
            Ok(Ok(snapshot)) => Ok(snapshot),
            Ok(Err(e)) => Err(failed(in_words(&e)).into()),
            Err(e) => Err(failed(in_words(&e)).into()),
        }
    }
}
