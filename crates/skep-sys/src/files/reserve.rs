//! Room that is kept back for what makes room.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, fallocate};

use super::replace::{Durability, remove_file};

/// Several small files, and on file systems with tables of inodes one of those.
const BYTES: u64 = 64 << 10;

/// A file that takes up room on a disk until that is needed to remove something: most removals note that they
/// happened, and on a full disk they could not.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
}

impl Reserve {
    /// Keeps back what there is, up to 64 KiB, in a file at `path`.
    pub fn keep(path: PathBuf) -> Self {
        let reserve = Self { path };
        reserve.refill();
        reserve
    }

    /// Runs `work`, and once more with the room that was kept back if `is_full` says that there was none. What
    /// `work` has freed is kept back again.
    pub fn for_removal<T, E>(
        &self,
        is_full: impl Fn(&E) -> bool,
        mut work: impl FnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        match work() {
            Err(error) if is_full(&error) => {
                if remove_file(&self.path, Durability::Volatile).is_err() {
                    return Err(error);
                }
                let done = work();
                self.refill();
                done
            }
            done => {
                if done.is_ok() && !self.path.exists() {
                    self.refill();
                }
                done
            }
        }
    }

    /// Takes what room there is; on a disk without any, there is no reserve.
    fn refill(&self) {
        let kept = || -> io::Result<()> {
            let file = File::create(&self.path)?;
            Ok(fallocate(&file, FallocateFlags::empty(), 0, BYTES)?)
        };
        if kept().is_err() {
            let _ = remove_file(&self.path, Durability::Volatile);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::replace;
    use crate::testing::{SmallDisk, Trouble, in_own_mounts};

    #[test]
    fn a_removal_is_noted_on_a_full_disk() {
        let name = "files::reserve::tests::a_removal_is_noted_on_a_full_disk";
        in_own_mounts(name, || {
            let disk = SmallDisk::mount("size=512k,nr_inodes=32");
            let note = disk.path().join("note");
            let write = || replace(&note, &[7; 5000], 0o600, Durability::Lasting);
            let is_full = |error: &io::Error| error.kind() == io::ErrorKind::StorageFull;
            for trouble in [Trouble::Full, Trouble::NoInodes] {
                let reserve = Reserve::keep(disk.path().join("reserve"));
                let _refusing = disk.begin(trouble);
                assert!(is_full(&write().unwrap_err()), "{trouble:?}");
                reserve.for_removal(is_full, write).unwrap();
                // And again, with what the old file took.
                std::fs::remove_file(&note).unwrap();
                reserve.for_removal(is_full, write).unwrap();
                std::fs::remove_file(&note).unwrap();
            }
        });
    }
}
