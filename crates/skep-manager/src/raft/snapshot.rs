use std::io::{self, Cursor};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use skep_sys::files::{self, Durability};
use skep_types::stored;
use thiserror::Error;

use super::layout;
use super::seal::{SealError, Sealer};
use super::types::{Snapshot, SnapshotMeta};

/// Newest format of the file.
const FORMAT: u32 = 1;
const PLACE: &[u8] = b"skep raft snapshot";

/// Why the snapshot on disk could not be used.
#[derive(Debug, Error)]
pub enum SnapshotError {
    #[error("cannot {action} the raft snapshot {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the raft snapshot {} cannot be opened", path.display())]
    Seal {
        path: PathBuf,
        #[source]
        source: SealError,
    },
    #[error("the raft snapshot {} is not valid", path.display())]
    Format {
        path: PathBuf,
        #[source]
        source: stored::Unreadable,
    },
}

/// The one snapshot kept, in one sealed file that is replaced as a whole.
#[derive(Clone)]
pub(crate) struct SnapshotFile {
    path: Arc<Path>,
    sealer: Arc<Sealer>,
}

#[derive(Serialize, Deserialize)]
struct Content {
    meta: layout::SnapshotMeta,
    /// JSON of the store.
    store: String,
}

impl SnapshotFile {
    pub fn new(path: &Path, sealer: Arc<Sealer>) -> Self {
        Self { path: path.into(), sealer }
    }

    fn io(&self, action: &'static str) -> impl FnOnce(io::Error) -> SnapshotError {
        let path = self.path.to_path_buf();
        move |source| SnapshotError::Io { action, path, source }
    }

    fn format(&self, source: stored::Unreadable) -> SnapshotError {
        SnapshotError::Format { path: self.path.to_path_buf(), source }
    }

    /// Blocks. `store` is JSON.
    pub fn save(&self, meta: &SnapshotMeta, store: String) -> Result<(), SnapshotError> {
        let content = Content { meta: meta.into(), store };
        let plain = stored::encode(FORMAT, &content)
            .map_err(|e| self.format(stored::Unreadable::Damaged(e)))?;
        let sealed = self
            .sealer
            .seal(PLACE, &plain)
            .map_err(|source| SnapshotError::Seal { path: self.path.to_path_buf(), source })?;
        files::replace(&self.path, &sealed, 0o600, Durability::Lasting).map_err(self.io("write"))
    }

    /// Blocks. `None` if there is none yet.
    pub fn load(&self) -> Result<Option<Snapshot>, SnapshotError> {
        // As large as the swarm.
        let sealed = match files::read_at_most(&self.path, u64::MAX) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(e) => return Err(self.io("read")(e)),
        };
        let plain = self
            .sealer
            .open(PLACE, &sealed)
            .map_err(|source| SnapshotError::Seal { path: self.path.to_path_buf(), source })?;
        let content: Content = stored::decode(FORMAT, &plain).map_err(|e| self.format(e))?;
        let snapshot = Box::new(Cursor::new(content.store.into_bytes()));
        Ok(Some(Snapshot { meta: content.meta.into(), snapshot }))
    }
}
