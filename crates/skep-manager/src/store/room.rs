use std::path::PathBuf;
use std::time::Instant;

use skep_sys::files::check_room;
use skep_types::Repeated;

use super::WriteError;

/// What has to be free before anything is written: several of the largest entries, so that what is begun
/// can be finished, and an election is possible on a disk that is full but for that.
const LEAST_BYTES: u64 = 4 << 20;

/// Whether the disk of the raft log takes writes.
///
/// Asked before an entry is made, for a write that fails inside raft ends it: the log's promise to raft is
/// broken, and the manager has to be started anew.
pub(crate) struct Room {
    folder: PathBuf,
    trouble: Repeated,
}

impl Room {
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, trouble: Repeated::default() }
    }

    /// Asks the file system now.
    pub fn check(&mut self) -> Result<(), WriteError> {
        let Err(error) = check_room(&self.folder, LEAST_BYTES) else {
            if let Some(refused) = self.trouble.succeeded() {
                tracing::info!(refused, "the swarm's state can be written again");
            }
            return Ok(());
        };
        let reason = skep_types::errno_text(&error);
        let folder = self.folder.display().to_string();
        if let Some(refused) = self.trouble.failed(Instant::now(), &reason) {
            tracing::error!(folder, reason, refused, "the swarm's state cannot be written");
        }
        Err(WriteError::Disk { folder, reason })
    }
}
