//! Folders that are ours alone.

use std::io;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, fchmod, fstat, openat};

use super::dir::make_dirs;
use super::replace::remove_leftovers;

/// As [`make_dirs`], for a folder that is ours alone, at the start: one that exists gets exactly `mode`, too,
/// and what a crash left of [`super::replace()`] in it goes.
pub fn own_dir(path: &Path, mode: u32) -> io::Result<()> {
    dir_of_mode(path, mode)?;
    match remove_leftovers(path) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(()),
        done => done,
    }
}

/// As [`make_dirs`], for a folder that users put things into: one that exists gets exactly `mode`, too, and
/// what is in it stays, whatever its name.
pub fn dir_of_mode(path: &Path, mode: u32) -> io::Result<()> {
    make_dirs(path, mode)?;
    let dir =
        openat(CWD, path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    // Nothing is written that is right already: the folder may be on a disk that takes no writes.
    if fstat(&dir)?.st_mode & 0o7777 != mode {
        fchmod(&dir, Mode::from_raw_mode(mode))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_exists_gets_the_mode_and_loses_what_a_crash_left() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a/b");
        make_dirs(&dir, 0o775).unwrap();
        std::fs::write(dir.join("state.json.7.new"), "half").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        dir_of_mode(&dir, 0o700).unwrap();
        assert_eq!((mode(&dir), std::fs::read_dir(&dir).unwrap().count()), (0o700, 1));
        own_dir(&dir, 0o711).unwrap();
        assert_eq!((mode(&temp.path().join("a")), mode(&dir)), (0o775, 0o711));
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
    }
}
