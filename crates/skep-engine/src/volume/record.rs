//! What is kept about a volume on disk.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use skep_sys::files::{self, Durability};
use skep_types::stored;
use time::OffsetDateTime;

use crate::error::{EngineError, Result};

/// File name of the record.
pub const FILE: &str = "volume.json";
/// Folder of the content.
pub const DATA: &str = "_data";

/// Newest format of the record.
const FORMAT: u32 = 1;

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
    /// Why its record cannot be read; options and labels are not known then.
    #[serde(skip)]
    pub damage: Option<String>,
}

impl VolumeRecord {
    /// What is known of the volume in a folder. One without a record is a plain volume, as one that somebody
    /// copied here is. `None` when there is neither a record nor content, or a link: no volume.
    ///
    /// # Errors
    /// When the folder cannot be looked at.
    pub fn load(dir: &Path, name: &str) -> Result<Option<Self>> {
        if !std::fs::symlink_metadata(dir).is_ok_and(|meta| meta.is_dir()) {
            return Ok(None);
        }
        let path = dir.join(FILE);
        let damage = match files::read_own(&path, 0o600) {
            Ok(Some(bytes)) => match stored::decode::<Self>(FORMAT, &bytes) {
                // The folder's name is the volume's: a copy of a volume is one of its own.
                Ok(record) => return Ok(Some(Self { name: name.to_owned(), ..record })),
                Err(source) => Some(EngineError::State { path, source }.report()),
            },
            Ok(None) if !dir.join(DATA).is_dir() => return Ok(None),
            Ok(None) => None,
            Err(source) => Some(EngineError::File { action: "read", path, source }.report()),
        };
        let meta = std::fs::metadata(dir).map_err(EngineError::file("look at", dir))?;
        let created = meta.modified().map_err(EngineError::file("look at", dir))?.into();
        let (options, labels) = Default::default();
        Ok(Some(Self { name: name.to_owned(), created, options, labels, damage }))
    }

    /// Writes the record; it and the folder's content are on disk then.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let path = dir.join(FILE);
        stored::encode(FORMAT, self)
            .map_err(std::io::Error::from)
            .and_then(|bytes| files::replace(&path, &bytes, 0o600, Durability::Volatile))
            // Together; most file systems write once for all.
            .and_then(|()| files::sync_file(&path))
            .and_then(|()| files::sync_dir(&dir.join(DATA)))
            .and_then(|()| files::sync_dir(dir))
            .map_err(EngineError::file("write", path))
    }

    /// Makes a new folder with everything in it, on disk but for its name.
    ///
    /// # Errors
    /// When the disk says no; nothing is left then.
    pub fn make(&self, dir: &Path) -> Result<()> {
        files::make_dir(dir, 0o701).map_err(EngineError::file("create", dir))?;
        let made = self.add_data(dir).and_then(|()| self.save(dir));
        if made.is_err() {
            super::clear(dir);
        }
        made
    }

    /// Makes the content's folder if it is not there.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn add_data(&self, dir: &Path) -> Result<()> {
        let data = dir.join(DATA);
        files::make_dirs(&data, 0o755).map_err(EngineError::file("create", data))
    }

    /// What to tell about it if it is damaged.
    pub fn damaged(&self) -> Option<String> {
        self.damage.as_ref().map(|damage| format!("volume {} is damaged: {damage}", self.name))
    }

    /// Whether it is a mount of its own.
    pub fn is_mount(&self) -> bool {
        super::mount::needed(&self.options)
    }

    /// Nobody named it.
    pub fn is_anonymous(&self) -> bool {
        self.labels.contains_key(super::ANONYMOUS_LABEL)
    }
}
