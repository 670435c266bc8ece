use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use skep_sys::files::{self, set_aside};
use skep_types::{Task, TaskId, TaskStatus};
use thiserror::Error;
use tokio::sync::oneshot;

const FILE: &str = "tasks.db";

/// Task id to the task as last assigned, in JSON.
const TASKS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tasks");

/// Task id to its last status, in JSON. Newer than the one inside the task.
const STATUSES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("statuses");

/// Ids of tasks that are assigned; the others are waiting to be removed.
const ASSIGNED: TableDefinition<'_, &str, ()> = TableDefinition::new("assigned");

/// `format`: absent in the first databases.
const META: TableDefinition<'_, &str, u32> = TableDefinition::new("meta");

/// Newest format of the database.
const FORMAT: u32 = 1;

/// The database is small and read once: the default cache would be a thousand times its size.
const CACHE_BYTES: usize = 1 << 20;

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
        "{} has format {format}, made by a newer version of skep; this one knows formats up to {FORMAT}",
        path.display()
    )]
    Newer { path: PathBuf, format: u32 },
    #[error("task {task} in the database cannot be read")]
    Entry {
        task: TaskId,
        #[source]
        source: serde_json::Error,
    },
    #[error("cannot start the thread that writes the database")]
    Thread(#[source] io::Error),
}

impl DatabaseError {
    /// What is on disk is not what should be there, as opposed to a disk that says no.
    fn is_damage(&self) -> bool {
        match self {
            Self::Unusable { source, .. } => {
                !matches!(**source, redb::Error::Io(_))
                // What redb says of a file that is no database, or ends too early.
                || is_nonsense(source)
            }
            Self::Newer { .. } | Self::Entry { .. } => true,
            Self::Open { .. } | Self::Thread(_) => false,
        }
    }
}

fn is_nonsense(error: &redb::Error) -> bool {
    let redb::Error::Io(error) = error else { return false };
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
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
/// Writes are queued and come back at once; a thread commits what has gathered, in order. Losing the
/// last few of them in a crash does no harm: controllers adopt what they find.
#[derive(Debug)]
pub(crate) struct TaskDb {
    queue: Option<mpsc::Sender<Write>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Write {
    Assign(Box<Task>),
    Unassign(TaskId),
    Status(TaskId, Box<TaskStatus>),
    Remove(TaskId),
    Flush(oneshot::Sender<()>),
}

impl TaskDb {
    /// Opens or creates the database in a folder and reads all tasks. Blocks.
    ///
    /// One that cannot be read is set aside and made anew: a manager tells which tasks there are, and what
    /// runs is found again.
    pub(crate) fn open(folder: &Path) -> Result<(Self, Vec<StoredTask>), DatabaseError> {
        match Self::open_whole(folder) {
            Err(error) if error.is_damage() => {
                let path = folder.join(FILE);
                let kept =
                    set_aside(&path).map_err(|source| DatabaseError::Open { path, source })?;
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    kept = %kept.display(),
                    "the task database cannot be read and is made anew"
                );
                Self::open_whole(folder)
            }
            other => other,
        }
    }

    fn open_whole(folder: &Path) -> Result<(Self, Vec<StoredTask>), DatabaseError> {
        let path = folder.join(FILE);
        let open = |source| DatabaseError::Open { path: path.clone(), source };
        files::make_dirs(folder, 0o700).map_err(open)?;
        // Tasks hold registry credentials.
        let file = files::open_own(&path, 0o600).map_err(open)?;
        let unusable =
            |source| DatabaseError::Unusable { path: path.clone(), source: Box::new(source) };
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create_file(file)
            .map_err(|e| unusable(e.into()))?;
        let format = create_tables(&database).map_err(unusable)?;
        if format > FORMAT {
            return Err(DatabaseError::Newer { path, format });
        }
        let rows = read_all(&database).map_err(unusable)?;
        let tasks = rows.into_iter().map(Row::decode).collect::<Result<Vec<_>, _>>()?;
        let (queue, writes) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("task-db".to_owned())
            .spawn(move || write_loop(&database, &writes))
            .map_err(DatabaseError::Thread)?;
        Ok((Self { queue: Some(queue), thread: Some(thread) }, tasks))
    }

    /// Notes a task as assigned, or its newer form. Leaves its status alone.
    pub(crate) fn assign(&self, task: Task) {
        self.push(Write::Assign(Box::new(task)));
    }

    /// Notes that a task is to be removed.
    pub(crate) fn unassign(&self, id: TaskId) {
        self.push(Write::Unassign(id));
    }

    pub(crate) fn status(&self, id: TaskId, status: TaskStatus) {
        self.push(Write::Status(id, Box::new(status)));
    }

    /// Forgets a task whose container is gone.
    pub(crate) fn remove(&self, id: TaskId) {
        self.push(Write::Remove(id));
    }

    /// Returns once everything before is on disk, or the writer has given up.
    pub(crate) async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        self.push(Write::Flush(done));
        // An error means that the writer has ended, which it does only after its last write.
        wait.await.unwrap_or_default();
    }

    fn push(&self, write: Write) {
        let sent = self.queue.as_ref().map(|queue| queue.send(write));
        debug_assert!(matches!(sent, Some(Ok(()))), "the writer lives as long as the database");
    }
}

