mod file;
mod pending;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use skep_sys::files;
use skep_types::{Repeated, Task, TaskId, TaskStatus};
use thiserror::Error;
use tokio::sync::oneshot;

use file::{File, Row};
use pending::{Edit, Pending};

const FILE: &str = "tasks.db";

/// Pause before a failed write (a full disk) is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Tries left for a write when the agent stops.
const LAST_TRIES: u32 = 3;

#[derive(Debug, Error)]
pub enum DatabaseError {
    #[error("cannot open {}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not a usable database", path.display())]
    Unusable {
        path: PathBuf,
        #[source]
        source: Box<redb::Error>,
    },
    #[error(
        "{} has format {format}, made by a newer version of skep; this one knows formats up to {}",
        path.display(),
        file::FORMAT
    )]
    Newer { path: PathBuf, format: u32 },
    #[error("task {task} in the database cannot be read")]
    Entry {
        task: TaskId,
        #[source]
        source: serde_json::Error,
    },
    #[error("{} is no file", path.display())]
    NoFile { path: PathBuf },
    #[error("cannot start the thread that writes the database")]
    Thread(#[source] io::Error),
}

impl DatabaseError {
    /// What is on disk is not what should be there, as opposed to a disk that says no.
    fn is_damage(&self) -> bool {
        match self {
            Self::Unusable { source, .. } => {
                use redb::Error;
                matches!(
                    **source,
                    Error::Corrupted(_)
                        | Error::UpgradeRequired(_)
                        | Error::TableTypeMismatch { .. }
                        | Error::TableIsMultimap(_)
                        | Error::TableIsNotMultimap(_)
                        | Error::TypeDefinitionChanged { .. }
                        | Error::TableDoesNotExist(_)
                )
                // What redb says of a file that is no database, or ends too early.
                || is_nonsense(source)
            }
            Self::Newer { .. } | Self::Entry { .. } | Self::NoFile { .. } => true,
            Self::Open { .. } | Self::Thread(_) => false,
        }
    }
}

