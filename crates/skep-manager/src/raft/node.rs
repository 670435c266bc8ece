use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use openraft::storage::RaftLogStorage;
use openraft::{Config, EntryPayload, Membership, SnapshotPolicy};
use skep_sys::files::{self, Durability};
use thiserror::Error;
use tokio::sync::watch;

use super::key_file::{KeyFile, KeyFileError};
use super::log_store::{LogError, LogStore};
use super::network::{Network, RaftTransport};
use super::snapshot::SnapshotFile;
use super::state_machine::{StateMachine, StateMachineError};
use super::types::{Entry, LogId, Member, Raft, RaftId, StorageError, Vote};
use super::words::reason;
use crate::store::StoreCell;

/// A follower that is behind by more entries gets a snapshot instead.
const LAG_LIMIT: u64 = 20_000;

/// Files of a raft folder.
const ID: &str = "id";
const KEYS: &str = "keys.json";
const LOG: &str = "log.redb";

/// What earlier versions wrote the keys to before they renamed them. A crash left it there, in the clear.
const EARLIER_LEFTOVER: &str = "keys.new";

/// Why raft did not start.
#[derive(Debug, Error)]
pub enum RaftStartError {
    #[error("cannot use {}", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot use the raft member's id in {}", path.display())]
    Id {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot get the keys of the raft log")]
    Keys(#[source] KeyFileError),
    #[error("cannot open the raft log")]
    Log(#[source] LogError),
    #[error("cannot restore the swarm's state")]
    State(#[source] StateMachineError),
    /// This member was in a swarm, and what it knew is gone.
    #[error(
        "{} is {what}: what this manager knew of the swarm is lost. Restore the swarm's folder from a copy, or give the membership up with \"docker swarm leave --force\"",
        path.display()
    )]
    Lost {
        path: PathBuf,
        /// `missing` or `empty`.
        what: &'static str,
    },
    #[error("raft refused to start")]
    Raft(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("a background thread was lost")]
    Thread,
}

fn raft_error(error: impl std::error::Error + Send + Sync + 'static) -> RaftStartError {
    RaftStartError::Raft(reason(&error).into())
}

/// A started raft member with its store.
pub(crate) struct RaftNode {
    pub raft: Raft,
    pub cell: StoreCell,
    id: RaftId,
    /// Touched when autolock or the unlock key changes.
    keys: KeyFile,
    log_closed: watch::Receiver<()>,
    appended_bytes: Arc<AtomicU64>,
}

/// How a member begins.
pub(crate) enum Begin {
    /// Make a swarm of this member alone, or go on if that was done before.
    Alone,
    /// Go on with what is on disk; it is an error if there is nothing.
    Resume,
    /// Make this member the only one, keeping the state: `--force-new-cluster`. As with `Resume`, there must
    /// be one.
    ForceAlone,
}

impl RaftNode {
    /// Opens `dir` and starts raft. On [`Begin::Alone`] and [`Begin::ForceAlone`] this member is
    /// leader when it returns, or will be within milliseconds.
    pub async fn start(
        dir: &Path,
        member: Member,
        begin: Begin,
        unlock_key: Option<Vec<u8>>,
        transport: Arc<dyn RaftTransport>,
    ) -> Result<Self, RaftStartError> {
        let opened = {
            let dir = dir.to_owned();
            let first = matches!(begin, Begin::Alone);
            tokio::task::spawn_blocking(move || open(&dir, first, unlock_key.as_deref()))
        };
        let Opened { id, keys, mut log, state, cell } =
            opened.await.map_err(|_| RaftStartError::Thread)??;
        if matches!(begin, Begin::ForceAlone) {
            make_alone(&mut log, id, member.clone()).await.map_err(raft_error)?;
        }
        let config = Config {
            cluster_name: "skep".to_owned(),
            heartbeat_interval: 500,
            election_timeout_min: 2_000,
            election_timeout_max: 4_000,
            install_snapshot_timeout: 10_000,
            // Both by the swarm's settings: `keep_short`.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            replication_lag_threshold: LAG_LIMIT,
            ..Config::default()
        };
        let config = Arc::new(config.validate().map_err(raft_error)?);
        let (log_closed, appended_bytes) = (log.closed(), log.appended_bytes());
        let raft =
            Raft::new(id, config, Network::new(transport), log, state).await.map_err(raft_error)?;
        let node = Self { raft, cell, id, keys, log_closed, appended_bytes };
        node.begin(begin, member).await?;
        Ok(node)
    }

    async fn begin(&self, begin: Begin, member: Member) -> Result<(), RaftStartError> {
        let fresh = !self.raft.is_initialized().await.map_err(raft_error)?;
        if fresh && matches!(begin, Begin::Alone) {
            let members = BTreeMap::from([(self.id, member)]);
            return self.raft.initialize(members).await.map_err(raft_error);
        }
        if fresh {
            return Ok(());
        }
        // A crash can lie between being elected and noting it; alone, there is nobody to wait for.
        let metrics = self.raft.metrics().borrow().clone();
        let mut voters = metrics.membership_config.voter_ids();
        let alone = voters.next() == Some(self.id) && voters.next().is_none();
        if alone && metrics.current_leader != Some(self.id) {
            self.raft.trigger().elect().await.map_err(raft_error)?;
        }
        Ok(())
    }

    pub fn id(&self) -> RaftId {
        self.id
    }

    /// Ends (its sender is gone) once the log's file is closed.
    pub fn log_closed(&self) -> watch::Receiver<()> {
        self.log_closed.clone()
    }

    /// Bytes of entries appended to the log since it was opened.
    pub fn appended_bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.appended_bytes)
    }

