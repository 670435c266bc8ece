//! The `json-file` log: Docker's format on disk, written by the shim, read by the daemon.
//!
//! One JSON object per line: `{"log":"…\n","stream":"stdout","time":"…"}` (and `attrs`, if any). A
//! line of output longer than 16 KiB is several entries, of which only the last has the newline.

mod cursor;
mod entry;
mod files;
mod stream;
mod watcher;
mod writer;

pub use entry::LogEntry;
pub use stream::{Follow, LogStream, ReadOptions, read};
pub use watcher::LogWatcher;
pub(crate) use writer::{Lines, Writer};

use std::io;
use std::path::PathBuf;

/// A log could not be read (further).
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("could not read log {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not watch log {path}")]
    Watch {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}
