//! What is kept about a volume on disk.

use std::collections::HashMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::error::{EngineError, Result};
use crate::util;

/// File name of the record.
pub const FILE: &str = "volume.json";

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// Name.
    pub name: String,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// Driver options.
    #[serde(default)]
    pub options: HashMap<String, String>,
    /// Labels.
    #[serde(default)]
    pub labels: HashMap<String, String>,
}

impl VolumeRecord {
    /// Reads the record in a volume's folder; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read or holds something else.
    pub fn load(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(FILE);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| EngineError::State { path, source }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(EngineError::File { action: "read", path, source }),
        }
    }

    /// Makes the folder; the record goes in last.
    ///
    /// # Errors
    /// When the disk says no; nothing is left then.
    pub fn make(&self, dir: &Path) -> Result<()> {
        let data = dir.join("_data");
        let made = std::fs::DirBuilder::new()
            .mode(0o701)
            .create(dir)
            .map_err(EngineError::file("create", dir))
            .and_then(|()| {
                std::fs::DirBuilder::new()
                    .mode(0o755)
                    .create(&data)
                    .map_err(EngineError::file("create", &data))
            });
        let path = dir.join(FILE);
        let saved = made.and_then(|()| {
            let bytes = serde_json::to_vec(self)
                .map_err(|source| EngineError::State { path: path.clone(), source })?;
            util::replace_file(&path, &bytes, false).map_err(EngineError::file("write", &path))
        });
        if saved.is_err()
            && let Err(error) = std::fs::remove_dir_all(dir)
        {
            tracing::warn!(path = %dir.display(), %error, "could not remove an unfinished volume");
        }
        saved
    }

    /// Nobody named it.
    pub fn is_anonymous(&self) -> bool {
        self.labels.contains_key(super::ANONYMOUS_LABEL)
    }
}
