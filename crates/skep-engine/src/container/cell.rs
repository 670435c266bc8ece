//! A container as the engine holds it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard_stubs::models::HealthcheckResult;
use skep_container::{Attached, Handle};
use skep_sys::files::Durability;
use tokio::sync::{oneshot, watch};

use super::record::Record;
use super::watch::{Glance, HealthStatus, Phase};
use crate::error::{EngineError, Result};
use crate::util;

/// Pause before a record that could not be saved is saved again.
const SAVE_RETRY: Duration = Duration::from_secs(2);

/// Results of a health check that are kept.
pub const HEALTH_LOG: usize = 5;

/// One container. Its life is changed only under `op`; short looks and changes go through the inner
/// locks, which are never held over an await.
#[derive(Debug)]
pub struct Container {
    /// 64 hex.
    pub id: String,
    /// `<data root>/containers/<id>`
    pub dir: PathBuf,
    /// Serialises start, removal, network changes and the handling of its end.
    pub op: Arc<tokio::sync::Mutex<()>>,
    /// Whose start is next, while it waits for a turn and for `op`: who holds neither cannot take them from
    /// each other in turn.
    pub next: tokio::sync::Mutex<()>,
    record: Mutex<Record>,
    /// Its record cannot be read; the one here stands for it and is never written.
    damaged: bool,
    live: Mutex<Live>,
    glance: watch::Sender<Glance>,
    /// Serialises writes of the record, so that an older one never replaces a newer.
    save: Arc<Mutex<()>>,
    /// A save that failed is going to be tried again.
    unsaved: AtomicBool,
}

/// What is only in memory.
#[derive(Debug, Default)]
pub struct Live {
    /// Connection to the shim while there is one.
    pub handle: Option<Handle>,
    /// Why the shim of the container, which runs for all that is known, cannot be reached now.
    pub unreached: Option<String>,
    /// Clients that attached before the start; served by it.
    pub pending: Vec<PendingAttach>,
    /// Health as found.
    pub health: HealthState,
    /// Ends the running health check loop when dropped.
    pub health_stop: Option<oneshot::Sender<()>>,
    /// Ends the wait of the restart policy when dropped.
    pub restart_cancel: Option<oneshot::Sender<()>>,
    /// A stop is under way or done: its end must not be answered by the restart policy.
    pub stopping: bool,
    /// Its end must not remove it, whatever `--rm` says: a restart is under way.
    pub keep: bool,
    /// Counts starts, so that the end of one run does not let go of what the next uses.
    pub starts: u64,
    /// Counts monitors, so that one of an earlier run knows it is out of date.
    pub run: u64,
    /// Pause before the next restart by policy, in milliseconds; 0 means the first.
    pub backoff_ms: u64,
    /// Asking for a place on a network that is not this host's own.
    pub attaching: bool,
    /// Exec ids, oldest first.
    pub execs: Vec<String>,
    /// The name that its record had when it was found, if another container has that.
    pub former_name: Option<String>,
}

/// A client that attached before the start.
#[derive(Debug)]
pub struct PendingAttach {
    /// What it wants.
    pub options: skep_container::AttachOptions,
    /// Gets the streams right before the process runs; dropped when there will be none.
    pub reply: oneshot::Sender<Attached>,
}