impl Drop for TaskDb {
    fn drop(&mut self) {
        // Ends the thread's loop after what is queued.
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the task database's writer panicked");
        }
    }
}

struct Row {
    id: String,
    task: Vec<u8>,
    status: Option<Vec<u8>>,
    assigned: bool,
}

impl Row {
    fn decode(self) -> Result<StoredTask, DatabaseError> {
        let entry = |source| DatabaseError::Entry { task: TaskId::new(&self.id), source };
        let mut task: Task = serde_json::from_slice(&self.task).map_err(entry)?;
        if let Some(status) = &self.status {
            task.status = serde_json::from_slice(status).map_err(entry)?;
        }
        Ok(StoredTask { task, assigned: self.assigned })
    }
}

/// The database's format, which is noted if there was none.
fn create_tables(database: &Database) -> Result<u32, redb::Error> {
    let write = database.begin_write()?;
    let format = {
        let mut meta = write.open_table(META)?;
        let found = meta.get("format")?.map(|format| format.value());
        if found.is_none() {
            meta.insert("format", FORMAT)?;
        }
        found.unwrap_or(FORMAT)
    };
    write.open_table(TASKS)?;
    write.open_table(STATUSES)?;
    write.open_table(ASSIGNED)?;
    write.commit()?;
    Ok(format)
}

fn read_all(database: &Database) -> Result<Vec<Row>, redb::Error> {
    let read = database.begin_read()?;
    let (tasks, statuses) = (read.open_table(TASKS)?, read.open_table(STATUSES)?);
    let assigned = read.open_table(ASSIGNED)?;
    let mut rows = Vec::new();
    for entry in tasks.iter()? {
        let (id, task) = entry?;
        rows.push(Row {
            id: id.value().to_owned(),
            task: task.value().to_vec(),
            status: statuses.get(id.value())?.map(|status| status.value().to_vec()),
            assigned: assigned.get(id.value())?.is_some(),
        });
    }
    Ok(rows)
}

