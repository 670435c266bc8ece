//! State files, with this crate's errors.

use crate::error::{NetError, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use skep_types::stored;
use std::path::{Path, PathBuf};

pub use skep_sys::files::Durability;
use skep_sys::files::{self, own_dir};

/// Newest format of the state files.
const FORMAT: u32 = 1;

/// A folder of ours that only root may look into.
pub fn own_folder(path: &Path) -> Result<()> {
    own_dir(path, 0o700).map_err(failed("make folder", path))
}

/// Replaces a file's content with a value as JSON; readers see the old or the new, never a mixture.
pub fn replace_json<T: Serialize>(path: &Path, value: &T, durability: Durability) -> Result<()> {
    let json = stored::encode(FORMAT, value).map_err(|source| NetError::State {
        path: path.to_owned(),
        source: stored::Unreadable::Damaged(source),
    })?;
    files::replace(path, &json, 0o600, durability).map_err(failed("write", path))
}

/// Reads a value; `None` when there is no file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(bytes) = files::read(path).map_err(failed("read", path))? else { return Ok(None) };
    stored::decode(FORMAT, &bytes)
        .map(Some)
        .map_err(|source| NetError::State { path: path.to_owned(), source })
}

/// Reads a state file that can be done without.
pub fn read_or_set_aside<T: DeserializeOwned>(file: &Path) -> Option<T> {
    read_json(file).unwrap_or_else(|error| {
        set_aside(file, &error);
        None
    })
}

/// Renames a state file that cannot be read, and says so. Where it is then: where it was, if the disk takes no
/// change.
pub fn set_aside(file: &Path, error: &NetError) -> PathBuf {
    let error = error as &dyn std::error::Error;
    match files::set_aside(file) {
        Ok(kept) => {
            tracing::error!(error, kept = %kept.display(), "a state file cannot be read and is set aside");
            kept
        }
        Err(refused) => {
            let refused = &refused as &dyn std::error::Error;
            tracing::error!(error, refused, kept = %file.display(), "a state file cannot be read");
            file.to_owned()
        }
    }
}

/// Sets a state file aside that cannot be read, before another is written in its place.
pub fn keep_unreadable<T: DeserializeOwned>(file: &Path) -> Result<()> {
    match read_json::<T>(file) {
        Ok(_) => Ok(()),
        Err(_) => files::set_aside(file).map(drop).map_err(failed("set aside", file)),
    }
}

/// This boot of the host: what is in the kernel is gone with the next.
pub fn boot_id() -> Result<String> {
    let path = PathBuf::from("/proc/sys/kernel/random/boot_id");
    std::fs::read_to_string(&path).map_err(|source| NetError::File { action: "read", path, source })
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> NetError {
    let path = path.to_owned();
    move |source| NetError::File { action, path, source }
}