    /// Whether the data keys are sealed with this unlock key (or with none).
    pub fn is_locked_with(&self, unlock_key: Option<&[u8]>) -> bool {
        self.keys.is_stored_with(unlock_key)
    }

    /// What the data keys on disk are sealed with, as it changes.
    pub fn unlock_key(&self) -> watch::Receiver<Option<Vec<u8>>> {
        self.keys.unlock_key()
    }

    /// Seals the data keys with the unlock key, or stores them in the clear again. Blocks.
    pub fn lock_with(&self, unlock_key: Option<&[u8]>) -> Result<(), KeyFileError> {
        self.keys.store(unlock_key)
    }
}

struct Opened {
    id: RaftId,
    keys: KeyFile,
    log: LogStore,
    state: StateMachine,
    cell: StoreCell,
}

/// `first`: there may be nothing yet.
fn open(dir: &Path, first: bool, unlock_key: Option<&[u8]>) -> Result<Opened, RaftStartError> {
    if !first {
        for name in [ID, KEYS, LOG] {
            check_there(&dir.join(name))?;
        }
    }
    files::make_dirs(dir, 0o700)
        .map_err(|source| RaftStartError::Folder { path: dir.to_owned(), source })?;
    let leftover = dir.join(EARLIER_LEFTOVER);
    files::remove_file(&leftover, Durability::Volatile)
        .map_err(|source| RaftStartError::Folder { path: leftover, source })?;
    let id = member_id(&dir.join(ID))?;
    let keys = KeyFile::open(&dir.join(KEYS), unlock_key).map_err(RaftStartError::Keys)?;
    let sealer = Arc::new(keys.sealer().map_err(RaftStartError::Keys)?);
    let log = LogStore::open(&dir.join(LOG), sealer.clone()).map_err(RaftStartError::Log)?;
    if !first && log.is_blank().map_err(RaftStartError::Log)? {
        return Err(RaftStartError::Lost { path: dir.join(LOG), what: "empty" });
    }
    let file = SnapshotFile::new(&dir.join("snapshot"), sealer);
    let (state, cell) = StateMachine::open(file).map_err(RaftStartError::State)?;
    Ok(Opened { id, keys, log, state, cell })
}

/// A file that was made at the first start must not be made anew: everything would seem to be there, and
/// nothing would fit.
fn check_there(path: &Path) -> Result<(), RaftStartError> {
    let lost = |what| Err(RaftStartError::Lost { path: path.to_owned(), what });
    match fs::metadata(path) {
        Ok(meta) if meta.len() == 0 => lost("empty"),
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => lost("missing"),
        Err(source) => Err(RaftStartError::Folder { path: path.to_owned(), source }),
    }
}

/// The member's id, drawn at the first start: 63 random bits, not zero.
fn member_id(path: &Path) -> Result<RaftId, RaftStartError> {
    let failed = |source| RaftStartError::Id { path: path.to_owned(), source };
    match files::read(path) {
        Ok(Some(text)) => String::from_utf8_lossy(&text)
            .trim()
            .parse()
            .map_err(|e| failed(io::Error::new(io::ErrorKind::InvalidData, e))),
        Ok(None) => {
            let id: RaftId = (rand::random::<u64>() >> 1) + 1;
            files::replace(path, id.to_string().as_bytes(), 0o600, Durability::Lasting)
                .map_err(failed)?;
            Ok(id)
        }
        Err(e) => Err(failed(e)),
    }
}

/// Appends a membership of `id` alone, as the leader of a term nobody has seen. The entries before
/// it count as committed: of a lost majority this is the best that is known.
async fn make_alone(log: &mut LogStore, id: RaftId, member: Member) -> Result<(), StorageError> {
    let state = log.get_log_state().await?;
    let vote = log.read_vote().await?.unwrap_or_default();
    let last = state.last_log_id;
    let term = vote.leader_id().term.max(last.map_or(0, |l| l.leader_id.term)) + 1;
    let vote = Vote::new_committed(term, id);
    let membership = Membership::new(vec![[id].into()], BTreeMap::from([(id, member)]));
    let index = last.map_or(0, |l| l.index + 1);
    let entry = Entry {
        log_id: LogId::new(*vote.leader_id(), index),
        payload: EntryPayload::Membership(membership),
    };
    log.append_synced(entry).await?;
    log.save_vote(&vote).await
}