/// Health as found.
#[derive(Debug, Clone, Default)]
pub struct HealthState {
    /// Verdict.
    pub status: HealthStatus,
    /// Failures in a row.
    pub streak: i64,
    /// Last results, oldest first.
    pub log: VecDeque<HealthcheckResult>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Container {
    /// A container with this record in this folder.
    pub fn new(record: Record, dir: PathBuf) -> Arc<Self> {
        Self::with(record, dir, false)
    }

    /// One whose record cannot be read, with one that stands for it.
    pub fn damaged(record: Record, dir: PathBuf) -> Arc<Self> {
        Self::with(record, dir, true)
    }

    fn with(record: Record, dir: PathBuf, damaged: bool) -> Arc<Self> {
        let glance = Glance {
            phase: record.state.phase,
            pid: (record.state.pid > 0).then_some(record.state.pid),
            exit_code: record.state.exit_code,
            error: record.state.error.clone(),
            oom_killed: record.state.oom_killed,
            ..Glance::default()
        };
        Arc::new(Self {
            id: record.id.clone(),
            dir,
            op: Arc::default(),
            next: tokio::sync::Mutex::default(),
            record: Mutex::new(record),
            damaged,
            live: Mutex::new(Live::default()),
            glance: watch::channel(glance).0,
            save: Arc::new(Mutex::new(())),
            unsaved: AtomicBool::new(false),
        })
    }

    /// A copy of the record as it is now.
    pub fn record(&self) -> Record {
        lock(&self.record).clone()
    }

    /// Looks at the record.
    pub fn read<T>(&self, look: impl FnOnce(&Record) -> T) -> T {
        look(&lock(&self.record))
    }

    /// Changes the record, and tells watchers. Saving it is up to the caller.
    pub fn change<T>(&self, change: impl FnOnce(&mut Record) -> T) -> T {
        let mut record = lock(&self.record);
        let result = change(&mut record);
        let state = record.state.clone();
        drop(record);
        self.tell(|glance| {
            glance.phase = state.phase;
            glance.pid = (state.pid > 0).then_some(state.pid);
            glance.exit_code = state.exit_code;
            glance.error = state.error;
            glance.oom_killed = state.oom_killed;
        });
        result
    }

    /// Looks at or changes what is only in memory.
    pub fn live<T>(&self, change: impl FnOnce(&mut Live) -> T) -> T {
        change(&mut lock(&self.live))
    }

    /// Changes what watchers see; they are woken only if something differs.
    pub fn tell(&self, change: impl FnOnce(&mut Glance)) {
        self.glance.send_if_modified(|glance| {
            let before = glance.clone();
            change(glance);
            *glance != before
        });
    }

    /// Watches.
    pub fn watch(&self) -> watch::Receiver<Glance> {
        self.glance.subscribe()
    }

    /// Whether its record cannot be read.
    pub fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// Where in its life it is.
    pub fn phase(&self) -> Phase {
        self.read(|r| r.state.phase)
    }

    /// Name, without a slash.
    pub fn name(&self) -> String {
        self.read(|r| r.name.clone())
    }

    /// Connection to the shim while there is one.
    pub fn handle(&self) -> Option<Handle> {
        self.live(|l| l.handle.clone())
    }

    /// Refuses calls that need a shim which cannot be reached.
    ///
    /// # Errors
    /// `ShimUnreached`.
    pub fn reachable(&self) -> Result<()> {
        match self.live(|l| l.unreached.clone()) {
            Some(reason) => Err(EngineError::ShimUnreached { name: self.name(), reason }),
            None => Ok(()),
        }
    }

    /// Writes the record as it is when the disk gets to it.
    ///
    /// # Errors
    /// When the disk says no.
    pub async fn save(self: &Arc<Self>) -> Result<()> {
        let this = self.clone();
        util::blocking(move || this.save_now(Durability::Volatile)).await
    }

    /// As [`Container::save`], and it survives a crash of the host: for what a user changed.
    ///
    /// # Errors
    /// When the disk says no.
    pub async fn save_lasting(self: &Arc<Self>) -> Result<()> {
        let this = self.clone();
        util::blocking(move || this.save_now(Durability::Lasting)).await
    }

    /// The same, at once. Blocks.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn save_now(&self, durability: Durability) -> Result<()> {
        if self.damaged {
            // What is on disk is the user's to repair.
            return Ok(());
        }
        let _one_at_a_time = lock(&self.save);
        let record = self.record();
        record.save(&self.dir, durability)
    }

    /// Saves, and after a failure (a full disk) tries again until it works: where the state of the kernel
    /// has changed already and the caller has no better way to answer.
    pub async fn save_or_warn(self: &Arc<Self>) {
        let Err(error) = self.save().await else { return };
        if self.unsaved.swap(true, Ordering::AcqRel) {
            return;
        }
        tracing::warn!(
            container = self.id,
            error = &error as &dyn std::error::Error,
            "could not save a container's record, trying again"
        );
        let this = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SAVE_RETRY).await;
                let Some(this) = this.upgrade().filter(|c| !c.glance.borrow().removed) else {
                    return;
                };
                // Before the record is read, so that who fails meanwhile is not forgotten.
                this.unsaved.store(false, Ordering::Release);
                if this.save().await.is_ok() {
                    tracing::info!(container = this.id, "saved a container's record at last");
                    return;
                }
                if this.unsaved.swap(true, Ordering::AcqRel) {
                    return;
                }
            }
        });
    }

    /// The json-file log.
    pub fn log_path(&self) -> PathBuf {
        self.dir.join(format!("{}-json.log", self.id))
    }

    /// A file in the container's folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}
