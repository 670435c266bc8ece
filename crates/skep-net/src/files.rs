//! State files: written aside, renamed into place.

use crate::error::{NetError, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// Whether a file must survive a power failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Synced to disk before the call returns.
    Lasting,
    /// Gone with a reboot anyway.
    Volatile,
}

/// Replaces a file's content; readers see the old or the new, never a mixture.
pub fn replace(path: &Path, content: &[u8], durability: Durability) -> Result<()> {
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| NetError::File { action, path, source }
    };
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    let aside = PathBuf::from(aside);
    let mut file = File::create(&aside).map_err(failed("create", &aside))?;
    file.write_all(content).map_err(failed("write", &aside))?;
    if durability == Durability::Lasting {
        file.sync_all().map_err(failed("sync", &aside))?;
    }
    fs::rename(&aside, path).map_err(failed("rename", path))?;
    if durability == Durability::Lasting
        && let Some(folder) = path.parent()
    {
        File::open(folder).and_then(|f| f.sync_all()).map_err(failed("sync", folder))?;
    }
    Ok(())
}

/// Replaces a file's content with a value as JSON.
pub fn replace_json<T: Serialize>(path: &Path, value: &T, durability: Durability) -> Result<()> {
    let json = serde_json::to_vec(value)
        .map_err(|source| NetError::State { path: path.to_owned(), source })?;
    replace(path, &json, durability)
}

/// Reads a value; `None` when there is no file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(NetError::File { action: "read", path: path.to_owned(), source });
        }
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|source| NetError::State { path: path.to_owned(), source })
}
