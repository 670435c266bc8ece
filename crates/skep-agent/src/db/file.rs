//! The database file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError};
use skep_sys::files;
use skep_types::TaskId;

use super::pending::Edit;
use super::{CommitError, DatabaseError};

/// Task id to the task as last assigned, in JSON.
const TASKS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tasks");

/// Task id to its last status, in JSON. Newer than the one inside the task.
const STATUSES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("statuses");

/// Ids of tasks that are assigned; the others are waiting to be removed.
const ASSIGNED: TableDefinition<'_, &str, ()> = TableDefinition::new("assigned");

/// `format`: absent in the first databases.
pub(super) const META: TableDefinition<'_, &str, u32> = TableDefinition::new("meta");

/// Newest format of the database.
pub(super) const FORMAT: u32 = 1;

/// The database is small and read once: the default cache would be a thousand times its size.
const CACHE_BYTES: usize = 1 << 20;

/// The file, opened anew after each failure: once a write has failed, redb refuses all others.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    database: Option<Database>,
}

pub(super) struct Row {
    pub id: String,
    pub task: Vec<u8>,
    pub status: Option<Vec<u8>>,
    pub assigned: bool,
}

impl File {
    /// Opens or makes the file. One that is there is not written to, so that it can be read when there is
    /// no room.
    pub(super) fn open(path: &Path) -> Result<Self, DatabaseError> {
        Ok(Self { path: path.to_owned(), database: Some(open(path)?) })
    }

    /// Sets aside what is there and cannot be used, and makes the file.
    pub(super) fn anew(path: &Path) -> Result<Self, DatabaseError> {
        Ok(Self { path: path.to_owned(), database: Some(open_anew(path, true)?) })
    }

    /// One that is made with the first write.
    pub(super) fn to_be_made(path: &Path) -> Self {
        Self { path: path.to_owned(), database: None }
    }

    pub(super) fn rows(&self) -> Result<Vec<Row>, DatabaseError> {
        let unusable = |source: redb::Error| unusable(&self.path, source);
        match &self.database {
            Some(database) => read_all(database).map_err(unusable),
            None => Err(unusable(redb::Error::PreviousIo)),
        }
    }

    /// Writes all edits or none.
    pub(super) fn commit(&mut self, edits: &BTreeMap<TaskId, Edit>) -> Result<(), CommitError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => open_anew(&self.path, false)?,
        };
        commit(&database, edits)?;
        self.database = Some(database);
        Ok(())
    }
}

fn unusable(path: &Path, source: redb::Error) -> DatabaseError {
    DatabaseError::Unusable { path: path.to_owned(), source: Box::new(source) }
}

/// Opens or makes the file. Something that cannot be used, as `unusable` says or is found, is set aside first.
fn open_anew(path: &Path, unusable: bool) -> Result<Database, DatabaseError> {
    let failed = |source| DatabaseError::Open { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        files::make_dirs(folder, 0o700).map_err(failed)?;
    }
    let unusable = match open(path) {
        Ok(database) if !unusable => return Ok(database),
        Ok(_) => true,
        Err(error) => error.is_damage() || unusable,
    };
    if unusable && std::fs::symlink_metadata(path).is_ok() {
        let kept = files::set_aside(path).map_err(failed)?;
        tracing::error!(kept = %kept.display(), "what was in the task database's place is set aside");
    }
    open(path)
}

/// What was begun of one that could not be made goes again: it would be taken for a damaged one.
fn open(path: &Path) -> Result<Database, DatabaseError> {
    let made = std::fs::symlink_metadata(path).is_err();
    open_file(path).inspect_err(|_| {
        if made {
            let _ = files::remove_file(path, files::Durability::Volatile);
        }
    })
}

fn open_file(path: &Path) -> Result<Database, DatabaseError> {
    let unusable = |source: redb::Error| unusable(path, source);
    // Tasks hold registry credentials.
    let file = files::open_own(path, 0o600)
        .map_err(|source| DatabaseError::Open { path: path.to_owned(), source })?;
    let database = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create_file(file)
        .map_err(|e| unusable(e.into()))?;
    match found(&database).map_err(unusable)? {
        Found::Nothing => create_tables(&database).map_err(unusable)?,
        Found::Format(format) if format > FORMAT => {
            return Err(DatabaseError::Newer { path: path.to_owned(), format });
        }
        Found::Format(_) => {}
    }
    Ok(database)
}

enum Found {
    Nothing,
    Format(u32),
}

fn found(database: &Database) -> Result<Found, redb::Error> {
    let read = database.begin_read()?;
    let format = match read.open_table(META) {
        Ok(meta) => meta.get("format")?.map(|format| format.value()),
        Err(TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(error.into()),
    };
    // Tables are made in one transaction.
    match (format, read.open_table(TASKS)) {
        (Some(format), _) => Ok(Found::Format(format)),
        // The format is noted with the next write.
        (None, Ok(_)) => Ok(Found::Format(0)),
        (None, Err(TableError::TableDoesNotExist(_))) => Ok(Found::Nothing),
        (None, Err(error)) => Err(error.into()),
    }
}

fn create_tables(database: &Database) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    write.open_table(META)?.insert("format", FORMAT)?;
    write.open_table(TASKS)?;
    write.open_table(STATUSES)?;
    write.open_table(ASSIGNED)?;
    write.commit()?;
    Ok(())
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

fn commit(database: &Database, edits: &BTreeMap<TaskId, Edit>) -> Result<(), CommitError> {
    let write = database.begin_write().map_err(redb::Error::from)?;
    {
        let mut meta = write.open_table(META).map_err(redb::Error::from)?;
        meta.insert("format", FORMAT).map_err(redb::Error::from)?;
        let mut tasks = write.open_table(TASKS).map_err(redb::Error::from)?;
        let mut statuses = write.open_table(STATUSES).map_err(redb::Error::from)?;
        let mut assigned = write.open_table(ASSIGNED).map_err(redb::Error::from)?;
        for (id, edit) in edits {
            let id = id.as_str();
            if edit.forget {
                tasks.remove(id).map_err(redb::Error::from)?;
                statuses.remove(id).map_err(redb::Error::from)?;
                assigned.remove(id).map_err(redb::Error::from)?;
            }
            if let Some(task) = &edit.task {
                let bytes = serde_json::to_vec(task)?;
                tasks.insert(id, bytes.as_slice()).map_err(redb::Error::from)?;
            }
            if let Some(status) = &edit.status {
                let bytes = serde_json::to_vec(status)?;
                statuses.insert(id, bytes.as_slice()).map_err(redb::Error::from)?;
            }
            match edit.assigned {
                Some(true) => drop(assigned.insert(id, ()).map_err(redb::Error::from)?),
                Some(false) => drop(assigned.remove(id).map_err(redb::Error::from)?),
                None => {}
            }
        }
    }
    write.commit().map_err(redb::Error::from)?;
    Ok(())
}
