//! Names that change hands.

use std::io;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// Renames a file or folder to a name that is free: what was prepared aside appears whole.
///
/// # Errors
/// `ErrorKind::AlreadyExists` if there is anything at `to`, also an empty folder, which a plain rename would
/// replace. Both are then as they were.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that has no such rename; between the two calls only root could come.
        Err(Errno::INVAL | Errno::NOSYS) => match std::fs::symlink_metadata(to) {
            Ok(_) => Err(Errno::EXIST.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => std::fs::rename(from, to),
            Err(error) => Err(error),
        },
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_free_name_is_taken() {
        let temp = tempfile::tempdir().unwrap();
        let [new, taken, free] = ["new", "taken", "free"].map(|name| temp.path().join(name));
        for dir in [&new, &taken] {
            std::fs::create_dir(dir).unwrap();
        }
        let error = rename_new(&new, &taken).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        rename_new(&new, &free).unwrap();
        assert!(!new.exists() && taken.is_dir() && free.is_dir());
    }
}