fn write_loop(database: &Database, writes: &mpsc::Receiver<Write>) {
    while let Ok(first) = writes.recv() {
        let batch: Vec<Write> = std::iter::once(first).chain(writes.try_iter()).collect();
        let mut tries_left = LAST_TRIES;
        while let Err(error) = commit(database, &batch) {
            let error: &(dyn std::error::Error + 'static) = &error;
            tracing::error!(error, "cannot write the task database");
            // Somebody waits for the flush, so the agent is stopping: do not hold it up for ever.
            if batch.iter().any(|write| matches!(write, Write::Flush(_))) {
                tries_left -= 1;
                if tries_left == 0 {
                    break;
                }
            }
            std::thread::sleep(RETRY);
        }
        for write in batch {
            if let Write::Flush(done) = write {
                // Nobody waiting any more is no error.
                let _ = done.send(());
            }
        }
    }
}

#[derive(Debug, Error)]
enum CommitError {
    #[error("the database refused a write")]
    Database(#[from] redb::Error),
    #[error("cannot encode a task")]
    Encode(#[from] serde_json::Error),
}

fn commit(database: &Database, batch: &[Write]) -> Result<(), CommitError> {
    let write = database.begin_write().map_err(redb::Error::from)?;
    {
        let mut tasks = write.open_table(TASKS).map_err(redb::Error::from)?;
        let mut statuses = write.open_table(STATUSES).map_err(redb::Error::from)?;
        let mut assigned = write.open_table(ASSIGNED).map_err(redb::Error::from)?;
        for change in batch {
            match change {
                Write::Assign(task) => {
                    let bytes = serde_json::to_vec(task)?;
                    let id = task.id.as_str();
                    tasks.insert(id, bytes.as_slice()).map_err(redb::Error::from)?;
                    assigned.insert(id, ()).map_err(redb::Error::from)?;
                }
                Write::Unassign(id) => {
                    assigned.remove(id.as_str()).map_err(redb::Error::from)?;
                }
                Write::Status(id, status) => {
                    let bytes = serde_json::to_vec(status)?;
                    statuses.insert(id.as_str(), bytes.as_slice()).map_err(redb::Error::from)?;
                }
                Write::Remove(id) => {
                    tasks.remove(id.as_str()).map_err(redb::Error::from)?;
                    statuses.remove(id.as_str()).map_err(redb::Error::from)?;
                    assigned.remove(id.as_str()).map_err(redb::Error::from)?;
                }
                Write::Flush(_) => {}
            }
        }
    }
    write.commit().map_err(redb::Error::from)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_types::TaskState;
    use std::fs;

    fn task(id: &str) -> Task {
        Task { id: id.into(), ..Task::default() }
    }

    #[test]
    fn tasks_and_their_last_status_survive() {
        let folder = tempfile::tempdir().unwrap();
        let (db, found) = TaskDb::open(folder.path()).unwrap();
        assert!(found.is_empty());
        db.assign(task("a"));
        db.assign(task("b"));
        db.assign(task("c"));
        db.status("a".into(), TaskStatus { state: TaskState::Running, ..Default::default() });
        db.assign(task("a"));
        db.unassign("b".into());
        db.remove("c".into());
        drop(db);

        let (_db, found) = TaskDb::open(folder.path()).unwrap();
        let found: Vec<_> =
            found.iter().map(|t| (t.task.id.as_str(), t.task.status.state, t.assigned)).collect();
        assert_eq!(found, [("a", TaskState::Running, true), ("b", TaskState::New, false)]);
    }

    #[test]
    fn what_cannot_be_read_is_kept_and_made_anew() {
        let newer = |path: &Path| {
            let database = Database::create(path).unwrap();
            let write = database.begin_write().unwrap();
            write.open_table(META).unwrap().insert("format", FORMAT + 1).unwrap();
            write.commit().unwrap();
        };
        let flipped = |path: &Path| {
            let mut bytes = fs::read(path).unwrap();
            // Past the header with its two commit slots, which are checked against each other.
            for byte in bytes.iter_mut().skip(128).step_by(7) {
                *byte ^= 0x10;
            }
            fs::write(path, bytes).unwrap();
        };
        let other = |path: &Path| fs::write(path, b"not a database at all").unwrap();
        let damages: [&dyn Fn(&Path); 3] = [&newer, &flipped, &other];
        for damage in damages {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(FILE);
            let (db, _) = TaskDb::open(folder.path()).unwrap();
            db.assign(task("a"));
            drop(db);
            damage(&path);
            let (db, found) = TaskDb::open(folder.path()).unwrap();
            assert!(found.is_empty());
            // redb may have written to it before it noticed.
            assert!(
                fs::read(folder.path().join("tasks.db.damaged")).is_ok_and(|kept| !kept.is_empty())
            );
            db.assign(task("b"));
            drop(db);
            assert_eq!(TaskDb::open(folder.path()).unwrap().1.len(), 1);
        }
    }

    #[test]
    fn the_file_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let _db = TaskDb::open(folder.path()).unwrap();
        let mode = fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
