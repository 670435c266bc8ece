//! Folders of our own.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, fchmod, mkdirat, openat};
use rustix::io::Errno;

/// Makes one folder, which must not exist, with exactly `mode`.
///
/// # Errors
/// `ErrorKind::AlreadyExists` if there is anything at `path`; nothing is left behind on an error.
pub fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    // Nobody else may look in before the mode is set.
    mkdirat(CWD, path, Mode::from_raw_mode(mode & 0o700))?;
    let exact = || -> io::Result<()> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        let dir = openat(CWD, path, flags, Mode::empty())?;
        Ok(fchmod(&dir, Mode::from_raw_mode(mode))?)
    };
    exact().inspect_err(|_| {
        // The error is the one worth telling; an empty folder that stays is made use of by the next call.
        let _ = std::fs::remove_dir(path);
    })
}

/// Makes a folder and its missing parents, the new ones with exactly `mode`. What exists is left as it is;
/// links on the way are followed, so that a user may keep a folder of ours elsewhere.
///
/// # Errors
/// `ErrorKind::NotADirectory` if a part of the path is something else.
pub fn make_dirs(path: &Path, mode: u32) -> io::Result<()> {
    match make_dir(path, mode) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match path.is_dir() {
            true => Ok(()),
            false => Err(Errno::NOTDIR.into()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => {
                make_dirs(parent, mode)?;
                match make_dir(path, mode) {
                    // Somebody else made it meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {
                        Ok(())
                    }
                    other => other,
                }
            }
            _ => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// Makes a file's content last.
pub fn sync_file(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes what was made, renamed or removed in the folder last.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes a rename, creation or removal of `path` last.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_dir(Path::new(".")),
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn modes_are_exact_and_what_exists_is_left() {
        let temp = tempfile::tempdir().unwrap();
        let old = temp.path().join("old");
        std::fs::create_dir(&old).unwrap();
        std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o700)).unwrap();
        let new = old.join("a/b");
        make_dirs(&new, 0o775).unwrap();
        make_dirs(&new, 0o700).unwrap();
        assert_eq!((mode(&old), mode(&old.join("a")), mode(&new)), (0o700, 0o775, 0o775));
    }

    #[test]
    fn a_file_in_the_way_is_no_folder() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        std::fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("below")] {
            let error = make_dirs(&path, 0o755).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotADirectory, "{}", path.display());
        }
        let error = make_dir(&file, 0o755).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }
}
