//! Small files that are whole or absent.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, Mode, OFlags, fchmod, openat};

use super::dir::sync_parent;

/// What a file must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A crash of the host: file and folder are on disk before the call returns.
    Lasting,
    /// The end of this process only: what a reboot takes anyway, or what can be made anew.
    Volatile,
}

/// Puts `bytes` at `path` with exactly `mode`: readers and a crash see the old file or the new one, never a
/// mixture. A link at `path` is replaced, not followed.
///
/// # Errors
/// Those of writing beside `path` and of renaming. The old file is then as it was, and the new one's remains
/// are removed; only if syncing the folder fails, the new one is in place.
pub fn replace(path: &Path, bytes: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
    let aside = aside(path)?;
    let written = write(&aside, bytes, mode, durability).and_then(|()| fs::rename(&aside, path));
    if let Err(error) = written {
        // On a full disk the half-written file is what others need the room of.
        let _ = fs::remove_file(&aside);
        return Err(error);
    }
    match durability {
        Durability::Lasting => sync_parent(path),
        Durability::Volatile => Ok(()),
    }
}

/// Removes a file or link; nothing happens if it is not there.
pub fn remove_file(path: &Path, durability: Durability) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A read-only disk is said before it is looked whether there is anything.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            match fs::symlink_metadata(path) {
                Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            }
        }
        Err(error) => Err(error),
        Ok(()) if durability == Durability::Lasting => sync_parent(path),
        Ok(()) => Ok(()),
    }
}

/// Removes what a crash left of [`replace`] in a folder. Nobody may be replacing files there meanwhile.
/// Nothing happens if there is no folder.
pub fn remove_leftovers(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if is_aside(&entry.file_name()) && !entry.file_type()?.is_dir() {
            remove_file(&entry.path(), Durability::Volatile)?;
        }
    }
    Ok(())
}

/// A name beside `path` that no other call of this process uses. It ends in `.new`, and begins with the name
/// that it is for, so that what a crash leaves is known for what it is.
fn aside(path: &Path) -> io::Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut aside = OsString::from(name);
    aside.push(format!(".{}.new", NEXT.fetch_add(1, Ordering::Relaxed)));
    Ok(path.with_file_name(aside))
}

/// Whether [`aside`] makes such names.
fn is_aside(name: &OsStr) -> bool {
    let parts =
        name.as_encoded_bytes().strip_suffix(b".new").map(|name| name.rsplitn(2, |b| *b == b'.'));
    let Some(mut parts) = parts else { return false };
    let number = parts.next().is_some_and(|n| !n.is_empty() && n.iter().all(u8::is_ascii_digit));
    number && parts.next().is_some_and(|name| !name.is_empty())
}

fn write(path: &Path, bytes: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
    // What a crash left at this name may have another mode, or be somebody's link.
    remove_file(path, Durability::Volatile)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, Mode::from_raw_mode(mode & 0o600))?;
    fchmod(&file, Mode::from_raw_mode(mode))?;
    let mut file = File::from(file);
    file.write_all(bytes)?;
    match durability {
        Durability::Lasting => file.sync_all(),
        Durability::Volatile => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::read;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn a_file_is_replaced_with_its_mode() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("state.json");
        for (text, mode) in [("one", 0o644), ("two", 0o600)] {
            replace(&path, text.as_bytes(), mode, Durability::Lasting).unwrap();
            assert_eq!(read(&path).unwrap().as_deref(), Some(text.as_bytes()));
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
        }
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
        remove_file(&path, Durability::Lasting).unwrap();
        remove_file(&path, Durability::Lasting).unwrap();
        assert_eq!(read(&path).unwrap(), None);
    }

    #[test]
    fn what_a_crash_left_goes_and_nothing_else() {
        let temp = tempfile::tempdir().unwrap();
        let aside = aside(&temp.path().join("state.json")).unwrap();
        fs::write(&aside, "half").unwrap();
        for name in ["state.json", "state.json.new", "x.1.news", ".1.new", "x.1a.new", "x..new"] {
            fs::write(temp.path().join(name), "").unwrap();
        }
        fs::create_dir(temp.path().join("folder.1.new")).unwrap();
        remove_leftovers(temp.path()).unwrap();
        assert!(!aside.exists());
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 7);
        remove_leftovers(&temp.path().join("none")).unwrap();
    }

    #[test]
    fn a_link_is_replaced_and_its_target_left() {
        let temp = tempfile::tempdir().unwrap();
        let (target, path) = (temp.path().join("target"), temp.path().join("link"));
        fs::write(&target, "keep").unwrap();
        symlink(&target, &path).unwrap();
        replace(&path, b"new", 0o600, Durability::Volatile).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"keep");
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file_and_nothing_else() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("in-the-way");
        fs::create_dir_all(path.join("content")).unwrap();
        replace(&path, b"new", 0o600, Durability::Lasting).unwrap_err();
        assert!(path.join("content").is_dir());
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
    }
}