/// What was begun of a database that could not be made is removed again.
fn is_missing(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn is_nonsense(error: &redb::Error) -> bool {
    let redb::Error::Io(error) = error else { return false };
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

#[derive(Debug, Error)]
enum CommitError {
    #[error("the database cannot be opened again")]
    Open(#[from] DatabaseError),
    #[error("the database refused a write")]
    Database(#[from] redb::Error),
    #[error("cannot encode a task")]
    Encode(#[from] serde_json::Error),
}

/// A task as it was found on disk.
#[derive(Debug)]
pub(crate) struct StoredTask {
    /// With its last status.
    pub task: Task,
    pub assigned: bool,
}

/// This node's tasks on disk.
///
/// Writes come back at once; a thread commits what has gathered, and tries again when it cannot. Losing
/// the last few of them in a crash does no harm: controllers adopt what they find.
#[derive(Debug)]
pub(crate) struct TaskDb {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    edits: Pending,
    flushes: Vec<oneshot::Sender<()>>,
    closed: bool,
}

impl TaskDb {
    /// Opens or creates the database in a folder and reads all tasks. Blocks.
    ///
    /// One that cannot be read is set aside and made anew: a manager tells which tasks there are, and what
    /// runs is found again. Where the disk has no room for a new one, or takes no change, it is made with the
    /// first write that succeeds.
    pub(crate) fn open(folder: &Path) -> Result<(Self, Vec<StoredTask>), DatabaseError> {
        let path = folder.join(FILE);
        match Self::open_whole(folder) {
            Ok((file, tasks)) => Self::start(file, tasks),
            Err(error) if error.is_damage() || is_missing(&path) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "the task database cannot be used and is made anew");
                let file = File::anew(&path).unwrap_or_else(|error| {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "the task database is made when the disk takes it");
                    File::to_be_made(&path)
                });
                Self::start(file, Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    fn open_whole(folder: &Path) -> Result<(File, Vec<StoredTask>), DatabaseError> {
        let path = folder.join(FILE);
        let open = |source| DatabaseError::Open { path: path.clone(), source };
        match std::fs::symlink_metadata(&path) {
            Ok(found) if !found.is_file() => return Err(DatabaseError::NoFile { path }),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                files::make_dirs(folder, 0o700).map_err(open)?;
            }
            Err(error) => return Err(open(error)),
        }
        let file = File::open(&path)?;
        let rows = file.rows()?;
        let tasks = rows.into_iter().map(Row::decode).collect::<Result<Vec<_>, _>>()?;
        Ok((file, tasks))
    }

    fn start(file: File, tasks: Vec<StoredTask>) -> Result<(Self, Vec<StoredTask>), DatabaseError> {
        let queue = Arc::new(Queue::default());
        let writer = Writer {
            queue: queue.clone(),
            file,
            on_disk: tasks.iter().map(|stored| stored.task.id.clone()).collect(),
            trouble: Repeated::default(),
        };
        let thread = std::thread::Builder::new()
            .name("task-db".to_owned())
            .spawn(move || writer.run())
            .map_err(DatabaseError::Thread)?;
        Ok((Self { queue, thread: Some(thread) }, tasks))
    }

    /// Notes a task as assigned, or its newer form. Leaves its status alone.
    pub(crate) fn assign(&self, task: Task) {
        let id = task.id.clone();
        let (task, assigned) = (Some(Box::new(task)), Some(true));
        self.push(id, Edit { task, assigned, ..Edit::default() });
    }

    /// Notes that a task is to be removed.
    pub(crate) fn unassign(&self, id: TaskId) {
        self.push(id, Edit { assigned: Some(false), ..Edit::default() });
    }

    pub(crate) fn status(&self, id: TaskId, status: TaskStatus) {
        self.push(id, Edit { status: Some(Box::new(status)), ..Edit::default() });
    }

    /// Forgets a task whose container is gone.
    pub(crate) fn remove(&self, id: TaskId) {
        self.push(id, Edit { forget: true, ..Edit::default() });
    }

    /// Returns once everything before is on disk, or the writer has given up.
    pub(crate) async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        self.queue.lock().flushes.push(done);
        self.queue.changed.notify_one();
        // An error means that the writer has ended, which it does only after its last write.
        wait.await.unwrap_or_default();
    }

    fn push(&self, id: TaskId, edit: Edit) {
        self.queue.lock().edits.add(id, edit);
        self.queue.changed.notify_one();
    }
}

impl Drop for TaskDb {
    fn drop(&mut self) {
        // Ends the thread's loop after what waits.
        self.queue.lock().closed = true;
        self.queue.changed.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the task database's writer panicked");
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Every critical section leaves it whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Row {
    fn decode(self) -> Result<StoredTask, DatabaseError> {
        let entry = |source| DatabaseError::Entry { task: TaskId::new(self.id.as_str()), source };
        let mut task: Task = serde_json::from_slice(&self.task).map_err(entry)?;
        if let Some(status) = &self.status {
            task.status = serde_json::from_slice(status).map_err(entry)?;
        }
        Ok(StoredTask { task, assigned: self.assigned })
    }
}

/// The thread that writes.
struct Writer {
    queue: Arc<Queue>,
    file: File,
    on_disk: BTreeSet<TaskId>,
    trouble: Repeated,
}

impl Writer {
    fn run(mut self) {
        let queue = self.queue.clone();
        let mut tries_left = LAST_TRIES;
        loop {
            let mut waiting = queue.lock();
            while waiting.edits.is_empty() && waiting.flushes.is_empty() && !waiting.closed {
                waiting = queue.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            let edits = waiting.edits.take(&self.on_disk);
            let mut flushes = std::mem::take(&mut waiting.flushes);
            let closed = waiting.closed;
            drop(waiting);
            if edits.is_empty() || self.write(&edits) {
                tries_left = LAST_TRIES;
                flushes.into_iter().for_each(tell);
                if closed && queue.lock().edits.is_empty() {
                    return;
                }
                continue;
            }
            queue.lock().edits.put_back(edits);
            // Somebody waits, so the agent is stopping: do not hold it up for ever.
            if closed || !flushes.is_empty() {
                tries_left = tries_left.saturating_sub(1);
                if tries_left == 0 {
                    flushes.drain(..).for_each(tell);
                    if closed {
                        return;
                    }
                }
            }
            queue.lock().flushes.append(&mut flushes);
            std::thread::sleep(RETRY);
        }
    }

    /// True if it is on disk.
    fn write(&mut self, edits: &BTreeMap<TaskId, Edit>) -> bool {
        match self.file.commit(edits) {
            Ok(()) => {
                for (id, edit) in edits {
                    if edit.task.is_some() {
                        self.on_disk.insert(id.clone());
                    } else if edit.forget {
                        self.on_disk.remove(id);
                    }
                }
                if let Some(failures) = self.trouble.succeeded() {
                    tracing::info!(failures, "the task database is written again");
                }
                true
            }
            Err(error) => {
                let reason = skep_types::report(&error);
                if let Some(failures) = self.trouble.failed(Instant::now(), &reason) {
                    tracing::error!(error = reason, failures, "cannot write the task database");
                }
                false
            }
        }
    }
}

/// Nobody waiting any more is no error.
fn tell(done: oneshot::Sender<()>) {
    let _ = done.send(());
}
